import type { Logger } from "pino";
import type { Clock } from "../../shared/clock.ts";
import type { NodeName } from "../../shared/ids.ts";
import type { ConvergeMessage, EventMessage, OrderMessage, StateMessage } from "../../shared/protocol/messages.ts";
import type { LeaseMessage } from "../../shared/protocol/lease.ts";
import type { UpdatesMessage } from "../../shared/protocol/updates.ts";
import type { AskEvent, MadeEvent, NotMadeEvent } from "../../shared/protocol/values.ts";
import type { MessageOf, WrittenBy } from "../../shared/protocol/topics.ts";
import type { ConvergeReport } from "../../shared/protocol/report.ts";
import type { Stores } from "../store/retention.ts";
import type { Changes } from "./changes.ts";
import type { Orders, PlanAnswer } from "./orders.ts";
import type { Presence, Session } from "./presence.ts";

/** One message out of the table of topics, parsed. */
export type NodeMessage = { [T in WrittenBy<"node">]: { readonly what: T; readonly message: MessageOf<T> } }[WrittenBy<"node">];

/** Who decides about slots: told of every word, in the order in which a node said them. */
export interface Hearing {
  word(node: NodeName, word: LeaseMessage): Promise<void>;
  gone(node: NodeName): Promise<void>;
  updates(node: NodeName, message: UpdatesMessage): void;
  /** A node has said which machine it is. */
  machineKnown(node: NodeName, machineId: string): void;
  /** A node has said hello, and listens to its orders. */
  here(node: NodeName): Promise<void>;
  /** What a node asks of others, and what one has made for another. */
  value(node: NodeName, event: AskEvent | MadeEvent | NotMadeEvent): void;
  /** A node has planned, or says why not. False when nobody here had asked for it under that id. */
  planned(node: NodeName, id: string, answer: PlanAnswer): Promise<boolean>;
}

/** How often a node that only pings gets its `lastSeen` written down. */
const lastSeenStoredEveryMs = 30_000;

/**
 * What the hub does with what nodes say. The caller hands over one node's messages one after the other, and tells the
 * node that a message has arrived only after {@link Inbox.take} has returned: by then it is in the database.
 */
export class Inbox {
  readonly #clock: Clock;
  readonly #stores: Stores;
  readonly #presence: Presence;
  readonly #orders: Orders;
  readonly #changes: Changes;
  readonly #send: (node: NodeName, order: OrderMessage) => void;
  readonly #log: Logger;
  readonly #hearing: Hearing;

  constructor(parts: {
    hearing: Hearing;
    clock: Clock;
    stores: Stores;
    presence: Presence;
    orders: Orders;
    changes: Changes;
    send: (node: NodeName, order: OrderMessage) => void;
    log: Logger;
  }) {
    this.#clock = parts.clock;
    this.#stores = parts.stores;
    this.#presence = parts.presence;
    this.#orders = parts.orders;
    this.#changes = parts.changes;
    this.#send = parts.send;
    this.#log = parts.log;
    this.#hearing = parts.hearing;
  }

  connected(node: NodeName, serial: string): Session {
    return this.#presence.connect(node, serial, this.#clock.nowMs());
  }

  async disconnected(node: NodeName, session: Session): Promise<void> {
    const current = this.#presence.get(node) === session;
    this.#presence.disconnect(node, session);
    if (current) {
      this.#orders.disconnected(node);
      await this.#hearing.gone(node);
    }
    await this.#stores.nodes.seen(node, session.lastSeenMs);
    this.#changes.node(node);
  }

  /** The node listens to its orders now. */
  async subscribed(node: NodeName, session: Session): Promise<void> {
    session.subscribed = true;
    if (session.refusal !== null) this.#send(node, { v: 1, kind: "refused", message: session.refusal });
    else if (session.online) await this.#greet(node, session);
  }

  /** A sign of life without content. */
  async seen(node: NodeName, session: Session): Promise<void> {
    session.lastSeenMs = this.#clock.nowMs();
    if (session.lastSeenMs - session.lastSeenStoredMs < lastSeenStoredEveryMs) return;
    session.lastSeenStoredMs = session.lastSeenMs;
    await this.#stores.nodes.seen(node, session.lastSeenMs);
  }

