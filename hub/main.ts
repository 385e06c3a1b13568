import { chmodSync, existsSync, mkdirSync, readFileSync } from "node:fs";
import { randomUUID } from "node:crypto";
import { isIPv6 } from "node:net";
import { hostname } from "node:os";
import { join } from "node:path";
import type { Logger } from "pino";
import packageFile from "../package.json" with { type: "json" };
import type { Clock } from "../shared/clock.ts";
import type { SectionKind } from "../shared/config/settings-file.ts";
import { NodeName } from "../shared/ids.ts";
import { kinds as allKinds } from "../shared/kinds/index.ts";
import { UpdatesMessage } from "../shared/protocol/updates.ts";
import type { OrderMessage } from "../shared/protocol/messages.ts";
import { startBroker, type Broker } from "./broker/broker.ts";
import type { PoisonCounts } from "./broker/poison.ts";
import { writeDurably } from "./durable-file.ts";
import { Changes } from "./fleet/changes.ts";
import { Enrolment, type Addresses } from "./fleet/enrolment.ts";
import { Inbox, type Hearing } from "./fleet/inbox.ts";
import { Orders } from "./fleet/orders.ts";
import { Presence } from "./fleet/presence.ts";
import { FleetView } from "./fleet/view.ts";
import { noOutsidePower } from "./bmc/power.ts";
import { Checks } from "./checks/checks.ts";
import { postStatus, readToken } from "./preview/post-status.ts";
import { Previews } from "./preview/service.ts";
import { CommitStatuses } from "./preview/statuses.ts";
import { hubApp } from "./http/app.ts";
import { Gate } from "./http/caller.ts";
import { LoginLimiter } from "./http/limiter.ts";
import { listenerFor, servePlain, serveTls, type WebServer } from "./http/servers.ts";
import { takeLock } from "./lock.ts";
import { makeLog } from "./log.ts";
import { openPki } from "./pki/authority.ts";
import { DownloadCache } from "./downloads/cache.ts";
import { wantedDownloads } from "./downloads/wanted.ts";
import { GitHttp, gitPath } from "./repo/git-http.ts";
import { ClusterRepository } from "./repo/repository.ts";
import { hashOf, newToken } from "./secret.ts";
import type { Settings } from "./settings.ts";
import { CoordinationService } from "./rollout/service.ts";
import { CoordinationStore } from "./store/coordination.ts";
import { AccessStore } from "./store/access.ts";
import { CommitStore } from "./store/commits.ts";
import { openDatabase } from "./store/database.ts";
import { NodeStore } from "./store/nodes.ts";
import { PreviewStore } from "./store/previews.ts";
import { ReportStore } from "./store/reports.ts";
import { keepWithinLimits, type Stores } from "./store/retention.ts";
import { systemClock } from "./system-clock.ts";
import { Values } from "./values/values.ts";

const dayMs = 24 * 3_600_000;
const stopTimeoutMs = 5_000;

/** What the demo and tests may put in the place of the real thing. */
export interface HubOverrides {
  readonly clock?: Clock;
  readonly log?: Logger;
  readonly kinds?: readonly SectionKind[];
  /** The coordinator must not go on. Without it, the process ends with code 70. */
  readonly onBug?: (error: unknown) => void;
  /** Makes a new admin token, and ends the earlier one. */
  readonly resetAdminToken?: boolean;
}

export interface RunningHub {
  readonly urls: {
    /** For nodes, Git and the command line: `https://HOST:7443`. */
    readonly https: string;
    /** The repository: `https://HOST:7443/cluster.git`. */
    readonly git: string;
    /** For a browser on the hub's machine: `http://127.0.0.1:7480`. */
    readonly page: string;
    readonly mqtt: { readonly host: string; readonly port: number };
  };
  readonly caPem: string;
  /** `sha256:…`, as enrolment and `evenkeel login` want it. */
  readonly caPin: string;
  /** The first admin token; null when its file is gone, or the token has been ended. */
  readonly adminToken: string | null;
  readonly poison: PoisonCounts;
  /** A link that logs a browser on this machine in, once. */
  loginLink(): string;
  /** Ends every connection and closes the database, within 5 s. */
  stop(): Promise<void>;
}

