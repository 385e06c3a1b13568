import { once } from "node:events";
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { createServer, type IncomingMessage, type Server } from "node:http";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { pino } from "pino";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { Statuses as Forge } from "../../shared/config/statuses.ts";
import { PreviewSummary } from "../../shared/protocol/preview.ts";
import { HandClock } from "../checks/hand-clock.ts";
import { Trial, until, type Untyped } from "../trial.ts";
import { postStatus, readToken } from "./post-status.ts";
import { CommitStatuses } from "./statuses.ts";

/**
 * Commit statuses against a twin: a small server on the loopback that takes what the four document, and checks it. No real
 * forge has seen these requests.
 */

interface Asked {
  readonly method: string;
  readonly path: string;
  readonly query: Readonly<Record<string, string>>;
  readonly headers: IncomingMessage["headers"];
  readonly body: Untyped;
}

class ForgeTwin {
  readonly asked: Asked[] = [];
  /** What it answers next, the first first; then 201. */
  readonly answers: { readonly status: number; readonly body?: string; readonly location?: string }[] = [];
  readonly #server: Server;

  constructor() {
    this.#server = createServer((incoming, outgoing) => {
      const chunks: Buffer[] = [];
      incoming.on("data", (chunk: Buffer) => chunks.push(chunk));
      incoming.on("end", () => {
        const url = new URL(incoming.url ?? "/", "http://twin");
        const text = Buffer.concat(chunks).toString("utf8");
        this.asked.push({ method: incoming.method ?? "", path: url.pathname, query: Object.fromEntries(url.searchParams), headers: incoming.headers, body: text === "" ? null : JSON.parse(text) });
        const answer = this.answers.shift() ?? { status: 201 };
        outgoing.writeHead(answer.status, { "content-type": "application/json", ...(answer.location !== undefined && { location: answer.location }) });
        outgoing.end(answer.body ?? "{}");
      });
    });
  }

  async start(): Promise<string> {
    this.#server.listen(0, "127.0.0.1");
    await once(this.#server, "listening");
    return `http://127.0.0.1:${(this.#server.address() as AddressInfo).port}`;
  }

  stop(): void {
    this.#server.closeAllConnections();
    this.#server.close();
  }
}

const commit = "5ca1ab1e".repeat(5);
const secret = "very-secret-token";
const summary = (more: Partial<PreviewSummary> = {}): PreviewSummary =>
  PreviewSummary.parse({ name: "gzip", branch: "preview/gzip", commit, subject: "", author: "", pushedBy: "ada", pushedAt: "2026-05-06T12:00:00Z", throwaway: false, outdated: false, outcome: "pending", impact: "none", counts: { nodes: 3, planned: 0, changing: 0, failed: 0, missing: 3, offline: 0 }, ...more });

let twin: ForgeTwin;
let site = "";
let directory = "";
let logged: string[] = [];
let clock: HandClock;
let statuses: CommitStatuses;
beforeEach(async () => {
  twin = new ForgeTwin();
  site = await twin.start();
  directory = mkdtempSync(join(tmpdir(), "hub-statuses-"));
  mkdirSync(join(directory, "tokens"));
  writeFileSync(join(directory, "tokens", "t"), `${secret}\n`);
  logged = [];
  clock = new HandClock();
});
afterEach(async () => {
  await statuses?.stop();
  twin.stop();
  rmSync(directory, { recursive: true });
  // Whatever happened, nobody reads the token in the log.
  expect(logged.join("")).not.toContain(secret);
});

function open(provider: string, more: object = {}): CommitStatuses {
  const forge = Forge.parse({ provider, url: site, repository: "ada/cluster", tokenFile: "t", ...more });
  const log = pino({ level: "debug" }, { write: (line: string) => void logged.push(line) });
  statuses = new CommitStatuses({ clock, log, forge: () => forge, token: (file) => readToken(directory, file), post: postStatus, site: () => "https://hub:7443" });
  return statuses;
}

/** Lets what is due now be sent, until so many requests have arrived. */
async function arrived(count: number): Promise<Asked> {
  clock.advance(0);
  await until(async () => twin.asked.length >= count);
  return twin.asked[count - 1]!;
}

/** Lets time pass in steps, as the clock of a hub does, until it is so. */
const later = (ms: number, so: () => boolean) =>
  until(async () => {
    if (!so()) clock.advance(ms);
    return so();
  });