  async take(node: NodeName, session: Session, { what, message }: NodeMessage): Promise<void> {
    await this.seen(node, session);
    if (what === "state") return this.#takeState(node, session, message);
    if (session.refusal !== null) return;
    switch (what) {
      case "converge":
        await this.#stores.reports.setRetained(node, "converge", JSON.stringify(message));
        await this.#raiseMark(node, message.commit);
        break;
      case "facts":
        await this.#stores.reports.setRetained(node, "facts", JSON.stringify(message));
        break;
      case "lease":
        // A word of a session that has ended meanwhile is late: the next session says it again.
        if (this.#presence.get(node) === session) await this.#hearing.word(node, message);
        return;
      case "updates":
        await this.#stores.reports.setRetained(node, "updates", JSON.stringify(message));
        this.#hearing.updates(node, message);
        break;
      case "event":
        await this.#takeEvent(node, session, message);
        break;
    }
    this.#changes.node(node);
  }

  async #takeState(node: NodeName, session: Session, state: StateMessage): Promise<void> {
    if (!state.online) {
      session.online = false;
      await this.#hearing.gone(node);
      this.#changes.node(node);
      return;
    }
    const twin = await this.#stores.nodes.twinOf(node, state.machineId);
    if (twin !== null) {
      session.online = false;
      session.refusal = cloneMessage(node, twin);
      await this.#stores.reports.setRefusal(node, session.refusal);
      this.#log.warn({ node, twin }, "two nodes have the same machine-id; the second is refused");
      if (session.subscribed) this.#send(node, { v: 1, kind: "refused", message: session.refusal });
      this.#changes.node(node);
      return;
    }
    await this.#stores.nodes.setMachineId(node, state.machineId);
    this.#hearing.machineKnown(node, state.machineId);
    await this.#stores.reports.setRefusal(node, null);
    await this.#stores.reports.setRetained(node, "state", JSON.stringify(state));
    await this.#raiseMark(node, state.mark);
    session.refusal = null;
    session.stream = state.stream;
    session.online = true;
    if (session.subscribed) await this.#greet(node, session);
    this.#changes.node(node);
  }

  /** What a node needs to know after hello: how far it had come, and what it need not send again. */
  async #greet(node: NodeName, session: Session): Promise<void> {
    const row = await this.#stores.nodes.get(node);
    this.#send(node, { v: 1, kind: "mark", commit: (row?.mark ?? null) as ConvergeMessage["commit"] });
    if (session.stream !== null) {
      this.#send(node, { v: 1, kind: "ack", stream: session.stream, seq: await this.#stores.reports.ackSeq(node, session.stream) });
    }
    await this.#hearing.here(node);
  }

  async #takeEvent(node: NodeName, session: Session, { stream, seq, event }: EventMessage): Promise<void> {
    const nowMs = this.#clock.nowMs();
    switch (event.kind) {
      case "converged":
        await this.#takeReport(node, stream, seq, event.report, nowMs);
        break;
      case "planned":
        if (await this.#hearing.planned(node, event.id, { ok: true, report: event.report })) break;
        await this.#stores.reports.setPlan(node, JSON.stringify(event.report), nowMs);
        this.#orders.answer(node, event.id, { ok: true, report: event.report });
        break;
      case "plan-failed":
        if (await this.#hearing.planned(node, event.id, { ok: false, code: "failed", message: event.message })) break;
        this.#orders.answer(node, event.id, { ok: false, code: "failed", message: event.message });
        break;
      case "ask":
      case "made":
      case "not-made":
        this.#hearing.value(node, event);
        break;
      case "refused":
        this.#log.warn({ node, commit: event.commit, reason: event.message }, "a node refused a commit");
        break;
      case "dropped":
        this.#log.warn({ node, count: event.count }, "a node's spool was full: reports were dropped");
        await this.#stores.access.note({ atMs: nowMs, actor: node, action: "reports-dropped", subject: node, detail: String(event.count) });
        break;
    }
    const closesGap = event.kind === "dropped" || session.early.has(seq);
    const ack = await this.#stores.reports.received(node, stream, seq, closesGap, nowMs);
    if (seq > ack && session.early.size < 1_000) session.early.add(seq);
    this.#send(node, { v: 1, kind: "ack", stream, seq: ack });
  }

  async #takeReport(node: NodeName, stream: string, seq: number, report: ConvergeReport, nowMs: number): Promise<void> {
    const isNew = await this.#stores.reports.addConverge(node, stream, seq, report, JSON.stringify(report), nowMs);
    if (!isNew) return;
    await this.#raiseMark(node, report.commit);
    const commit = await this.#stores.commits.get(report.commit);
    if (commit === null || commit.tip !== commit.id) return;
    if (await this.#stores.commits.arrived(commit.tip, node, Math.max(0, nowMs - commit.pushedAtMs), report.outcome)) this.#changes.commits(commit.tip);
  }

  /** The mark only rises, along the main branch as the hub knows it; a commit that was never pushed here raises nothing. */
  async #raiseMark(node: NodeName, commit: string | null): Promise<void> {
    if (commit === null) return;
    const current = (await this.#stores.nodes.get(node))?.mark ?? null;
    if (current === commit) return;
    const candidate = await this.#stores.commits.get(commit);
    if (candidate === null) return;
    const before = current === null ? null : await this.#stores.commits.get(current);
    if (before === null || candidate.position > before.position) await this.#stores.nodes.setMark(node, commit);
  }
}

/** For the owner of a cloned disk. */
export function cloneMessage(node: string, twin: string): string {
  return (
    `${node} has the same machine-id as ${twin}, as a copied disk has, so the hub does not deal with it. On ${node} run ` +
    "`rm -f /etc/machine-id /var/lib/dbus/machine-id && systemd-machine-id-setup`, reboot, and enrol it again; " +
    `if ${twin} no longer exists, run \`evenkeel node revoke ${twin}\``
  );
}