/** Starts a hub. @throws with a message for people when it cannot start; whatever had been started is stopped again. */
export async function startHub(settings: Settings, overrides: HubOverrides = {}): Promise<RunningHub> {
  const clock = overrides.clock ?? systemClock;
  const log = overrides.log ?? makeLog(settings.logLevel, process.stdout);
  /** Undoes what has been started, the last first. */
  const undo: (() => void | Promise<void>)[] = [];
  const stop = once(async () => {
    for (const step of undo.toReversed()) await step();
  });
  try {
    return await start(settings, overrides, { clock, log, undo, stop });
  } catch (error) {
    await stop().catch((failure: unknown) => log.error({ err: failure }, "could not stop cleanly after a failed start"));
    throw error;
  }
}

interface Frame {
  readonly clock: Clock;
  readonly log: Logger;
  readonly undo: (() => void | Promise<void>)[];
  readonly stop: () => Promise<void>;
}

async function start(settings: Settings, overrides: HubOverrides, { clock, log, undo, stop }: Frame): Promise<RunningHub> {
  const { dataDir, cluster, branch } = settings;
  mkdirSync(dataDir, { recursive: true, mode: 0o700 });
  chmodSync(dataDir, 0o700);
  const lock = await takeLock(join(dataDir, "lock.db"));
  if (lock === null) throw new Error(`another hub is running on ${dataDir}: stop it first, or give this one a data directory of its own`);
  undo.push(() => lock.release());

  const database = await openDatabase(join(dataDir, "hub.db"), join(import.meta.dirname, "store", "migrations"));
  undo.push(() => database.close());
  const stores: Stores = { nodes: new NodeStore(database), reports: new ReportStore(database), commits: new CommitStore(database), access: new AccessStore(database) };
  const adminToken = await prepareAdminToken(stores.access, join(dataDir, "admin.token"), clock, overrides.resetAdminToken ?? false);
  const pki = await openPki({
    directory: dataDir,
    hosts: [...new Set([...settings.publicHosts, "localhost", "127.0.0.1", "::1"])],
    serverLifetimeMs: settings.certificates.serverDays * dayMs,
    nodeLifetimeMs: settings.certificates.nodeDays * dayMs,
    clock,
  });
  undo.push(() => pki.stop());

  const changes = new Changes();
  const presence = new Presence();
  // The parts below know each other in a circle; what is not there yet is reached through these.
  const later: { broker?: Broker; gate?: Gate; addresses?: Addresses; coordination?: CoordinationService; hubNode?: NodeName; previews?: Previews } = {};
  const send = (node: NodeName, order: OrderMessage): void => later.broker?.send(node, order);
  const orders = new Orders({ clock, presence, send, planTimeoutMs: settings.planTimeoutMs });
  const ownMachineId = machineId();
  const values = new Values({ clock, newId: randomUUID, isOnline: (node) => presence.get(node)?.online === true && presence.get(node)?.subscribed === true, send, warn: (about, message) => log.warn(about, message) });
  undo.push(() => values.stop());
  const hearing: Hearing = {
    value(node, event) {
      if (event.kind === "ask") values.ask(node, event);
      else if (event.kind === "made") values.made(node, event);
      else values.notMade(node, event);
    },
    word: async (node, word) => later.coordination?.word(node, word),
    async gone(node) {
      values.gone(node);
      await later.coordination?.gone(node);
      await later.previews?.gone();
    },
    async here(node) {
      later.coordination?.here(node);
      await later.previews?.here(node);
    },
    async planned(node, id, answer) {
      if (later.previews?.isOurs(id) !== true) return false;
      await later.previews.answer(node, id, answer);
      return true;
    },
    updates: (node, message) => later.coordination?.updates(node, message),
    machineKnown(node, id) {
      if (id !== ownMachineId || later.hubNode === node) return;
      later.hubNode = node;
      later.coordination?.hubNodeKnown();
    },
  };
  const inbox = new Inbox({ hearing, clock, stores, presence, orders, changes, send, log });
  const followPolicy = async (): Promise<void> => {
    const policy = repository.policy();
    if (policy !== null) await later.coordination?.follow(policy).catch((error: unknown) => log.error({ err: error }, "could not take over the policy of a commit"));
  };
  const repository = await ClusterRepository.open({
    dataDir,
    cluster,
    branch,
    kinds: overrides.kinds ?? allKinds,
    clock,
    commits: stores.commits,
    log,
    onMain(tip) {
      orders.look("all");
      changes.commits(tip);
      void followPolicy();
      void later.previews?.mainMoved().catch((error: unknown) => log.error({ err: error }, "could not see which previews are merged"));
    },
    onBranches: async (pushed, deleted, by) => later.previews?.branches(pushed, deleted, by),
  });
  undo.push(() => repository.stop());
  const statuses = new CommitStatuses({
    clock,
    log,
    forge: () => repository.policy()?.cluster.statuses ?? null,
    token: (file) => readToken(dataDir, file),
    post: postStatus,
    site: () => later.addresses?.https ?? "",
  });
  undo.push(() => statuses.stop());
  const previews = new Previews({
    clock,
    log,
    newId: randomUUID,
    store: new PreviewStore(database),
    repository,
    branch,
    enrolled: async () => (await stores.nodes.list()).filter(({ enrolledAtMs, revokedAtMs }) => enrolledAtMs !== null && revokedAtMs === null).map(({ name }) => name as NodeName),
    online: (node) => presence.get(node)?.online ?? false,
    send,
    answerTimeoutMs: settings.planTimeoutMs,
    changed: (name) => changes.preview(name),
    stands: (summary) => statuses.preview(summary),
  });
  later.previews = previews;
  undo.push(() => previews.stop());
  await previews.start();
  const checks = new Checks({
    clock,
    log,
    random: Math.random,
    onChange() {
      void later.coordination?.checksChanged();
      changes.coordination();
    },
  });
  undo.push(() => checks.stop());
  const coordination = await CoordinationService.open(
    {
      clock,
      store: new CoordinationStore(database),
      checks,
      patience: settings.patience,
      newId: randomUUID,
      send,
      askUpdates(nodes) {
        for (const node of nodes) send(node, { v: 1, kind: "updates" });
      },
      note: (entry) => stores.access.note(entry),
      hubNode: () => later.hubNode ?? null,
      power: noOutsidePower,
      changed: () => changes.coordination(),
      log,
      onBug(error) {
        // Deciding on would be worse than not deciding: systemd starts the hub again, from what is on disk.
        log.fatal({ err: error }, "the coordinator found itself in a state that must not be; the hub ends, and nothing more is decided");
        (overrides.onBug ?? (() => process.exit(70)))(error);
      },
    },
    parsedUpdates(await stores.reports.updates()),
  );
  later.coordination = coordination;
  undo.push(() => coordination.stop());
  for (const row of await stores.nodes.list()) if (row.machineId !== null && row.revokedAtMs === null) hearing.machineKnown(row.name as NodeName, row.machineId);
  await followPolicy();
  coordination.start();

  const certificateIsGood = (node: NodeName, serial: string): Promise<boolean> => stores.nodes.certificateIsGood(node, serial);
  const broker = await startBroker({ listen: settings.mqttListen, cluster, pki, clock, inbox, certificateIsGood, log });
  later.broker = broker;
  undo.push(() => broker.stop());

  const view = new FleetView({ cluster, version: packageFile.version, clock, stores, presence, desired: repository, changes });
  undo.push(
    changes.subscribe(({ topic }) => {
      if (topic === "commits") void view.cluster().then((summary) => statuses.main(summary)).catch((error: unknown) => log.error({ err: error }, "could not see how far a commit has come"));
    }),
  );
  const enrolment = new Enrolment({
    clock,
    stores,
    pki,
    cluster,
    branch,
    tokenLifetimeMs: settings.enrolmentTokenHours * 3_600_000,
    addresses: () => later.addresses ?? notListening(),
    pins: repository,
    endSessions(node) {
      broker.endSession(node);
      later.gate?.endNode(node);
      changes.node(node);
    },
  });
  // Cookies do not know ports: two hubs on one machine must not share one.
  const cookieName = `evenkeel-${pki.pin.slice("sha256:".length, "sha256:".length + 8)}`;
  const gate = new Gate({ clock, access: stores.access, limiter: new LoginLimiter(clock), cookieName, behindProxy: settings.behindProxy, certificateIsGood, log });
  later.gate = gate;
  const stopping = new AbortController();
  const app = hubApp({ view, coordination, previews, orders, enrolment, gate, access: stores.access, version: packageFile.version, changes, clock, caPem: pki.caPem, stopped: stopping.signal, log });
  const git = new GitHttp({ repository, clock, log });
  const downloads = new DownloadCache({ directory: join(dataDir, "downloads"), wanted: wantedDownloads(repository.directory, overrides.kinds ?? allKinds, () => repository.pins()?.commit ?? null), nowMs: () => clock.nowMs(), log });
  undo.push(() => downloads.stop());
  const listener = listenerFor({ app, git, downloads, gate, log });
  const tls = await serveTls(settings.httpsListen, pki, listener);
  undo.push(() => tls.stop());
  const plain = await servePlain(settings.pageListen, listener);
  undo.push(() => plain.stop());
  undo.push(() => git.stop());
  undo.push(() => stopping.abort());
  const retention = keepWithinLimits(stores, settings.retention, clock, (error) => log.error({ err: error }, "could not remove what is beyond the limits"));
  undo.push(() => retention.stop());

  const host = settings.publicHosts[0] ?? hostname();
  const https = `https://${inUrl(host)}:${tls.address.port}`;
  later.addresses = { https, git: `${https}${gitPath}`, broker: { host, port: broker.address.port } };
  const page = pageUrl(plain, settings);
  log.info({ https, page, mqtt: broker.address.port, caPin: pki.pin, dataDir, cluster }, "the hub is up");
  return {
    urls: { https, git: `${https}${gitPath}`, page, mqtt: { host, port: broker.address.port } },
    caPem: pki.caPem,
    caPin: pki.pin,
    adminToken,
    poison: broker.poison,
    loginLink: () => `${page}/login?key=${gate.makeLink({ name: "admin", role: "admin" })}`,
    stop,
  };
}

