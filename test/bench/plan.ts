import type { Context } from "./context.ts";
import { prepareGround } from "./idle.ts";
import { optionsOf } from "./rivals/install.ts";
import { puppet } from "./rivals/puppet.ts";
import { atLeast, figure, median } from "./row.ts";
import type { Row } from "./row.ts";
import { soloNodes } from "./solo.ts";

const node = soloNodes.idle;

/** `evenkeel-agent plan` as a person types it, a new process each time, against `puppet apply`. */
export async function coldPlan(context: Context): Promise<Row> {
  const { solo, ready, missing } = await prepareGround(context);
  const samples = { plan: [] as number[], inside: [] as number[], version: [] as number[], puppet: [] as number[], noop: [] as number[] };
  const compared = ready.includes(puppet);
  for (let run = 1; run <= context.options.runs; run += 1) {
    context.progress(`cold plan, run ${run} of ${context.options.runs}`);
    const plan = await solo.time(node, ["evenkeel-agent", "plan", "--json"]);
    const report = JSON.parse(plan.outcome.stdout) as { changes: unknown[]; tookMs: number };
    if (plan.outcome.code !== 0 || report.changes.length > 0) throw new Error(`evenkeel-agent plan: ${plan.outcome.stdout.slice(0, 1_000)}${plan.outcome.stderr}`);
    samples.plan.push(plan.wallMs);
    samples.inside.push(report.tookMs);
    samples.version.push((await solo.time(node, ["evenkeel-agent", "--version"])).wallMs);
    if (!compared) continue;
    samples.puppet.push((await solo.time(node, puppet.apply, optionsOf(puppet))).wallMs);
    samples.noop.push((await solo.time(node, [...puppet.apply, "--noop"], optionsOf(puppet))).wallMs);
  }
  const ours = median(samples.plan);
  return {
    name: "plan",
    title: "evenkeel-agent plan, a cold process",
    figures: [
      figure("evenkeel-agent plan", "ms", samples.plan),
      figure("  of it: looking and planning", "ms", samples.inside),
      figure("  of it: a start that does nothing (evenkeel-agent --version)", "ms", samples.version),
      ...(compared
        ? [
            figure("puppet apply", "ms", samples.puppet),
            figure("  against evenkeel-agent plan", "times", median(samples.puppet) / ours),
            figure("puppet apply --noop", "ms", samples.noop),
            figure("  against evenkeel-agent plan", "times", median(samples.noop) / ours),
          ]
        : []),
    ],
    requirements: compared ? [atLeast("faster than puppet apply", median(samples.puppet) / ours, 5, "times")] : [],
    notes: ["The same node and state as above. Node's compile cache is warm, as it is after the first command on a node.", ...(compared ? [] : missing)],
  };
}
