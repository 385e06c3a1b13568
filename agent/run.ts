import { join } from "node:path";
import { randomUUID } from "node:crypto";
import { readFile } from "node:fs/promises";
import type { Kind } from "../shared/kinds/kind.ts";
import type { BootId } from "../shared/ids.ts";
import type { CommitStanding } from "../shared/protocol/lease.ts";
import type { ConvergeReport } from "../shared/protocol/report.ts";
import type { OrderMessage } from "../shared/protocol/messages.ts";
import { serveControl } from "./control.ts";
import type { Reply, Request } from "./control.ts";
import { ensureIdentity, ensureRecipient } from "./identity.ts";
import { MemoryBack } from "./host/memory-back.ts";
import { PathEvents } from "./host/path-events.ts";
import type { Processes } from "./host/process.ts";
import { UnitSignals } from "./host/unit-signals.ts";
import { Journal } from "./journal.ts";
import { renew, renewalDue } from "./link/enrol.ts";
import { Link } from "./link/link.ts";
import { Spool } from "./link/spool.ts";
import type { AgentEvent } from "./link/spool.ts";
import { Loop } from "./loop.ts";
import type { Status } from "./loop.ts";
import { Change, failureOf } from "./lease/change.ts";
import { Drain, drainFile } from "./lease/drain.ts";
import { isAway, Leases } from "./lease/run.ts";
import { Well } from "./lease/well.ts";
import { Updates } from "./updates/updates.ts";
import { Exchange } from "./values/exchange.ts";
import { AGENT_VERSION, openMachine, takeLock } from "./machine.ts";
import type { Machine } from "./machine.ts";
import { controlPath } from "./settings.ts";
import type { Places, Settings } from "./settings.ts";
import { systemClock } from "./system-clock.ts";

const UPDATES_EVERY_MS = 3_600_000;
/** The archives are asked every so many looks, so that a window knows whether there is anything to do. */
const LOOKS_PER_REFRESH = 6;
const REBOOT_ASK_TIMEOUT_MS = 60_000;
const FACTS_EVERY_MS = 6 * 3_600_000;
const RENEWAL_LOOK_EVERY_MS = 3_600_000;