/** Runs a hub until SIGTERM or SIGINT. Resolves with the exit code. */
export async function runHub(settings: Settings, overrides: HubOverrides = {}): Promise<number> {
  const log = overrides.log ?? makeLog(settings.logLevel, process.stdout);
  // Before anything is open: a signal during the start must not be lost.
  const signalled = new Promise<NodeJS.Signals>((resolve) => {
    process.once("SIGTERM", resolve);
    process.once("SIGINT", resolve);
  });
  let hub: RunningHub;
  try {
    hub = await startHub(settings, { ...overrides, log });
  } catch (error) {
    log.fatal({ err: error }, `the hub cannot start: ${(error as Error).message}`);
    return 1;
  }
  if (process.stdout.isTTY) {
    process.stdout.write(`\n  page    ${hub.urls.page}\n  log in  ${hub.loginLink()}\n  git     ${hub.urls.git}\n  cli     evenkeel login ${hub.urls.https} --ca-pin ${hub.caPin}\n  token   ${join(settings.dataDir, "admin.token")}\n\n`);
  }
  // Keeps the process alive even if every socket were closed; the timers do not.
  const awake = setInterval(() => {}, 0x7fff_ffff);
  const signal = await signalled;
  clearInterval(awake);
  log.info({ signal }, "stopping");
  const timeout = new Promise<"late">((resolve) => systemClock.after(stopTimeoutMs, () => resolve("late")));
  const ended = await Promise.race([hub.stop().then(() => "stopped" as const), timeout]);
  if (ended === "late") log.error("did not stop in time; ending anyway, nothing stored is lost");
  else log.info("stopped");
  return ended === "late" ? 1 : 0;
}

