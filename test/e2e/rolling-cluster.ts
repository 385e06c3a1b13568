import { mkdir, mkdtemp, rm, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { bundleAgent, root } from "../../image/bundle.ts";
import { CoordinationSummary, RolloutView } from "../../shared/protocol/rollout.ts";
import { Cupboard } from "../lab/cupboard.ts";
import { HubOnNode, HubProcess, type HubHome } from "../lab/hub-process.ts";
import { Lab } from "../lab/lab.ts";
import { until } from "./real-cupboard.ts";
import { Watcher } from "./watcher.ts";

/** Real nodes with a service each, in front of a real hub that can be killed, with short soaks: for rollouts. */
export interface RollingCluster {
  readonly lab: Lab;
  readonly cupboard: Cupboard;
  readonly home: HubHome;
  readonly nodes: readonly string[];
  readonly watcher: Watcher;
  /** What users call: behind the address that moves. */
  readonly url: string;
  readonly summary: () => Promise<CoordinationSummary>;
  readonly rollout: () => Promise<RolloutView>;
  /** Waits until the rollout is in such a phase. */
  readonly reaches: (phase: RolloutView["phase"], timeoutMs?: number) => Promise<RolloutView>;
  /** Every node is well, and nobody holds a slot. */
  readonly isQuiet: (timeoutMs?: number) => Promise<void>;
  readonly close: () => Promise<void>;
}

export interface RollingOptions {
  readonly nodes?: number;
  /** The hub lives on the last node. */
  readonly hubOnNode?: boolean;
  readonly clusterYaml?: string;
  /** An address that keepalived moves between the nodes, and a check on what answers there, which gates. */
  readonly vip?: boolean;
  /** Minutes that each node is watched; the canary as long again. */
  readonly soakMinutes?: number;
}

/** The port of the toy service on every node: whoever does not answer there is down. */
const SERVICE_PORT = 8080;

const service = `[Unit]
Description=What this node is there for
[Service]
ExecStart=/usr/lib/evenkeel/node -e "require('node:http').createServer((_, answer) => answer.end('here')).listen(${SERVICE_PORT})"
Restart=on-failure
[Install]
WantedBy=multi-user.target
`;

/** No node takes the address back by itself when it returns: that would be one move more. */
const keepalived = `vrrp_instance even {
  state BACKUP
  nopreempt
  interface host0
  virtual_router_id 51
  priority <%= 200 - Number(it.node.name.slice(1)) %>
  advert_int 1
  unicast_src_ip <%= it.node.address %>
  unicast_peer {
<% for (const node of it.cluster.nodes) { if (node.name !== it.node.name) { %>
    <%= node.address %>
<% } } %>
  }
  virtual_ipaddress {
    <%= it.vars.vip %>/24
  }
}
`;

/**
 * Before the address moves, who is being served is served to the end, and who comes new is not answered: TCP asks again
 * after a second (RFC 6298), and then the next holder is there. Without this, what is under way as it moves is lost.
 */
const quiet = `#!/bin/sh
set -eu
gone='table ip even_quiet
delete table ip even_quiet'
case "$1" in
  on)
    nft -f - <<END
$gone
table ip even_quiet {
  chain in {
    type filter hook input priority -10
    ip daddr <%= it.vars.vip %> tcp flags syn / fin,syn,rst,ack drop
  }
}
END
    for _ in 1 2 3 4 5 6 7 8 9 10; do
      sleep 0.1
      [ -n "$(ss -Htn state established src <%= it.vars.vip %>)" ] || break
    done ;;
  off) echo "$gone" | nft -f - ;;
esac
`;

const vipRole = `files:
  /etc/keepalived/keepalived.conf:
    content: {template: keepalived.eta}
  /usr/local/sbin/vip-quiet:
    content: {template: vip-quiet.eta}
    mode: "0755"
`;
const vipDrain = `  commands:
    vip-quiet: {drain: [/usr/local/sbin/vip-quiet, "on"], resume: [/usr/local/sbin/vip-quiet, "off"], order: 5}
`;

function clusterYaml(extra: string, soakMinutes: number): string {
  return `name: cupboard
signers:
  - name: owner
    ssh: ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJ1WPc3tOOKpuC3O4P+1e1wAHiQHtjmtytM49HtWwHbx replace-me@example
updates:
  canary: [n1]
  canarySoakMinutes: ${soakMinutes}
  soakMinutes: ${soakMinutes}
  nodeMinutes: 3
  drainTimeoutMinutes: 1
${extra}`;
}

const role = (vip: boolean): string => `packages:
  even-tool: present
services:
  even-web.service:
    unit: {file: even-web.service}
    enabled: true
    running: true
${vip ? "  keepalived.service:\n    enabled: true\n    running: true\n" : ""}drain:
  gates:
    disks: {command: [sh, -c, "! cat /run/even-disks-rebuild 2>&1"]}
  units:
    even-web.service: {order: 20}
${vip ? `    keepalived.service: {order: 10}\n${vipDrain}` : ""}`;

export async function openRolling(name: string, options: RollingOptions = {}): Promise<RollingCluster> {
  await bundleAgent();
  const nodes = Array.from({ length: options.nodes ?? 3 }, (_, index) => `n${index + 1}`);
  const directory = join(root, ".lab", `${name}-cupboard`);
  const example = await mkdtemp(join(tmpdir(), "rolling-"));
  for (const folder of ["nodes", "roles", "files"]) await mkdir(join(example, folder));
  const vip = options.vip === true;
  await writeFile(join(example, "roles", "all.yaml"), role(vip) + (vip ? vipRole : ""));
  await writeFile(join(example, "files", "keepalived.eta"), keepalived);
  await writeFile(join(example, "files", "vip-quiet.eta"), quiet);
  await writeFile(join(example, "files", "even-web.service"), service);
  for (const [index, node] of nodes.entries()) await writeFile(join(example, "nodes", `${node}.yaml`), `address: 10.77.1.1${index + 1}\nroles: [all]\n`);
  const binds = [{ from: join(root, "dist", "evenkeel"), to: "/usr/lib/evenkeel" }, ...(options.hubOnNode === true ? [{ from: root, to: "/opt/evenkeel" }] : [])];
  const lab = new Lab({ name, nodes, binds, downOnExit: true, ...(vip && { flavour: "cluster" as const }) });
  await lab.wipe();
  await rm(directory, { recursive: true, force: true });
  await lab.up();
  const address = lab.hostAddress.replace(/\.\d+$/, ".100");
  const check = `checks:\n  web:\n    http: http://${address}:${SERVICE_PORT}/\n    everySeconds: 1\n    timeoutSeconds: 3\nvars:\n  vip: ${address}\n`;
  await writeFile(join(example, "cluster.yaml"), clusterYaml((vip ? check : "") + (options.clusterYaml ?? ""), options.soakMinutes ?? 0.05));
  await lab.publish("even-tool", "1.0");
  const last = nodes.at(-1) ?? "n1";
  const settings = {
    cluster: "cupboard",
    publicHosts: options.hubOnNode === true ? [lab.address(last)] : ["hub", lab.hostAddress],
    httpsListen: `${options.hubOnNode === true ? "0.0.0.0" : lab.hostAddress}:7443`,
    mqttListen: `${options.hubOnNode === true ? "0.0.0.0" : lab.hostAddress}:8883`,
    pageListen: "127.0.0.1:0",
    patience: { staleMs: 12_000, pingEveryMs: 3_000, confirmMs: 20_000, checkMs: 60_000 },
  };
  const home: HubHome = options.hubOnNode === true ? new HubOnNode(lab, last, settings) : new HubProcess(directory, lab.hostAddress, settings);
  const cupboard = new Cupboard({ directory, lab, example, home });
  try {
    await cupboard.start();
    await cupboard.pushExample();
    for (const node of nodes) await cupboard.enrol(node);
    await cupboard.waitConverged();
    if (vip) await until("somebody to hold the address", () => fetch(`http://${address}:${SERVICE_PORT}/`).then(({ ok }) => ok).catch(() => false), (ok) => ok);
  } catch (error) {
    await cupboard.stop();
    throw error;
  }
  const watcher = new Watcher(lab, nodes, SERVICE_PORT);
  const summary = async (): Promise<CoordinationSummary> => CoordinationSummary.parse(await cupboard.api("/coordination"));
  const rollout = async (): Promise<RolloutView> => RolloutView.parse((await summary()).rollout);
  const quietly = async <T>(ask: () => Promise<T>): Promise<T | string> => ask().catch((error: unknown) => String(error));
  return {
    lab,
    cupboard,
    home,
    nodes,
    watcher,
    url: `http://${address}:${SERVICE_PORT}/`,
    summary,
    rollout,
    async reaches(phase, timeoutMs = 240_000) {
      const seen = await until(`the rollout to be ${phase}`, () => quietly(rollout), (answer) => typeof answer !== "string" && answer.phase === phase, timeoutMs);
      return seen as RolloutView;
    },
    async isQuiet(timeoutMs = 120_000) {
      await until("everything to be well and no slot taken", () => quietly(summary), (answer) => typeof answer !== "string" && answer.leases.length === 0 && answer.groups.length > 0 && answer.groups.every(({ down }) => down.length === 0), timeoutMs);
    },
    async close() {
      await watcher.stop();
      await lab.wipe();
      await cupboard.stop();
      await rm(directory, { recursive: true, force: true });
      await rm(example, { recursive: true, force: true });
    },
  };
}