/** The resident agent. Resolves when it has been told to stop and has stopped. */
export async function runAgent(settings: Settings, places: Places, kinds: readonly Kind[]): Promise<void> {
  if (!(await takeLock(places))) throw new Error("another evenkeel-agent runs on this machine");
  // A node that was enrolled by an agent without secrets gets its key now.
  const recipient = await ensureRecipient(places);
  const machine = await openMachine(settings, places, kinds);
  // First of all: the node may be cut off by what an earlier run has left.
  await machine.engine.settle();
  await machine.repository.prepare();
  const bootId = (await readFile("/proc/sys/kernel/random/boot_id", "utf8")).trim() as BootId;
  const spool = await Spool.open(join(places.stateDir, "spool"), (message) => console.log(message));
  const journal = new Journal(join(places.stateDir, "log.jsonl"));
  const log = (message: string) => console.log(message);
  const tell = async (event: AgentEvent) => {
    await spool.add(event);
    link?.flush();
  };

  const loop: Loop = new Loop({
    settings,
    repository: machine.repository,
    chooser: machine.chooser,
    engine: machine.engine,
    inventory: machine.inventory,
    kinds,
    clock: systemClock,
    random: Math.random,
    values: { hand: () => values.hand() },
    onBug: (error) => {
      // A state that nobody thought of: start anew from what is on disk (systemd does, after a pause).
      console.error(error);
      process.exit(70);
    },
    events: {
      async report(report) {
        log(`${report.outcome} at ${report.commit.slice(0, 8)} (${report.cause}): ${report.changes.length} change${report.changes.length === 1 ? "" : "s"} in ${report.tookMs.toFixed(0)} ms`);
        lastReport = report;
        leases.look();
        for (const change of report.changes) if (change.result !== "done") log(`${change.resource}: ${change.result}: ${change.error ?? change.why}`);
        await journal.add(report);
        await tell({ kind: "converged", report });
      },
      async refused(commit, message) {
        log(`refused commit ${commit.slice(0, 8)}: ${message}`);
        await tell({ kind: "refused", commit, message: message.slice(0, 4_000), at: new Date().toISOString() });
      },
      status: (status) => link?.publish("converge", { v: 1, ...status }),
      desired(desired, all) {
        const watches = all.flatMap((kind) => (desired.sections.has(kind.name) && kind.watch !== undefined ? [kind.watch(desired.sections.get(kind.name))] : []));
        pathEvents.watch(watches.flatMap((watch) => watch.paths ?? []));
        unitSignals.watch(watches.flatMap((watch) => watch.units ?? []));
        memory.touched();
      },
      log,
    },
  });
  let lastReport: ConvergeReport | null = null;
  const updates = new Updates({ processes: machine.processes, probe: machine.host.probe, clock: systemClock, stateDir: places.stateDir });
  let updatesLooks = 0;
  let lookingAtUpdates: Promise<void> = Promise.resolve();
  /** One look after the other; while a lease is in hand, apt is busy with it, and the look comes afterwards. */
  const tellUpdates = (refresh: boolean): Promise<void> => {
    lookingAtUpdates = lookingAtUpdates.catch(() => {}).then(async () => {
      if (link === null || leases.record !== null) return;
      if (refresh) await updates.refresh();
      link.publish("updates", await updates.look());
    });
    return lookingAtUpdates;
  };
  const drain = await Drain.open({ kinds, probe: machine.host.probe, run: machine.processes.run, clock: systemClock, store: drainFile(places.stateDir), bootId, lockPath: join(places.runDir, "drain.lock") });
  const well = new Well({ probe: machine.host.probe, sections: () => loop.desired?.sections ?? null, converge: () => lastReport, drained: () => drain.drainedUnits(), failedBefore: () => (leases.record === null ? new Set() : drain.failedBefore()) });
  const leases: Leases = await Leases.open({
    stateDir: places.stateDir,
    bootId,
    clock: systemClock,
    newId: randomUUID,
    drainer: {
      async drain(lease, policy, progress, signal) {
        if (loop.desired === null) return { failed: "no commit has been chosen yet, so that it is not known what is to be drained" };
        return drain.drain({ lease, sections: loop.desired.sections, policy, progress, signal });
      },
      restore: (progress, signal) => drain.restore(progress, signal),
    },
    updater: updates,
    changer: new Change({ stateDir: places.stateDir, plan: () => loop.plan(null), converge: (options) => loop.disrupt(drain.drainedUnits(), options) }),
    async look() {
      const { trouble } = await well.look();
      // On its way down or back it is the one that is missing: what it has against others' going is asked before and after.
      const gates = isAway(leases.record) ? undefined : await drain.gates(loop.desired?.sections ?? new Map());
      const { status } = loop;
      return { healthy: trouble.length === 0, trouble, gates, cordonedBy: null, commit: status.outcome === "converged" || status.outcome === "held" ? status.commit : null, ...(lastReport !== null && { standing: standingOf(lastReport) }) };
    },
    say: (word) => link?.publish("lease", word),
    async reboot() {
      const { code, stderr } = await machine.processes.run(["systemctl", "reboot"], { timeoutMs: REBOOT_ASK_TIMEOUT_MS });
      if (code !== 0) throw new Error(`systemctl reboot: ${stderr.trim() || `it ended with ${code}`}`);
    },
    pause: (why) => loop.pause(why),
    over: () => void tellUpdates(false).catch((error: unknown) => log(`could not look at pending updates: ${String(error)}`)),
    log,
  });
  const memory = new MemoryBack(systemClock);
  const values = new Exchange({
    self: settings.node,
    kinds,
    probe: machine.host.probe,
    run: machine.processes.run,
    desired: () => loop.desired,
    ownedOf: (kind) => machine.inventory.ownedOf(kind),
    identity: async () => (await ensureIdentity(places))?.identity ?? null,
    clock: systemClock,
    newId: randomUUID,
    tell,
    arrived: () => loop.given(),
    log,
  });
  const pathEvents = new PathEvents((path) => loop.drifted(path));
  const unitSignals = new UnitSignals(systemClock, (unit) => loop.drifted(unit));
  const link = settings.broker === null ? null : makeLink(settings, places, spool, loop, leases, values, tell, () => tellUpdates(true), log);
  const control = await serveControl(controlPath(places), (request, reply) => answer(request, reply, loop, settings, link));

  const stopping = new Promise<void>((resolve) => {
    for (const signal of ["SIGTERM", "SIGINT"] as const) process.once(signal, resolve);
  });
  // Timers do not keep the process alive; the control socket does.
  if (link !== null) await greet(link, spool, machine, recipient);
  link?.start();
  const housekeeping = repeat(RENEWAL_LOOK_EVERY_MS, () => renewWhenDue(settings, places, link, log));
  const facts = repeat(FACTS_EVERY_MS, () => tellFacts(machine.processes, link));
  await leases.prepare();
  // Under a lease, this is part of its work.
  if (leases.record?.phase !== "working" || leases.record.work.do !== "update") await updates.recover();
  await loop.start();
  await leases.start();
  const updatesLook = repeat(UPDATES_EVERY_MS, () => tellUpdates(updatesLooks++ % LOOKS_PER_REFRESH === 1));

  await stopping;
  log("stopping: the step at hand is finished first");
  housekeeping.cancel();
  facts.cancel();
  updatesLook.cancel();
  await leases.stop();
  values.stop();
  pathEvents.stop();
  unitSignals.stop();
  await loop.stop();
  await link?.stop();
  control.close();
}

