import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { Trial, type Untyped } from "../trial.ts";

/** Real git pushes over TLS, signed with real keys. */

const trial = new Trial();
beforeAll(async () => {
  await trial.start();
  await trial.makeRepository();
});
afterAll(() => trial.end());

const commits = async (): Promise<Untyped[]> => (await trial.request("GET", "/api/v1/commits")).json();

describe("a push", () => {
  test("without a token, with a wrong one: refused", async () => {
    await trial.commit("Begin");
    expect((await trial.push("main", { token: "wrong" })).output).toMatch(/could not read Username|Authentication failed/);
    expect(await commits()).toEqual([]);
  });

  test("for the first time: takes the signers from cluster.yaml, and says so", async () => {
    const { code, output } = await trial.push();
    expect(output).toContain("first push: from now on, main takes commits signed by: ada");
    expect(code).toBe(0);
    expect(await commits()).toMatchObject([{ subject: "Begin", author: "ada <ada@example.org>", signer: "ada", pushedBy: "admin", arrivals: [] }]);
    const cluster = (await trial.request("GET", "/api/v1/cluster")).json();
    expect(cluster.nodes.map((node: Untyped) => [node.name, node.address, node.condition])).toEqual([
      ["n1", "10.0.0.1", "waiting"],
      ["n2", "10.0.0.2", "waiting"],
      ["n3", "10.0.0.3", "waiting"],
    ]);
  });

  test("of several commits: recorded in order, newest first", async () => {
    await trial.commit("Second");
    await trial.commit("Third");
    expect((await trial.push()).code).toBe(0);
    expect((await commits()).map(({ subject }) => subject)).toEqual(["Third", "Second", "Begin"]);
  });

  test("unsigned: refused with the way out, in the pusher's terminal", async () => {
    await trial.commit("Unsigned", "--no-gpg-sign");
    const { code, output } = await trial.push();
    expect(code).not.toBe(0);
    expect(output).toMatch(/remote: evenkeel: refused: commit [0-9a-f]{8} \("Unsigned"\) is not signed/);
    await trial.git("reset", "--hard", "--quiet", "HEAD~1");
  });

  test("signed by a stranger, who even adds himself: refused", async () => {
    await trial.makeKey("mallory");
    await trial.signWith("mallory");
    trial.writeCluster(["ada", "mallory"]);
    await trial.commit("Let me in");
    const { code, output } = await trial.push();
    expect(code).not.toBe(0);
    expect(output).toContain("Signers in force: ada");
    await trial.git("reset", "--hard", "--quiet", "HEAD~1");
    await trial.signWith("ada");
  });

  test("that is not valid: refused like a compiler would, with file and line", async () => {
    trial.write("nodes/n2.yaml", "address: 10.0.0.2\nadress: typo\n");
    await trial.commit("Typo");
    const { code, output } = await trial.push();
    expect(code).not.toBe(0);
    expect(output).toMatch(/remote: nodes\/n2\.yaml:2:1: error: .*adress/);
    expect(output).toContain("address");
    await trial.git("reset", "--hard", "--quiet", "HEAD~1");
  });

  test("for another cluster: refused with both names", async () => {
    trial.writeCluster(["ada"], "elsewhere");
    await trial.commit("Rename");
    const { code, output } = await trial.push();
    expect(code).not.toBe(0);
    expect(output).toMatch(/name: elsewhere.*set up for the cluster trial/);
    await trial.git("reset", "--hard", "--quiet", "HEAD~1");
  });

  test("with force: refused, and so is going back", async () => {
    await trial.git("switch", "--quiet", "-c", "rewritten", "HEAD~1");
    await trial.commit("Another third");
    const rewritten = await trial.push("rewritten:main", { force: true });
    expect(rewritten.code).not.toBe(0);
    expect(rewritten.output).toContain("this would rewrite history that nodes have applied");
    const older = await trial.push("main~1:main", { force: true });
    expect(older.output).toContain("is older than");
    expect(older.code).not.toBe(0);
    await trial.git("switch", "--quiet", "main");
    expect((await commits())[0]).toMatchObject({ subject: "Third" });
  });

  test("that deletes main, or brings tags: refused", async () => {
    expect((await trial.push(":main")).output).toContain("main cannot be deleted");
    await trial.git("tag", "v1");
    expect((await trial.push("v1")).output).toContain("tags are not kept here");
  });

  test("of a preview: may be rewritten and deleted, must be signed, and moves nothing", async () => {
    await trial.git("switch", "--quiet", "-c", "try");
    await trial.commit("Try");
    const first = await trial.push("try");
    expect(first.output).toContain("try is a preview, nothing is applied");
    await trial.git("commit", "--quiet", "--allow-empty", "--amend", "-m", "Try again");
    expect((await trial.push("try", { force: true })).code).toBe(0);
    await trial.git("commit", "--quiet", "--allow-empty", "--amend", "--no-gpg-sign", "-m", "Try unsigned");
    expect((await trial.push("try", { force: true })).output).toContain("is not signed");
    expect((await trial.push(":try")).code).toBe(0);
    await trial.git("switch", "--quiet", "main");
    expect((await commits()).map(({ subject }) => subject)).toEqual(["Third", "Second", "Begin"]);
  });

  test("with rotated keys: the old key lets the new one in, and out goes the old", async () => {
    await trial.makeKey("bob");
    trial.writeCluster(["bob"]);
    await trial.commit("Bob takes over");
    await trial.signWith("bob");
    await trial.commit("Bob's first");
    expect((await trial.push()).code).toBe(0);
    await trial.signWith("ada");
    await trial.commit("Ada again");
    expect((await trial.push()).output).toContain("Signers in force: bob");
    await trial.git("reset", "--hard", "--quiet", "HEAD~1");
    await trial.signWith("bob");
    expect((await commits()).map(({ signer }) => signer)).toEqual(["bob", "ada", "ada", "ada", "ada"]);
  });

  test("clones give back what was pushed; the dumb protocol and strangers get nothing", async () => {
    const { code } = await trial.git(...trial.httpOptions(), "clone", "--quiet", trial.remote(), `${trial.directory}/clone`);
    expect(code).toBe(0);
    const head = await trial.git("rev-parse", "HEAD");
    expect(await trial.git("-C", `${trial.directory}/clone`, "rev-parse", "HEAD")).toEqual(head);
    expect((await trial.request("GET", "/cluster.git/HEAD")).status).toBe(404);
    expect((await trial.request("GET", "/cluster.git/info/refs?service=git-upload-pack", { token: null })).status).toBe(401);
  });

  test("is all there after a restart of the hub, with its record and the nodes' addresses", async () => {
    const before = await commits();
    await trial.stop();
    await trial.start();
    expect(await commits()).toEqual(before);
    expect((await trial.request("GET", "/api/v1/nodes")).json()[0]).toMatchObject({ name: "n1", address: "10.0.0.1" });
  });
});
