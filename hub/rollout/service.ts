import type { Logger } from "pino";
import type { Clock, Timer } from "../../shared/clock.ts";
import { isoTime } from "../../shared/clock.ts";
import { WHOLE_CLUSTER } from "../../shared/config/policy.ts";
import type { LeaseId, NodeName } from "../../shared/ids.ts";
import { shortCommit } from "../../shared/ids.ts";
import type { CommitOrder } from "../../shared/protocol/commit.ts";
import type { LeaseMessage, LeaseOrder } from "../../shared/protocol/lease.ts";
import type { CoordinationSummary, HoldWord, LeaseTake, NodeWord, ReasonWord, RolloutStart, RolloutView, RolloutWord, WhyAnswer } from "../../shared/protocol/rollout.ts";
import type { UpdatesMessage } from "../../shared/protocol/updates.ts";
import { blackoutAt, blackoutEndMs, nextWindow, windowAt } from "../../shared/window.ts";
import type { OutsidePower } from "../bmc/power.ts";
import { lookOutside } from "../bmc/power.ts";
import type { Checks } from "../checks/checks.ts";
import type { Coordination, Word } from "../coordination.ts";
import { Budget } from "../coordinator/budget.ts";
import { standingGates } from "../coordinator/gates.ts";
import type { CoordinatorStore } from "../coordinator/run.ts";
import { Runner } from "../coordinator/run.ts";
import type { Answer, Effect, Member, Patience, Terms } from "../coordinator/state.ts";
import { EVERYWHERE } from "../coordinator/state.ts";
import type { Campaigns } from "./campaigns.ts";
import { activeRollout, withRollout } from "./campaigns.ts";
import { Conductor } from "./conductor.ts";
import type { Policy } from "./plan.ts";
import type { DesiredPolicy } from "./policy.ts";
import { policyOf } from "./policy.ts";
import { newRollout, planOf } from "./plan.ts";
import { cancelled, resumed } from "./step.ts";
import type { Scene } from "./view.ts";
import { denialView, groupViews, holdViews, leaseView, requestView, rolloutView, updatesView } from "./view.ts";
import { whyOf } from "./why.ts";

export interface ServiceParts {
  readonly clock: Clock;
  readonly store: CoordinatorStore<Campaigns>;
  readonly checks: Checks;
  readonly patience: Patience;
  readonly newId: () => string;
  readonly send: (node: NodeName, order: LeaseOrder | CommitOrder) => void;
  readonly askUpdates: (nodes: readonly NodeName[]) => void;
  readonly note: (entry: { atMs: number; actor: string; action: string; subject: string; detail: string }) => Promise<void>;
  /** The machine that the hub runs on, when a node has said that it is the same. */
  readonly hubNode: () => NodeName | null;
  readonly power: OutsidePower;
  readonly changed: () => void;
  readonly log: Logger;
  readonly onBug: (error: unknown) => void;
}

const TICK_MS = 5_000;
/** While somebody waits for a soak to end. */
const TICK_BUSY_MS = 1_000;
const COUNTS_KEPT_EVERY_MS = 30_000;

/** Slots and rollouts for the rest of the hub: what happened goes in here, and what people ask. */
export class CoordinationService implements Coordination {
  readonly #parts: ServiceParts;
  readonly #runner: Runner<Campaigns>;
  readonly #conductor: Conductor;
  #desired: DesiredPolicy | null = null;
  #timer: Timer | null = null;
  #failing: string | null = null;
  /** The rollout that requests are counted for, and the one before. */
  #counting: string | null = null;
  #counted = "";
  #keptMs = 0;

  private constructor(parts: ServiceParts, runner: Runner<Campaigns>, conductor: Conductor) {
    this.#parts = parts;
    this.#runner = runner;
    this.#conductor = conductor;
  }