describe("as each of them documents it", () => {
  test("GitHub, on one's own server", async () => {
    open("github").preview(summary());
    expect(await arrived(1)).toMatchObject({
      method: "POST",
      path: `/api/v3/repos/ada/cluster/statuses/${commit}`,
      headers: { authorization: `Bearer ${secret}`, accept: "application/vnd.github+json", "content-type": "application/json", "x-github-api-version": "2022-11-28", "user-agent": "evenkeel-hub" },
      body: { state: "pending", context: "evenkeel/plan", description: "0 of 3 nodes have planned it", target_url: "https://hub:7443/previews/gzip" },
    });
  });

  test.each(["gitea", "forgejo"])("%s", async (provider) => {
    open(provider, { url: `${site}/git/` }).preview(summary({ outcome: "changes", impact: "disruptive", counts: { nodes: 3, planned: 3, changing: 2, failed: 0, missing: 0, offline: 0 } }));
    expect(await arrived(1)).toMatchObject({
      method: "POST",
      path: `/git/api/v1/repos/ada/cluster/statuses/${commit}`,
      headers: { authorization: `token ${secret}`, "content-type": "application/json" },
      body: { state: "success", context: "evenkeel/plan", description: "2 of 3 nodes would change (disruptive: goes node by node under a lease, drained)", target_url: "https://hub:7443/previews/gzip" },
    });
  });

  test("GitLab, with groups in the path, everything in the query, and failed for failure", async () => {
    open("gitlab", { repository: "ada/home/cluster" }).preview(summary({ outcome: "failed", counts: { nodes: 3, planned: 2, changing: 0, failed: 1, missing: 0, offline: 0 } }));
    expect(await arrived(1)).toMatchObject({
      method: "POST",
      path: `/api/v4/projects/ada%2Fhome%2Fcluster/statuses/${commit}`,
      query: { state: "failed", name: "evenkeel/plan", target_url: "https://hub:7443/previews/gzip", description: "1 of 3 nodes cannot plan it; nothing would change" },
      headers: { "private-token": secret },
      body: null,
    });
  });

  test("GitLab's refusal of pending after pending is an agreement", async () => {
    twin.answers.push({ status: 400, body: '{"message":"Cannot transition status via :enqueue from :pending (Reason(s): Status cannot transition via \\"enqueue\\")"}' });
    open("gitlab").preview(summary());
    await arrived(1);
    await statuses.stop();
    expect(logged).toEqual([]);
  });
});

