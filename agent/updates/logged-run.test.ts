import { spawn } from "node:child_process";
import { mkdtemp, readFile, rm, stat } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { once } from "node:events";
import { afterEach, beforeEach, expect, test } from "vitest";
import { Processes } from "../host/process.ts";
import { systemClock } from "../system-clock.ts";
import { LoggedRun } from "./logged-run.ts";

let directory: string;
beforeEach(async () => {
  directory = await mkdtemp(join(tmpdir(), "evenkeel-logged-"));
});
afterEach(() => rm(directory, { recursive: true, force: true }));

const logged = (): LoggedRun => new LoggedRun(new Processes().run, systemClock, directory);
const script = (text: string): [string, ...string[]] => ["/bin/sh", "-c", text];

test("gives code, both outputs and what came in between, and nothing of the run before", async () => {
  let said = "";
  expect(await logged().run(script("echo long and early"), {}, () => {})).toEqual({ code: 0, stdout: "long and early\n", stderr: "" });
  const output = await logged().run(["/bin/sh", "-c", 'echo "$1"; echo trouble >&2; exit 3', "sh", "a 'b' $(c)"], {}, (text) => (said += text));
  expect(output).toEqual({ code: 3, stdout: "a 'b' $(c)\n", stderr: "trouble\n" });
  expect(said).toBe("a 'b' $(c)\n");
});

test("a missing program and one that runs too long answer as they always do", async () => {
  expect((await logged().run(["/no/such/program"], {}, () => {})).code).toBe(127);
  expect(await logged().run(script("echo begun; sleep 60"), { timeoutMs: 300 }, () => {})).toMatchObject({ code: 124, stdout: "begun\n", stderr: expect.stringContaining("did not end within") });
});

test("keeps the end of much, and little on the disk", async () => {
  const { stdout } = await logged().run(script("head -c 9000000 /dev/zero | tr '\\0' x; echo the end"), {}, () => {});
  expect(stdout.length).toBeLessThanOrEqual(1024 * 1024);
  expect(stdout.endsWith("xthe end\n")).toBe(true);
  expect((await stat(join(directory, "updates-stdout.log"))).size).toBeLessThan(9_000_000);
});

test("the program goes on when the process that started it is killed", async () => {
  const source = `
    import { Processes } from ${JSON.stringify(join(import.meta.dirname, "../host/process.ts"))};
    import { LoggedRun } from ${JSON.stringify(join(import.meta.dirname, "logged-run.ts"))};
    import { systemClock } from ${JSON.stringify(join(import.meta.dirname, "../system-clock.ts"))};
    setInterval(() => {}, 60_000);
    await new LoggedRun(new Processes().run, systemClock, ${JSON.stringify(directory)}).run(["/bin/sh", "-c", "echo begun; read go <$0/go; echo on; echo on >&2; touch $0/done; echo end >$0/end", ${JSON.stringify(directory)}], {}, (text) => process.stdout.write(text));
  `;
  const fifos = spawn("mkfifo", [join(directory, "go"), join(directory, "end")]);
  await once(fifos, "close");
  const parent = spawn(process.execPath, ["--input-type=module-typescript", "-e", source], { stdio: ["ignore", "pipe", "inherit"] });
  await once(parent.stdout, "data");
  parent.kill("SIGKILL");
  await once(parent, "close");
  const go = spawn("/bin/sh", ["-c", 'echo go >"$0/go"; cat "$0/end"', directory], { stdio: ["ignore", "pipe", "inherit"] });
  await once(go, "close");
  expect((await stat(join(directory, "done"))).isFile()).toBe(true);
  expect(await readFile(join(directory, "updates-stdout.log"), "utf8")).toBe("begun\non\n");
});
