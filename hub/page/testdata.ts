import { CommitId, NodeName } from "../../shared/ids.ts";
import type { ClusterSummary, CommitSummary, NodeCondition, NodeDetail, NodeSummary, StoredConverge } from "../../shared/protocol/api.ts";
import type { Change, ConvergeReport, PlanReport } from "../../shared/protocol/report.ts";
import type { PageChange, PageData } from "../page-data.ts";

/** Clusters to look at, in tests and while working on the design. All ages count from this moment. */
export const NOW_MS = Date.parse("2026-03-14T02:30:00.000Z");

export function before(ms: number): string {
  return new Date(NOW_MS - ms).toISOString();
}

const SECOND_MS = 1_000;
const MINUTE_MS = 60 * SECOND_MS;
const HOUR_MS = 60 * MINUTE_MS;
const DAY_MS = 24 * HOUR_MS;

export interface Cluster {
  readonly summary: ClusterSummary;
  readonly commits: CommitSummary[];
  readonly details: readonly NodeDetail[];
}

/** What a page reads, from memory: a test changes it and says so. */
export class MemoryPageData implements PageData {
  #cluster: Cluster;
  readonly #listeners = new Set<(change: PageChange) => void>();

  constructor(cluster: Cluster) {
    this.#cluster = cluster;
  }

