import type { LeaseId, NodeName } from "../../shared/ids.ts";
import type { LeaseOrder } from "../../shared/protocol/lease.ts";
import type { Durable, Effect, Ended, GroupState, Hold, Lease, LeaseClock, LeasePhase, Now, Patience, Request, State, View, Volatile } from "./state.ts";
import { ENDED_MAX } from "./state.ts";

/**
 * The state that one step is making out of the last. Maps are copied when first written to, so that what did not change is
 * the very same object afterwards, and the edge sees by that what it has to store.
 */
export class Draft {
  readonly now: Now;
  readonly patience: Patience;
  readonly effects: Effect[] = [];
  durable: Durable;
  volatile: Volatile;
  readonly #fresh = new Set<object>();

  constructor(state: State, now: Now, patience: Patience) {
    this.durable = state.durable;
    this.volatile = state.volatile;
    this.now = now;
    this.patience = patience;
  }

  get state(): State {
    return { durable: this.durable, volatile: this.volatile };
  }

  send(node: NodeName, order: LeaseOrder): void {
    this.effects.push({ do: "send", node, order });
  }

  note(level: "info" | "warning", action: string, subject: string, text: string, by = "hub"): void {
    this.effects.push({ do: "note", level, action, subject, text, by });
  }

  setRequest(id: LeaseId, request: Request | null): void {
    const requests = this.#writable(this.durable.requests);
    if (request === null) requests.delete(id);
    else requests.set(id, request);
    this.durable = { ...this.durable, requests };
  }

  setHold(what: string, hold: Hold | null): void {
    const holds = this.#writable(this.durable.holds);
    if (hold === null) holds.delete(what);
    else holds.set(what, hold);
    this.durable = { ...this.durable, holds };
  }

  setGroups(groups: ReadonlyMap<string, GroupState>): void {
    this.durable = { ...this.durable, groups };
  }

  setView(node: NodeName, view: View | null): void {
    const views = this.#writable(this.volatile.views);
    if (view === null) views.delete(node);
    else views.set(node, view);
    this.volatile = { ...this.volatile, views };
  }

  /** Stores a lease as it is; the clock of its phase goes on. */
  setLease(lease: Lease): void {
    const leases = this.#writable(this.durable.leases);
    leases.set(lease.id, lease);
    this.durable = { ...this.durable, leases };
    if (!this.volatile.clocks.has(lease.id)) this.setClock(lease.id, { phaseMonoMs: this.now.monoMs });
  }

  /** Moves a lease to another phase. It is not stuck any more: it moved. */
  enter(lease: Lease, phase: LeasePhase, change: Partial<Lease> = {}): Lease {
    const next: Lease = { ...lease, stuck: null, ...change, phase, phaseSinceMs: this.now.wallMs };
    this.setLease(next);
    this.setClock(lease.id, { phaseMonoMs: this.now.monoMs });
    return next;
  }

  clockOf(id: LeaseId): LeaseClock {
    return this.volatile.clocks.get(id) ?? { phaseMonoMs: this.volatile.startedMonoMs, orderMonoMs: this.volatile.startedMonoMs, confirmPing: 0 };
  }

  setClock(id: LeaseId, change: Partial<LeaseClock>): void {
    const clocks = this.#writable(this.volatile.clocks);
    clocks.set(id, { ...this.clockOf(id), ...change });
    this.volatile = { ...this.volatile, clocks };
  }

  /** The slot is free, without anything having come of it: nothing that was sent for it can be acted upon. */
  dropLease(lease: Lease): void {
    const leases = this.#writable(this.durable.leases);
    leases.delete(lease.id);
    const clocks = this.#writable(this.volatile.clocks);
    clocks.delete(lease.id);
    this.durable = { ...this.durable, leases };
    this.volatile = { ...this.volatile, clocks };
  }

  /** The slot is free. Remembered, so that a late word about the lease is known for what it is. */
  end(lease: Lease, how: Ended["how"], why: string | null): void {
    this.dropLease(lease);
    const ended = this.#writable(this.durable.ended);
    const record: Ended = { id: lease.id, node: lease.node, how, rollout: lease.rollout, by: lease.by, why, calledOffBy: lease.calledOffBy, result: lease.result, grantedAtMs: lease.grantedAtMs, endedAtMs: this.now.wallMs };
    ended.set(lease.id, record);
    for (const id of ended.keys()) {
      if (ended.size <= ENDED_MAX) break;
      ended.delete(id);
    }
    this.durable = { ...this.durable, ended };
    this.effects.push({ do: "ended", ended: record });
  }

  #writable<K, V>(map: ReadonlyMap<K, V>): Map<K, V> {
    if (this.#fresh.has(map)) return map as Map<K, V>;
    const copy = new Map(map);
    this.#fresh.add(copy);
    return copy;
  }
}
