import { createHash } from "node:crypto";
import { createServer, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import { openCupboard, until, type RealCupboard } from "./real-cupboard.ts";

/** Two nodes, a hub between them and the address, and an address that counts who asks. */

let real: RealCupboard;
let origin: Server;
let base: string;
const asked: string[] = [];
const program = `#!/bin/sh\necho "version $1 of the program"\n#${"x".repeat(400_000)}\n`;
const bodies: Record<string, string> = {};
const sha256 = (text: string): string => createHash("sha256").update(text).digest("hex");

beforeAll(async () => {
  real = await openCupboard("dl", ["n1", "n2"], join(import.meta.dirname, "cluster"));
  origin = createServer((request, response) => {
    asked.push(request.url ?? "");
    const body = bodies[request.url ?? ""];
    if (body === undefined) response.writeHead(404).end();
    else response.end(body);
  });
  await new Promise<void>((resolve) => origin.listen(0, real.lab.hostAddress, resolve));
  base = `http://${real.lab.hostAddress}:${(origin.address() as AddressInfo).port}`;
});
afterAll(async () => {
  origin?.close();
  await real?.close();
});

const role = (sha: string, url = "/tool"): Readonly<Record<string, string>> => ({
  "roles/tool.yaml": `downloads:\n  /usr/local/bin/tool:\n    url: ${base}${url}\n    sha256: ${sha}\n`,
  "nodes/n1.yaml": `address: ${real.lab.address("n1")}\nroles: [tool]\n`,
  "nodes/n2.yaml": `address: ${real.lab.address("n2")}\nroles: [tool]\nfiles:\n  /etc/beside: "still converges\\n"\n`,
});
const runs = async (node: string): Promise<string> => (await real.lab.exec(node, ["/usr/local/bin/tool", "1"])).stdout.trim();

test("a program is fetched once from its address, by the hub, and runs on both nodes", async () => {
  bodies["/tool"] = program;
  await real.cupboard.push(role(sha256(program)));
  await real.cupboard.waitConverged();
  expect(await Promise.all(["n1", "n2"].map(runs))).toEqual(["version 1 of the program", "version 1 of the program"]);
  expect(asked).toEqual(["/tool"]);
});

test("overwritten by hand, it comes back; nobody has to be asked but the hub", async () => {
  await real.lab.writeFile("n1", "/usr/local/bin/tool", "#!/bin/sh\necho mine\n", 0o755);
  await until("the program to be back", () => runs("n1"), (said) => said === "version 1 of the program");
  expect(asked).toEqual(["/tool"]);
});

test("a wrong sum changes nothing, is said, and holds up nothing else", async () => {
  bodies["/tool2"] = "not what was promised";
  await real.cupboard.push({ ...role(sha256("what was promised"), "/tool2"), "nodes/n2.yaml": `address: ${real.lab.address("n2")}\nroles: [tool]\nfiles:\n  /etc/beside: "changed\\n"\n` });
  const n2 = await until("the node to say so", () => real.cupboard.node("n2"), (node) => JSON.stringify(node).includes("has the sum"));
  expect(JSON.stringify(n2)).toContain(sha256("not what was promised"));
  expect(await runs("n2")).toBe("version 1 of the program");
  expect((await real.lab.exec("n2", ["cat", "/etc/beside"])).stdout).toBe("changed\n");
});

test("taken out of the repository, it goes, and the part that was left goes with it", async () => {
  await real.cupboard.push({ "roles/tool.yaml": "packages: {}\n" });
  await real.cupboard.waitConverged();
  expect((await real.lab.shell("n1", "ls -A /usr/local/bin")).stdout.split("\n").filter((name) => name.includes("tool"))).toEqual([]);
});