describe("in trouble", () => {
  test("a host that is busy, or does not know the commit yet, is asked again, five times in all", async () => {
    twin.answers.push({ status: 503 }, { status: 404 }, { status: 422 }, { status: 429 });
    open("gitea").preview(summary());
    await later(1_000, () => twin.asked.length === 5);
    expect(logged).toEqual([]);
    twin.answers.push(...Array.from({ length: 9 }, () => ({ status: 500 })));
    statuses.preview(summary({ outcome: "nothing" }));
    await later(10_000, () => logged.length > 0);
    expect(twin.asked).toHaveLength(10);
    expect(logged.join("")).toMatch(/"attempts":5.*could not set a commit status: it is busy or in trouble \(500\)/);
  });

  test.each([
    [{ status: 401 }, /does not know the token in t: is it spent/],
    [{ status: 403 }, /may not write commit statuses of ada\/cluster/],
    [{ status: 302, location: "http://127.0.0.1:1/elsewhere" }, /has moved: write its new address/],
    [{ status: 418 }, /refuses it \(418\)/],
  ])("what waiting does not change is said once: %j", async (answer, says) => {
    twin.answers.push(answer);
    open("forgejo").preview(summary());
    clock.advance(0);
    await until(async () => logged.length > 0);
    expect(logged.join("")).toMatch(says);
    clock.advance(3_600_000);
    expect(twin.asked).toHaveLength(1);
  });

  test("no token, one that is none, nobody there", async () => {
    open("gitea", { tokenFile: "other" }).preview(summary());
    clock.advance(0);
    await until(async () => logged.length === 1);
    expect(logged[0]).toMatch(/there is no file other in the directory tokens\/ of the hub's data directory/);
    writeFileSync(join(directory, "tokens", "t"), "two words\n");
    open("gitea").preview(summary());
    clock.advance(0);
    await until(async () => logged.length === 2);
    expect(logged[1]).toMatch(/is no token/);
    writeFileSync(join(directory, "tokens", "t"), secret);
    const gone = new ForgeTwin();
    const url = await gone.start();
    gone.stop();
    open("gitea", { url }).preview(summary());
    await later(10_000, () => logged.length === 3);
    expect(logged[2]).toMatch(/no answer from gitea: .*ECONNREFUSED/);
    expect(twin.asked).toEqual([]);
  });

  test("only the newest word counts, the same is not said twice, and a working copy is nobody's business", async () => {
    const say = open("gitea");
    twin.answers.push({ status: 500 });
    say.preview(summary({ throwaway: true }));
    say.preview(summary());
    await arrived(1);
    say.preview(summary({ outcome: "nothing" }));
    say.preview(summary({ outcome: "nothing" }));
    expect((await arrived(2)).body).toMatchObject({ state: "success", description: "nothing would change" });
    clock.advance(3_600_000);
    await statuses.stop();
    expect(twin.asked).toHaveLength(2);
  });
});

test("what cluster.yaml may say: no token in clear text over foreign wires, no way out of the directory of tokens", () => {
  const says = (more: object) => Forge.safeParse({ provider: "gitea", url: "https://git.example.org", repository: "ada/cluster", tokenFile: "t", ...more }).error?.issues.map(({ message }) => message).join();
  expect(says({})).toBeUndefined();
  expect(says({ url: "http://192.168.1.5:3000" })).toBeUndefined();
  expect(says({ url: "http://git.example.org" })).toMatch(/in clear text/);
  expect(says({ url: "https://token@git.example.org" })).toMatch(/only the address/);
  expect(says({ url: "ftp://git.example.org" })).toBeDefined();
  expect(says({ url: undefined })).toMatch(/url is missing: gitea runs in many places/);
  expect(says({ provider: "github", url: undefined })).toBeUndefined();
  expect(says({ repository: "../cluster" })).toBeDefined();
  expect(says({ repository: "cluster" })).toBeDefined();
  expect(says({ tokenFile: "../hub.db" })).toBeDefined();
});

test("a real hub says how a preview stands, and then how far the merged commit has come", async () => {
  const trial = new Trial();
  try {
    await trial.start();
    await trial.makeRepository(["n1"]);
    trial.write("cluster.yaml", `${readFileSync(join(trial.work, "cluster.yaml"), "utf8")}statuses:\n  provider: forgejo\n  url: ${site}\n  repository: ada/cluster\n  tokenFile: t\n`);
    mkdirSync(join(trial.dataDir, "tokens"));
    writeFileSync(join(trial.dataDir, "tokens", "t"), secret);
    await trial.commit("Begin");
    await trial.push();
    const node = await trial.connect(await trial.enrol("n1"));
    await node.hello();
    await trial.git("switch", "--quiet", "-c", "work");
    const tip = await trial.commit("Change");
    const order = node.order(({ kind, branch }) => kind === "plan" && branch === "preview/change");
    await trial.push("work:refs/heads/preview/change");
    await node.event(1, { kind: "planned", id: (await order).id, report: { commit: tip, plannedAt: new Date().toISOString(), tookMs: 1, changes: [], problems: [], resources: 0 } });
    const about = (context: string) => twin.asked.filter(({ path, body }) => path.endsWith(tip) && body.context === context).map(({ body }) => body.state);
    await until(async () => about("evenkeel/plan").includes("success"));
    expect(about("evenkeel/plan")).toEqual(["pending", "success"]);
    await trial.push("work:main");
    await node.event(2, { kind: "converged", report: { commit: tip, cause: "push", startedAt: new Date().toISOString(), tookMs: 1, outcome: "converged", changes: [], problems: [], resources: 0, processes: 1 } });
    await until(async () => about("evenkeel/applied").includes("success"));
    expect(about("evenkeel/applied")).toEqual(["pending", "success"]);
    expect(twin.asked.find(({ path, body }) => path.endsWith(tip) && body.context === "evenkeel/applied")?.body.target_url).toBe(`${trial.hub.urls.https}/commits#c-${tip}`);
  } finally {
    await trial.end();
  }
});