function makeLink(settings: Settings, places: Places, spool: Spool, loop: Loop, leases: Leases, values: Exchange, tell: (event: AgentEvent) => Promise<void>, lookAtUpdates: () => Promise<void>, log: (message: string) => void): Link {
  let told = "";
  return new Link({
    places,
    settings,
    spool,
    clock: systemClock,
    random: Math.random,
    events: {
      connected() {
        told = "";
        log("connected to the hub");
        loop.linked(true);
        // Hints that were sent meanwhile are lost: look.
        loop.look();
        leases.connected();
      },
      disconnected(reason) {
        loop.linked(false);
        if (told === reason) return;
        told = reason;
        log(`no connection to the hub: ${reason}; reports wait on disk, the node keeps itself in shape, and it is tried again by itself`);
      },
      order: (order) => void obey(order, loop, leases, values, tell, lookAtUpdates, log).catch((error: unknown) => log(`could not answer the hub: ${String(error)}`)),
    },
  });
}

/**
 * Hints, questions, and leases. None of them can make this node apply anything but its repository; under a lease it drains,
 * installs what its own archives offer, and reboots.
 */
async function obey(order: OrderMessage, loop: Loop, leases: Leases, values: Exchange, tell: (event: AgentEvent) => Promise<void>, lookAtUpdates: () => Promise<void>, log: (message: string) => void): Promise<void> {
  switch (order.kind) {
    case "look":
      loop.look();
      return;
    case "mark":
      loop.hubMark(order.commit);
      return;
    case "plan": {
      const plan = await loop.plan(order.branch, order.commit);
      await tell("error" in plan ? { kind: "plan-failed", id: order.id, message: plan.error.slice(0, 4_000) } : { kind: "planned", id: order.id, report: plan });
      return;
    }
    case "refused":
      log(`the hub refuses this node: ${order.message}`);
      return;
    case "ack":
      return;
    case "updates":
      await lookAtUpdates();
      return;
    case "commit":
      loop.commitTold(order);
      return;
    case "make":
    case "value":
    case "no-value":
      await values.order(order);
      return;
    default:
      leases.order(order);
  }
}

