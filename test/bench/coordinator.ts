import type { BootId, CommitId, LeaseId, NodeName } from "../../shared/ids.ts";
import type { LeaseMessage } from "../../shared/protocol/lease.ts";
import { assertInvariants } from "../../hub/coordinator/invariants.ts";
import type { Event, State } from "../../hub/coordinator/state.ts";
import { emptyState, PATIENCE } from "../../hub/coordinator/state.ts";
import { step } from "../../hub/coordinator/step.ts";
import { availableParallelism } from "node:os";
import { runSeeds } from "../sim/pool.ts";
import type { Context } from "./context.ts";
import { atMost, figure, median, quantile } from "./row.ts";
import type { Row } from "./row.ts";

const NODES = 1_000;
const GROUPS = 20;
const DECISIONS = 200;
const SEEDS = 1_000;

/** One decision about a lease in a large cluster, and how fast the simulation of the whole protocol runs. */
export async function coordinator(context: Context): Promise<Row> {
  context.progress(`${DECISIONS} grants among ${NODES} nodes in ${GROUPS} groups`);
  const { grants, words } = decisions();
  context.progress(`${SEEDS} seeds of the simulation`);
  const startedMs = performance.now();
  const total = await runSeeds({ from: 1, seeds: SEEDS, jobs: availableParallelism(), failuresMax: 1 });
  const seconds = (performance.now() - startedMs) / 1_000;
  return {
    name: "coordinator",
    title: `who may go down: ${NODES} nodes in ${GROUPS} groups`,
    figures: [
      figure("a request, granted", "ms", grants),
      figure("  the slowest of a hundred", "ms", quantile(grants, 0.99)),
      figure("a node's word, while a request waits", "ms", words),
      figure("simulation, one seed", "ms", (seconds * 1_000) / total.seeds),
    ],
    requirements: [atMost("a decision", median(grants), 5, "ms")],
    notes: [
      `The pure step with its invariants, without the database's fsync. Each node is in the cluster's group and in two of ${GROUPS - 1} others.`,
      `Simulation: ${Math.round(total.seeds / seconds)} seeds and ${Math.round(total.steps / seconds).toLocaleString("en")} steps of the hub in a second, ${availableParallelism()} at a time; ${total.failures.length} failed.`,
    ],
  };
}

function decisions(): { readonly grants: readonly number[]; readonly words: readonly number[] } {
  const names = Array.from({ length: NODES }, (_, index) => `n${index + 1}` as NodeName);
  const commit = "1".padStart(40, "0") as CommitId;
  const groups = new Map([["cluster", { members: names, acceptOutage: false }]]);
  for (let group = 1; group < GROUPS; group++) groups.set(`g${group}`, { members: names.filter((_, index) => index % (GROUPS - 1) === group - 1 || (index * 7) % (GROUPS - 1) === group - 1), acceptOutage: false });
  let state: State = emptyState();
  let monoMs = 0;
  const timed = (happening: object): number => {
    const event = { ...happening, now: { wallMs: 1_767_225_600_000 + monoMs, monoMs } } as Event;
    const beganMs = performance.now();
    const result = step(state, event);
    assertInvariants(state, event, result, PATIENCE);
    const tookMs = performance.now() - beganMs;
    state = result.state;
    return tookMs;
  };
  const word = (name: NodeName, index: number, seq: number): LeaseMessage => ({ v: 1, stream: name, seq, answers: { run: "bench", ping: state.volatile.ping }, bootId: `00000000-0000-4000-8000-${String(index).padStart(12, "0")}` as BootId, challenge: name, epochSeen: 1, commit, healthy: true, trouble: [], cordonedBy: null, lease: null, refuses: null });
  const request = (name: NodeName, index: number): object => ({ kind: "request", request: { id: `l${index}` as LeaseId, node: name, work: { do: "reboot" }, drain: { timeoutMs: 60_000, onTimeout: "undo" }, soakMs: 60_000, expectedMs: 600_000, by: "bench", rollout: null, despiteChecks: false } });
  timed({ kind: "started", run: "bench" });
  timed({ kind: "membership", commit, members: names.map((name) => ({ name, agent: true })), groups });
  timed({ kind: "checks", failing: [] });
  timed({ kind: "tick" });
  for (const [index, name] of names.entries()) timed({ kind: "word", node: name, word: word(name, index, 1) });
  // Spread over the groups, so that all of these fit into every budget.
  const grants = names.slice(0, DECISIONS).map((name, index) => timed(request(name, index)));
  if (state.durable.leases.size !== DECISIONS) throw new Error(`${state.durable.leases.size} of ${DECISIONS} were granted`);
  // One that has to wait: it is looked at again with each word.
  monoMs += 1_000;
  const sick = names.slice(DECISIONS);
  for (const [index, name] of sick.slice(0, NODES / 2 - DECISIONS).entries()) timed({ kind: "word", node: name, word: { ...word(name, DECISIONS + index, 2), healthy: false } });
  const waiting = names.at(-1);
  if (waiting !== undefined) timed(request(waiting, NODES));
  if (state.durable.requests.size !== 1) throw new Error("the last request should wait");
  const words = names.slice(-DECISIONS).map((name, index) => timed({ kind: "word", node: name, word: word(name, NODES - DECISIONS + index, 3) }));
  return { grants, words };
}