/** The token in the file, made at the first start. The database has its hash only. */
async function prepareAdminToken(access: AccessStore, path: string, clock: Clock, reset: boolean): Promise<string | null> {
  const known = await access.tokens();
  const kept = existsSync(path) ? readFileSync(path, "utf8").trim() : null;
  if (known.length > 0 && !reset) return kept !== null && known.some(({ hash }) => hash === hashOf(kept)) ? kept : null;
  // The file first: after a crash in between, the next start takes it from there.
  const token = reset || kept === null || kept === "" ? newToken() : kept;
  writeDurably(path, `${token}\n`, 0o600);
  await access.putToken("admin", hashOf(token), "admin", clock.nowMs());
  return token;
}

function pageUrl({ address }: WebServer, settings: Settings): string {
  const { host } = settings.pageListen;
  return `http://${inUrl(host === "0.0.0.0" ? "127.0.0.1" : host === "::" ? "::1" : host)}:${address.port}`;
}

function inUrl(host: string): string {
  return isIPv6(host) ? `[${host}]` : host;
}

/** The hub's own machine, as systemd knows it; null where there is no such file. */
function machineId(): string | null {
  try {
    return readFileSync("/etc/machine-id", "utf8").trim();
  } catch {
    return null;
  }
}

/** What an older hub stored may no longer be read: then the node says it again soon. */
function parsedUpdates(rows: ReadonlyMap<string, string>): ReadonlyMap<NodeName, UpdatesMessage> {
  return new Map(
    [...rows].flatMap(([node, body]) => {
      const parsed = UpdatesMessage.safeParse(JSON.parse(body));
      return parsed.success ? [[NodeName.parse(node), parsed.data] as const] : [];
    }),
  );
}

function notListening(): never {
  throw new Error("the hub does not listen yet");
}

function once(work: () => Promise<void>): () => Promise<void> {
  let running: Promise<void> | undefined;
  return () => (running ??= work());
}
