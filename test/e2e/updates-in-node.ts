import { systemClock } from "../../agent/system-clock.ts";
import { HostProbe } from "../../agent/host/probe.ts";
import { Processes } from "../../agent/host/process.ts";
import { Updates } from "../../agent/updates/updates.ts";
import type { UpdateOrder } from "../../shared/protocol/updates.ts";

/** What updates.test.ts runs inside a node, bundled: one call of `Updates`, its result as JSON, its progress on stderr. */

interface Call {
  readonly call: "look" | "refresh" | "apply" | "recover" | "rebootNeed";
  readonly order?: UpdateOrder;
  readonly stateDir: string;
  readonly lockTimeoutSeconds: number;
  /** The wall clock, moved by so much. */
  readonly aheadMs: number;
}

const call = JSON.parse(process.argv[2] ?? "") as Call;
const processes = new Processes();
const updates = new Updates({
  processes,
  probe: new HostProbe(processes.run),
  clock: { ...systemClock, nowMs: () => systemClock.nowMs() + call.aheadMs },
  stateDir: call.stateDir,
  lockTimeoutSeconds: call.lockTimeoutSeconds,
});
const progress = (line: string): void => void process.stderr.write(`${line}\n`);
const work = { look: () => updates.look(), refresh: () => updates.refresh(), apply: () => updates.apply(call.order!, progress), recover: () => updates.recover(), rebootNeed: () => updates.rebootNeed() };
// The clock's timers keep no process alive.
const alive = setInterval(() => {}, 60_000);
const result = await work[call.call]();
clearInterval(alive);
process.stdout.write(`${JSON.stringify({ result, processes: processes.started })}\n`);