  static async open(parts: ServiceParts, known: ReadonlyMap<NodeName, UpdatesMessage>): Promise<CoordinationService> {
    const conductor = new Conductor(parts.newId, known);
    const act = (effect: Effect): void | Promise<void> => {
      if (effect.do === "send") parts.send(effect.node, effect.order);
      else if (effect.do === "ask-updates") parts.askUpdates(effect.nodes);
      else if (effect.do === "tell-commit") {
        for (const node of effect.nodes) parts.send(node, effect.order);
        parts.changed();
      } else if (effect.do === "look-outside") return tellPower(parts, effect.node);
      else if (effect.do === "note") {
        parts.log[effect.level === "warning" ? "warn" : "info"]({ subject: effect.subject, by: effect.by, action: effect.action }, effect.text);
        return parts.note({ atMs: parts.clock.nowMs(), actor: effect.by, action: effect.action, subject: effect.subject, detail: effect.text });
      }
    };
    const runner = await Runner.open({ store: parts.store, companion: conductor, clock: parts.clock, patience: parts.patience, newId: parts.newId, act, changed: parts.changed, onBug: parts.onBug }, parts.newId());
    return new CoordinationService(parts, runner, conductor);
  }

  /** Time passes from now on. */
  start(): void {
    const tick = (): void => {
      const { durable } = this.#runner.state;
      const isBusy = durable.leases.size > 0 || durable.requests.size > 0 || activeRollout(this.#runner.extra) !== null || (this.#conductor.course?.state ?? "released") !== "released";
      this.#timer = this.#parts.clock.after(isBusy ? TICK_BUSY_MS : TICK_MS, () => {
        void this.checksChanged();
        this.#count();
        void this.#runner.handle({ kind: "tick" }).catch(() => {});
        tick();
      });
    };
    tick();
  }

  async stop(): Promise<void> {
    this.#timer?.cancel();
    if (this.#counting !== null) await this.#keepCounts(this.#counting);
    await this.#runner.stop();
  }

  // What happens in the cluster.

  /** A commit was taken in, or the hub has started with it. */
  async follow(desired: DesiredPolicy): Promise<void> {
    this.#desired = desired;
    const members: Member[] = desired.nodes.map(({ name, fleetlock }) => ({ name, agent: fleetlock === null }));
    const groups = new Map<string, Omit<Terms, "commit">>();
    const { [WHOLE_CLUSTER]: whole, ...named } = desired.cluster.groups;
    if (members.length > 0) groups.set(WHOLE_CLUSTER, { members: members.map(({ name }) => name), maxUnavailable: whole?.maxUnavailable, acceptOutage: whole?.acceptOutage ?? false });
    for (const [name, group] of Object.entries(named)) groups.set(name, { members: group.members ?? [], maxUnavailable: group.maxUnavailable, acceptOutage: group.acceptOutage });
    this.#conductor.follow(this.#policy());
    this.#parts.checks.use(desired.cluster.checks);
    await this.#runner.handle({ kind: "membership", commit: desired.commit, members, groups });
    await this.checksChanged();
  }

  async word(node: NodeName, word: LeaseMessage): Promise<void> {
    await this.#runner.handle({ kind: "word", node, word });
  }

  async gone(node: NodeName): Promise<void> {
    await this.#runner.handle({ kind: "gone", node });
  }

  /** A node has said hello: it may have missed what became of the newest commit. */
  here(node: NodeName): void {
    const order = this.#conductor.hello(node);
    if (order !== null) this.#parts.send(node, order);
  }

  updates(node: NodeName, message: UpdatesMessage): void {
    this.#conductor.heard(node, message);
    this.#parts.changed();
    void this.#runner.handle({ kind: "tick" }).catch(() => {});
  }

  /** Tells the coordinator which gating checks are not well, if that is news to it. */
  async checksChanged(): Promise<void> {
    if (this.#desired === null) return;
    const failing = this.#parts.checks.standingInTheWay();
    const text = failing.join(" ");
    if (text === this.#failing) return;
    this.#failing = text;
    await this.#runner.handle({ kind: "checks", failing }).catch(() => {});
  }

  // What people want to know.

  #scene(): Scene {
    return {
      state: this.#runner.state,
      campaigns: this.#runner.extra,
      watch: this.#conductor.watch,
      now: this.#runner.now(),
      patience: this.#parts.patience,
      updates: this.#conductor.updates,
      sinceTurn: this.#conductor.sinceTurn(this.#runner.now().monoMs),
      counts: ({ id, counts }) => Object.entries(this.#parts.checks.countsOf(id) ?? counts).map(([check, { looked, failed }]) => ({ check, looked, failed })),
    };
  }

  async summary(): Promise<CoordinationSummary> {
    const scene = this.#scene();
    const budget = new Budget(scene.state, scene.now, scene.patience);
    const policy = this.#policy();
    const rollout = activeRollout(scene.campaigns) ?? [...scene.campaigns.rollouts.values()].at(-1) ?? null;
    const { updates, windows } = policy;
    const next = windowAt(windows, updates.windows, scene.now.wallMs) ?? nextWindow(windows, updates.windows, scene.now.wallMs);
    const blackout = blackoutAt(updates.blackouts, scene.now.wallMs);
    return {
      groups: groupViews(budget),
      gates: standingGates(scene.state).map(({ node, text }) => ({ node, text })),
      leases: [...scene.state.durable.leases.values()].map(leaseView),
      requests: [...scene.state.durable.requests.values()].map((request) => requestView(request, budget)),
      holds: holdViews(scene.state),
      rollout: rollout === null ? null : rolloutView(rollout, scene, budget),
      ...(this.#conductor.course !== null && { commit: this.#conductor.course }),
      nextWindow: next === null ? null : { name: next.name, opensAt: isoTime(next.opensAtMs), closesAt: isoTime(next.closesAtMs) },
      blackout: blackout === null ? null : { until: isoTime(blackoutEndMs(blackout)), why: blackout.why },
      checks: this.#parts.checks.states(),
      updates: policy.nodes.map((node) => updatesView(node, scene.updates.get(node))),
      hubNode: policy.hubNode,
    };
  }

  async rollouts(): Promise<RolloutView[]> {
    const scene = this.#scene();
    const budget = new Budget(scene.state, scene.now, scene.patience);
    return [...scene.campaigns.rollouts.values()].toReversed().map((rollout) => rolloutView(rollout, scene, budget));
  }

  async rollout(id: string): Promise<RolloutView | null> {
    const scene = this.#scene();
    const rollout = scene.campaigns.rollouts.get(id);
    return rollout === undefined ? null : rolloutView(rollout, scene, new Budget(scene.state, scene.now, scene.patience));
  }

  async why(name: string): Promise<WhyAnswer | null> {
    const scene = this.#scene();
    const node = name as NodeName;
    if (!scene.state.durable.members.has(node)) return null;
    return whyOf(node, scene, this.#policy(), this.#conductor.behind(node));
  }

  // What people ask for.

  async startRollout(start: RolloutStart, by: string): Promise<Word> {
    const policy = this.#policy();
    const unknown = start.nodes?.find((node) => !policy.nodes.includes(node));
    if (unknown !== undefined) return no("unknown-node", `there is no node ${unknown} with an agent in the repository`, "`evenkeel status` shows the nodes");
    if (policy.nodes.length === 0) return no("no-nodes", "there is no node in the repository yet", "push one, and enrol it");
    const id = this.#parts.newId();
    let window: { name: string; closesAtMs: number } | null = null;
    if (start.window !== undefined) {
      const open = Object.hasOwn(policy.windows, start.window) ? windowAt(policy.windows, [start.window], this.#parts.clock.nowMs()) : null;
      if (open === null) return no("window", `the window ${start.window} is not open now`, "leave the window out to start at once, or wait");
      window = { name: start.window, closesAtMs: open.closesAtMs };
    }
    const refused = await this.#runner.alter((campaigns, now) => {
      const active = activeRollout(campaigns);
      if (active !== null) return { refused: `a rollout is ${active.phase} already (started by ${active.startedBy})` };
      const rollout = newRollout(policy, { id, kind: start.kind, ...(start.kind === "change" && { commit: this.#runner.state.durable.commit }), startedBy: by, nowMs: now.wallMs, nodes: start.nodes, scope: start.scope, window });
      return { extra: withRollout(campaigns, rollout), events: [] };
    });
    if (refused !== null) return no("rollout", refused, "`evenkeel rollout` shows it; resume or cancel it first");
    await this.#noteBy(by, "rollout-start", id, start.kind);
    this.#count();
    await this.#runner.handle({ kind: "tick" });
    return { ok: true, lease: null, rollout: id };
  }

  async steerRollout(id: string, what: "halt" | "resume" | "cancel", word: RolloutWord, by: string): Promise<Word> {
    const refused = await this.#runner.alter((campaigns, now) => {
      const rollout = campaigns.rollouts.get(id);
      if (rollout === undefined) return { refused: `there is no rollout ${id}` };
      if (what === "halt") {
        if (rollout.phase !== "running") return { refused: `the rollout is ${rollout.phase}, not running` };
        return { extra: withRollout(campaigns, { ...rollout, phase: "halted", halt: { atMs: now.wallMs, node: null, why: `${by}: ${word.why}`, cure: "`evenkeel rollout resume` goes on" } }), events: [] };
      }
      if (what === "resume") {
        const next = resumed(rollout, word.failed);
        return "refused" in next ? next : { extra: withRollout(campaigns, next), events: [] };
      }
      const ended = cancelled(rollout, now.wallMs);
      if ("refused" in ended) return ended;
      return { extra: withRollout(campaigns, ended.rollout), events: ended.withdraw.map((lease) => ({ kind: "withdraw" as const, id: lease, why: "the rollout was cancelled" })) };
    });
    if (refused !== null) return no("rollout", refused, "`evenkeel rollout` shows how it stands");
    await this.#noteBy(by, `rollout-${what}`, id, word.why);
    this.#count();
    await this.#runner.handle({ kind: "tick" });
    return { ok: true, lease: null, rollout: id };
  }

  async releaseCommit(commit: string, { why }: ReasonWord, by: string): Promise<Word> {
    const refused = await this.#runner.alter((campaigns) => {
      const { course } = this.#conductor;
      if (course === null) return { refused: "commits go everywhere at once: none waits for a canary" };
      if (!course.commit.startsWith(commit)) return { refused: `the newest commit is ${shortCommit(course.commit)}, and not ${shortCommit(commit)}` };
      return { extra: course.state === "released" ? campaigns : { ...campaigns, released: { commit: course.commit, by: `${by}: ${why}`.slice(0, 500) } }, events: [] };
    });
    if (refused !== null) return no("commit", refused, "`evenkeel status` shows how the newest commit goes");
    await this.#noteBy(by, "commit-release", commit, why);
    await this.#runner.handle({ kind: "tick" });
    return { ok: true, lease: null, rollout: null };
  }

  async ask(node: string, what: "drain" | "reboot", word: NodeWord, by: string): Promise<Word> {
    const plan = planOf(this.#policy().updates, undefined);
    const id = this.#parts.newId() as LeaseId;
    const answer = await this.#runner.handle({
      kind: "request",
      request: {
        id,
        node: node as NodeName,
        work: what === "drain" ? { do: "hold" } : { do: "reboot" },
        drain: word.despiteChecks ? { ...plan.drain, despiteGates: true } : plan.drain,
        soakMs: plan.soakMs,
        expectedMs: plan.nodeMs,
        by,
        rollout: null,
        despiteChecks: word.despiteChecks,
      },
    });
    if (answer.ok) await this.#noteBy(by, what, node, word.why);
    return wordOf(answer);
  }

  async resume(node: string, by: string): Promise<Word> {
    const { durable } = this.#runner.state;
    const held = [...durable.requests.values(), ...durable.leases.values()].find((each) => each.node === node && each.work.do === "hold" && each.rollout === null);
    if (held === undefined) return no("not-held", `${node} is not drained, and nobody has asked for it`, "`evenkeel why NODE` says what is going on");
    return wordOf(await this.#runner.handle(durable.requests.has(held.id) ? { kind: "abort", id: held.id, by, why: `resumed by ${by}` } : { kind: "finish", id: held.id, by }));
  }

  async hold({ what, why, until }: HoldWord, by: string): Promise<Word> {
    if (what !== EVERYWHERE && !this.#runner.state.durable.members.has(what as NodeName)) return no("unknown-node", `there is no node ${what} in the repository`, "`evenkeel status` shows the nodes");
    const sinceMs = this.#parts.clock.nowMs();
    return wordOf(await this.#runner.handle({ kind: "hold", what, hold: { by, why, sinceMs, untilMs: until === null ? null : Date.parse(until) } }));
  }

  async unhold(what: string, by: string): Promise<Word> {
    return wordOf(await this.#runner.handle({ kind: "unhold", what, by }));
  }

  async abort(lease: string, { why }: ReasonWord, by: string): Promise<Word> {
    return wordOf(await this.#runner.handle({ kind: "abort", id: lease as LeaseId, by, why }));
  }

  async clear(lease: string, { why }: ReasonWord, by: string): Promise<Word> {
    return wordOf(await this.#runner.handle({ kind: "clear", id: lease as LeaseId, by, why }));
  }

  async settle(group: string, { why }: ReasonWord, by: string): Promise<Word> {
    return wordOf(await this.#runner.handle({ kind: "settle", group, by, why }));
  }

  async take({ id, node, why }: LeaseTake, by: string): Promise<Word> {
    return wordOf(await this.#runner.handle({ kind: "take", id, node, holder: "script", by: `${by}: ${why}`.slice(0, 200), soakMs: 0 }));
  }

  async giveBack(lease: string, by: string): Promise<Word> {
    const id = lease as LeaseId;
    const held = this.#runner.state.durable.leases.get(id);
    if (held === undefined) return { ok: true, lease: id, rollout: null };
    if (held.holder !== "script") return no("not-a-script", `${lease} is not a script's slot: it is given back when ${held.node} is back and well`, `\`evenkeel why ${held.node}\` says what it waits for`);
    return wordOf(await this.#runner.handle({ kind: "give-back", node: held.node, holder: "script", id, by }));
  }

  async takeFleetLock(id: string, group: string): Promise<Word | null> {
    const node = this.#lockNode(id, group);
    if (node === null) return null;
    return wordOf(await this.#runner.handle({ kind: "take", id: this.#parts.newId() as LeaseId, node, holder: "fleetlock", by: `${node} (FleetLock)`, soakMs: planOf(this.#policy().updates, undefined).soakMs }));
  }

  async giveBackFleetLock(id: string, group: string): Promise<Word | null> {
    const node = this.#lockNode(id, group);
    return node === null ? null : wordOf(await this.#runner.handle({ kind: "give-back", node, holder: "fleetlock", id: null, by: node }));
  }

  #lockNode(id: string, group: string): NodeName | null {
    return this.#desired?.nodes.find(({ fleetlock }) => fleetlock !== null && fleetlock.id === id && fleetlock.group === group)?.name ?? null;
  }

  #policy(): Policy {
    return policyOf(this.#desired, this.#parts.hubNode());
  }

  /** Whoever runs the machine of the hub has become known. */
  hubNodeKnown(): void {
    this.#conductor.follow(this.#policy());
  }

  /** Requests are counted while a rollout is going on; what was counted is kept, so that a restart of the hub forgets little. */
  #count(): void {
    const { checks } = this.#parts;
    const active = activeRollout(this.#runner.extra);
    if (active?.id !== this.#counting) {
      if (this.#counting !== null) void this.#keepCounts(this.#counting).finally(() => checks.stopCounting(this.#counted));
      this.#counted = this.#counting ?? "";
      this.#counting = active?.id ?? null;
      if (active !== null) checks.startCounting(active.id, active.counts);
    } else if (active !== null && this.#parts.clock.monotonicMs() - this.#keptMs > COUNTS_KEPT_EVERY_MS) void this.#keepCounts(active.id);
  }

  async #keepCounts(id: string): Promise<void> {
    this.#keptMs = this.#parts.clock.monotonicMs();
    const counts = this.#parts.checks.countsOf(id);
    if (counts === null) return;
    await this.#runner
      .alter((campaigns) => {
        const rollout = campaigns.rollouts.get(id);
        return rollout === undefined ? { refused: "gone" } : { extra: withRollout(campaigns, { ...rollout, counts }), events: [] };
      })
      .catch(() => {});
  }

  async #noteBy(by: string, action: string, subject: string, detail: string): Promise<void> {
    await this.#parts.note({ atMs: this.#parts.clock.nowMs(), actor: by, action, subject, detail });
  }
}

/** Not waited for: a BMC may take a minute, and the coordinator must not. */
function tellPower({ power, log, note, clock }: ServiceParts, node: NodeName): void {
  void lookOutside(power, node)
    .then(async (text) => {
      log.warn({ node }, text);
      await note({ atMs: clock.nowMs(), actor: "hub", action: "power", subject: node, detail: text });
    })
    .catch((error: unknown) => log.error({ err: error, node }, "could not look at a node's power"));
}

function wordOf(answer: Answer): Word {
  return answer.ok ? { ok: true, lease: answer.lease ?? null, rollout: null } : { ok: false, denials: answer.denials.map(denialView) };
}

function no(code: string, text: string, cure: string): Word {
  return { ok: false, denials: [{ code, text, cure, since: null }] };
}