async function answer(request: Request, reply: (reply: Reply) => void, loop: Loop, settings: Settings, link: Link | null): Promise<void> {
  if (request.do === "status") {
    reply({ is: "status", status: { node: settings.node, cluster: settings.cluster, version: AGENT_VERSION, hub: settings.hub, linked: link?.connected ?? false, ...loop.status } as Extract<Reply, { is: "status" }>["status"] });
    return;
  }
  if (request.do === "plan") {
    const plan = await loop.plan(request.branch);
    reply("error" in plan ? { is: "error", message: plan.error } : { is: "plan", report: plan });
    return;
  }
  const report = await loop.apply({
    onProgress: (action) => reply({ is: "progress", action }),
    ...(request.removalsAllowed === undefined ? {} : { removalsAllowed: request.removalsAllowed }),
    ...(request.retry === undefined ? {} : { retry: request.retry }),
    // Where there is a hub, it gives each node its turn.
    ...(request.disruptive === true && settings.hub === null && { disruption: "allowed" as const }),
  });
  if ("error" in report) reply({ is: "error", message: report.error });
  else reply({ is: "apply", report, notes: notesOf(loop.status) });
}

function notesOf({ refused, problems, commit }: Status): string[] {
  return [
    ...(refused === null ? [] : [`refused ${refused.commit.slice(0, 8)}, and kept ${commit?.slice(0, 8) ?? "nothing"}: ${refused.message}`]),
    ...problems.filter((problem) => problem.code === "fetch" || problem.code === "canary").map((problem) => problem.message),
  ];
}

async function greet(link: Link, spool: Spool, machine: Machine, recipient: string | null): Promise<void> {
  const [bootId, machineId, last] = await Promise.all([readFile("/proc/sys/kernel/random/boot_id", "utf8"), readFile("/etc/machine-id", "utf8"), machine.chooser.last()]);
  link.publish("state", {
    v: 1,
    online: true,
    bootId: bootId.trim() as never,
    machineId: machineId.trim(),
    agentVersion: AGENT_VERSION,
    startedAt: new Date().toISOString(),
    stream: spool.stream,
    mark: last?.ok ? (last.mark.commit as never) : null,
    ...(recipient !== null && { recipient }),
  });
}

async function renewWhenDue(settings: Settings, places: Places, link: Link | null, log: (message: string) => void): Promise<void> {
  if (settings.hub === null || !(await renewalDue(places, Date.now()).catch(() => false))) return;
  const renewed = await renew(settings, places);
  log(renewed.ok ? "the node's certificate was renewed" : `the node's certificate could not be renewed: ${renewed.message}; it is tried again in an hour`);
  if (renewed.ok) link?.reconnect();
}

/** In a process of its own: see facts.ts. */
async function tellFacts(processes: Processes, link: Link | null): Promise<void> {
  if (link === null) return;
  const program = process.argv[1];
  if (program === undefined) return;
  const output = await processes.run([process.execPath, program, "facts"]);
  if (output.code !== 0) return;
  link.publish("facts", { v: 1, facts: JSON.parse(output.stdout) as Record<string, string> });
}

/** What the hub needs to know of a converge to give the node its turn, and to let others follow it. */
function standingOf(report: ConvergeReport): CommitStanding {
  return { commit: report.commit, outcome: report.outcome, heldBack: (report.held ?? []).slice(0, 20), failure: failureOf(report)?.split("\n", 1)[0]?.slice(0, 500) ?? null };
}

function repeat(everyMs: number, work: () => Promise<void>): { cancel(): void } {
  const safely = () => void work().catch((error: unknown) => console.error(error));
  safely();
  const timer = setInterval(safely, everyMs);
  timer.unref();
  return { cancel: () => clearInterval(timer) };
}