  become(cluster: Cluster, change: PageChange): void {
    this.#cluster = cluster;
    for (const listener of this.#listeners) listener(change);
  }

  get listenerCount(): number {
    return this.#listeners.size;
  }

  async cluster(): Promise<ClusterSummary> {
    return this.#cluster.summary;
  }

  async node(name: string): Promise<NodeDetail | null> {
    return this.#cluster.details.find((node) => node.name === name) ?? null;
  }

  async commits(): Promise<CommitSummary[]> {
    return this.#cluster.commits;
  }

  async converge(id: number): Promise<StoredConverge | null> {
    return this.#cluster.details.flatMap(({ converges }) => converges).find((stored) => stored.id === id) ?? null;
  }

  subscribe(listener: (change: PageChange) => void): () => void {
    this.#listeners.add(listener);
    return () => this.#listeners.delete(listener);
  }
}

export function commitId(digits: string): CommitId {
  return CommitId.parse(digits.padEnd(40, "0123456789abcdef0123456789abcdef01234567"));
}

export const HEAD = commitId("1a2b3c4d");
export const OLDER = commitId("77e0c1f2");

const SUBJECTS = [
  "Serve the new front page from all three nodes",
  "Raise vm.max_map_count for the search index",
  "Add anna's second key",
  "nginx: send HSTS, drop TLS 1.1",
  "Rotate the backup timer to 03:15",
  "Pin containerd until the next window",
  "Try journald with 1 GB",
  "First light",
];

export function commitList(names: readonly string[]): CommitSummary[] {
  return SUBJECTS.map((subject, index) => ({
    id: index === 0 ? HEAD : index === 1 ? OLDER : commitId((0xb1e55ed + index * 0x1f00d).toString(16)),
    subject,
    author: "Anna Example <anna@example.org>",
    signer: "anna@example.org",
    pushedBy: index % 3 === 2 ? "ci" : "anna",
    pushedAt: before((index * 7.3 + 0.05) * HOUR_MS),
    arrivals: index === 5 ? [] : names.map((name, at) => ({
      node: NodeName.parse(name),
      afterMs: Math.round(820 + ((index * 977 + at * 613) % 2_900) + (index === 3 ? 48_000 : 0) + (index === 7 ? 412_000 : 0)),
      outcome: index === 6 && at === 1 ? "failed" : "converged",
    })),
  }));
}

export function node(name: string, condition: NodeCondition = "converged", rest: Partial<NodeSummary> = {}): NodeSummary {
  return {
    name: NodeName.parse(name),
    address: `10.20.0.1${name.replace(/\D/g, "")}`,
    roles: ["base", "web"],
    condition,
    why: "",
    online: condition !== "offline",
    lastSeenAt: before(12 * SECOND_MS),
    commit: HEAD,
    converge: { v: 1, commit: HEAD, outcome: "converged", at: before(3 * MINUTE_MS), failing: [], refused: null, problems: [] },
    agentVersion: "0.1.0",
    recipient: null,
    driftRepairs24h: 0,
    ...rest,
  };
}

const DIFF = `--- /etc/nginx/sites-enabled/front.conf
+++ /etc/nginx/sites-enabled/front.conf
@@ -3,8 +3,9 @@ server {
     listen 80 default_server;
     server_name _;
     root /srv/www;
-    gzip off;
+    gzip on;
+    gzip_types text/css application/javascript;
     location / {
-        expires 1h;
+        expires 12h;
         try_files $uri $uri/ =404;
     }
`;

export const APT_ERROR = `apt-get ended with 100: a package could not be configured
Reading package lists...
Building dependency tree...
Setting up nginx (1.22.1-9+deb12u1) ...
Job for nginx.service failed because the control process exited with error code.
See "systemctl status nginx.service" and "journalctl -xeu nginx.service" for details.
invoke-rc.d: initscript nginx, action "start" failed.
nginx[2211]: nginx: [emerg] bind() to 0.0.0.0:80 failed (98: Address already in use)
nginx[2211]: nginx: [emerg] still could not bind()
dpkg: error processing package nginx (--configure):
 installed nginx package post-installation script subprocess returned error exit status 1
E: Sub-process /usr/bin/dpkg returned an error code (1)`;

const CHANGES: Change[] = [
  { resource: "files//etc/nginx/sites-enabled/front.conf", action: "write /etc/nginx/sites-enabled/front.conf", why: "content differs", impact: "none", result: "done", diff: DIFF },
  { resource: "packages/nginx", action: "install nginx 1.22.1-9+deb12u1", why: "is 1.22.1-9, should be 1.22.1-9+deb12u1", impact: "service", result: "done" },
];

export function report(rest: Partial<ConvergeReport> = {}): ConvergeReport {
  return { commit: HEAD, cause: "push", startedAt: before(3 * MINUTE_MS), tookMs: 1_240, outcome: "converged", changes: CHANGES, problems: [], resources: 48, processes: 3, omitted: 0, ...rest };
}

export function planReport(rest: Partial<PlanReport> = {}): PlanReport {
  return { commit: HEAD, plannedAt: before(40 * SECOND_MS), tookMs: 130, changes: CHANGES.map((change) => ({ ...change, result: "planned" })), problems: [], resources: 48, omitted: 0, ...rest };
}

function history(of: NodeSummary, first: number): StoredConverge[] {
  const stored = (id: number, agoMs: number, rest: Partial<ConvergeReport>): StoredConverge => ({
    id: first + id,
    node: of.name,
    receivedAt: before(agoMs),
    report: report({ startedAt: before(agoMs), ...rest }),
  });
  const failed = of.condition === "failing"
    ? [stored(9, 50 * SECOND_MS, { cause: "retry", outcome: "failed", tookMs: 8_400, processes: 6, changes: [
        { resource: "packages/nginx", action: "install nginx 1.22.1-9+deb12u1", why: "is not installed", impact: "service", result: "failed", error: APT_ERROR },
        { resource: "services/nginx.service", action: "start nginx.service", why: "is inactive, should be running", impact: "service", result: "blocked", error: "packages/nginx failed" },
      ] })]
    : [];
  return [
    ...failed,
    stored(8, 3 * MINUTE_MS, {}),
    stored(7, 61 * MINUTE_MS, { cause: "sweep", tookMs: 96, changes: [], processes: 2 }),
    stored(6, 2.2 * HOUR_MS, { cause: "drift", tookMs: 180, changes: [{ resource: "files//etc/motd", action: "write /etc/motd", why: "changed by something else", impact: "none", result: "done", diff: "@@ -1 +1 @@\n-hacked\n+Welcome to n1.\n" }] }),
    stored(5, 9 * HOUR_MS, { commit: OLDER, cause: "push", tookMs: 2_100, outcome: "stopped", changes: [], problems: [{ code: "removal-guard", message: "This commit would remove 14 packages; more than 10 need `removals: 14` in cluster.yaml, or `evenkeel-agent apply --allow-removals`." }] }),
    stored(4, 3 * DAY_MS, { commit: OLDER, cause: "start", tookMs: 310, changes: [] }),
  ];
}

export function detail(of: NodeSummary, rest: Partial<NodeDetail> = {}): NodeDetail {
  const seen = of.condition !== "waiting";
  return {
    ...of,
    facts: seen ? { architecture: "x86_64", distribution: "Debian GNU/Linux 12 (bookworm)", kernel: "6.1.0-32-amd64", memory: "16 GB", processor: "Intel N100, 4 cores", addresses: "10.20.0.11, fd00:20::11", "boot id": "0f2b7a52-6b8e-4d4e-9df2-4f5a4f5f1f11" } : {},
    certificate: seen ? { serial: "5a:11:c0:de", notAfter: before(-62 * DAY_MS) } : null,
    enrolledAt: seen ? before(28 * DAY_MS) : null,
    lastPlan: seen ? { receivedAt: before(38 * SECOND_MS), report: planReport() } : null,
    converges: seen ? history(of, Number(of.name.replace(/\D/g, "")) * 100) : [],
    ...rest,
  };
}

export function cluster(nodes: NodeSummary[], commits: CommitSummary[] = commitList(nodes.map(({ name }) => name)), details?: NodeDetail[]): Cluster {
  return {
    summary: {
      cluster: "cupboard",
      head: commits[0] ?? null,
      nodes,
      counts: { total: nodes.length, online: nodes.filter(({ online }) => online).length, converged: nodes.filter(({ condition }) => condition === "converged").length },
      hubVersion: "0.1.0",
    },
    commits,
    details: details ?? nodes.map((each) => detail(each)),
  };
}

/** Three nodes, all well. */
export function goodCluster(): Cluster {
  return cluster([node("n1"), node("n2", "converged", { driftRepairs24h: 1 }), node("n3")]);
}

/** The same three, of which n2 has not got the head yet. */
export function busyCluster(): Cluster {
  const good = goodCluster();
  const commits = good.commits.map((commit, index) => (index === 0 ? { ...commit, arrivals: commit.arrivals.filter(({ node: name }) => name !== "n2") } : commit));
  return cluster([node("n1"), node("n2", "converging", { why: "is applying 1a2b3c4d", commit: OLDER }), node("n3")], commits);
}

export function failingNode(name = "n2"): NodeSummary {
  return node(name, "failing", {
    why: "packages/nginx: apt-get ended with 100: a package could not be configured (and 1 more)",
    driftRepairs24h: 3,
    converge: {
      v: 1, commit: HEAD, outcome: "failed", at: before(50 * SECOND_MS), refused: null,
      failing: [
        { resource: "packages/nginx", error: APT_ERROR },
        { resource: "services/nginx.service", error: "blocked: packages/nginx failed" },
      ],
      problems: [{ code: "orphan", message: "The filesystem /srv/old is no longer in the repository. It is left as it is; remove it by hand if you mean it.", resource: "disks//srv/old" }],
    },
  });
}

/** One node of each kind of trouble, and one of each kind of waiting. */
export function badCluster(): Cluster {
  const nodes = [
    node("n1"),
    failingNode("n2"),
    node("n3", "offline", { why: "not connected, last heard of at 2026-03-14T00:06:00.000Z", lastSeenAt: before(2.4 * HOUR_MS), commit: OLDER }),
    node("n4", "refused", {
      why: "refuses 1a2b3c4d: 1a2b3c4d is not signed by a key that this node trusts", commit: OLDER,
      converge: {
        v: 1, commit: OLDER, outcome: "converged", at: before(9 * HOUR_MS), failing: [], problems: [],
        refused: { commit: HEAD, at: before(2 * MINUTE_MS), message: "1a2b3c4d is not signed by a key that this node trusts\nSigned with ED25519 SHA256:9kQ0fU2m (mallory@laptop).\nTrusted are anna@example.org and ci@example.org (/etc/evenkeel/signers).\nSign it with one of these, or add the key in a commit that one of these signs." },
      },
    }),
    node("n5", "behind", { why: "runs 77e0c1f2, the main branch is at 1a2b3c4d", commit: OLDER }),
    node("n6", "waiting", { why: "not enrolled yet: run `evenkeel node add n6`, and the command that it prints on the machine", online: false, lastSeenAt: null, commit: null, converge: null, agentVersion: null, address: null }),
    node("n7", "revoked", { why: "its certificate was revoked at 2026-03-09T02:30:00.000Z; `evenkeel node add n7` would let it enrol again", online: false, lastSeenAt: before(5 * DAY_MS), converge: null, commit: OLDER }),
  ];
  const commits = commitList(["n1", "n2", "n3", "n4", "n5"]).map((commit, index) => index !== 0 ? commit : {
    ...commit,
    arrivals: [
      { node: NodeName.parse("n1"), afterMs: 1_130, outcome: "converged" },
      { node: NodeName.parse("n2"), afterMs: 9_800, outcome: "failed" },
    ],
  });
  return cluster(nodes, commits);
}

export function emptyCluster(): Cluster {
  return cluster([], []);
}

export function manyNodes(count = 50): Cluster {
  const names = Array.from({ length: count }, (_, index) => `n${index + 1}`);
  return cluster(names.map((name, index) => (index === 17 ? failingNode(name) : index % 11 === 5 ? node(name, "converging", { commit: OLDER }) : node(name))));
}

/** Every string that a node, a committer or a token's name could bring, set to the same hostile text. */
export function hostileCluster(text: string): Cluster {
  const replaced = (value: unknown, key = ""): unknown => {
    // Fixed words, numbers and times are checked by their schemas before they get here.
    if (["condition", "outcome", "cause", "impact", "result"].includes(key)) return value;
    if (typeof value === "string") return Number.isNaN(Date.parse(value)) || !/^\d{4}-/.test(value) ? text : value;
    if (Array.isArray(value)) return value.map((each) => replaced(each));
    if (typeof value !== "object" || value === null) return value;
    return Object.fromEntries(Object.entries(value).map(([name, each]) => [key === "facts" ? `${text}${name}` : name, replaced(each, name)]));
  };
  return replaced(badCluster()) as Cluster;
}
