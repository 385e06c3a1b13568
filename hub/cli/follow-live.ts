import { Listr, type ListrTaskWrapper, type DefaultRenderer, type SimpleRenderer } from "listr2";
import { printable } from "../../shared/config/diagnostic.ts";
import type { RolloutNode, RolloutView } from "../../shared/protocol/rollout.ts";
import type { CommandParts } from "./coordination-commands.ts";
import { outcome, type Follower } from "./follow.ts";
import { span } from "./moment.ts";
import { count, type Paint } from "./show.ts";
import { phaseOf, shortRollout, whatOf } from "./show-coordination.ts";

/** A rollout on a screen: a task for each node, with its phase and progress, or what it waits for. */

type Task = ListrTaskWrapper<unknown, typeof DefaultRenderer, typeof SimpleRenderer>;

/** Ends a task: null well, else what to show as the reason. */
type End = (how: "done" | "failed" | "skipped", title: string) => void;

export function liveFollower({ terminal, clock }: CommandParts, paint: Paint): Follower {
  let last: RolloutView | null = null;
  let away: string | null = null;
  let board: Board | null = null;
  return {
    look(rollout) {
      last = rollout;
      away = null;
      board ??= new Board(rollout);
      board.show(rollout, away, clock.nowMs());
    },
    trouble(message) {
      away = message;
      if (last !== null) board?.show(last, away, clock.nowMs());
    },
    async end() {
      await board?.end();
      if (last !== null && last.phase !== "running") terminal.out(`\n${outcome(last, paint)}\n`);
    },
  };
}

class Board {
  readonly #rows = new Map<string, { task: Task | null; end: End | null }>();
  readonly #finished: Promise<unknown>;
  #nowMs = 0;
  #rollout: RolloutView;
  #away: string | null = null;

  constructor(rollout: RolloutView) {
    this.#rollout = rollout;
    const names = ["", ...rollout.nodes.map(({ node }) => node as string)];
    const list = new Listr(
      names.map((name) => ({ title: name === "" ? headline(rollout) : name, task: (_context: unknown, task: Task) => this.#run(name, task) })),
      // Signals are the command's: whoever stops watching does not stop the rollout.
      { concurrent: true, exitOnError: false, renderer: "default", registerSignalListeners: false, rendererOptions: { collapseErrors: false, showErrorMessage: false, suffixSkips: false, removeEmptyLines: true } },
    );
    this.#finished = list.run();
  }

  show(rollout: RolloutView, away: string | null, nowMs: number): void {
    [this.#rollout, this.#away, this.#nowMs] = [rollout, away, nowMs];
    for (const name of this.#rows.keys()) this.#draw(name);
  }

  /** Whatever has not ended by itself stands as it was last seen. */
  async end(): Promise<void> {
    for (const [name, row] of this.#rows) {
      const node = this.#rollout.nodes.find((each) => each.node === name);
      if (node === undefined) row.end?.(this.#rollout.phase === "done" ? "done" : "skipped", headline(this.#rollout));
      else row.end?.("skipped", titleOf(node, this.#nowMs));
    }
    await this.#finished;
  }

  #run(name: string, task: Task): Promise<void> {
    return new Promise((resolve, reject) => {
      const end: End = (how, title) => {
        this.#rows.set(name, { task: null, end: null });
        task.title = title;
        if (how === "failed") return reject(new Error(title));
        if (how === "skipped") task.skip();
        resolve();
      };
      this.#rows.set(name, { task, end });
      this.#draw(name);
    });
  }

  #draw(name: string): void {
    const { task, end } = this.#rows.get(name) ?? { task: null, end: null };
    if (task === null || end === null) return;
    const node = this.#rollout.nodes.find((each) => each.node === name);
    if (node === undefined) {
      task.title = headline(this.#rollout);
      task.output = this.#away === null ? printable(this.#rollout.forecast.text) : `${printable(this.#away)}; trying again`;
      return;
    }
    const title = titleOf(node, this.#nowMs);
    if (node.state === "done" || node.state === "failed" || node.state === "skipped") return end(node.state, title);
    task.title = title;
    task.output = whatOf(node);
  }
}

function headline({ id, kind, startedBy }: RolloutView): string {
  return `rollout ${shortRollout(id)}: ${kind}, started by ${printable(startedBy)}`;
}

function titleOf(node: RolloutNode, nowMs: number): string {
  const name = node.role === "node" ? node.node : `${node.node} (${node.role})`;
  const packages = node.result?.update?.changed.length ?? 0;
  const took = node.startedAt === null || node.endedAt === null ? "" : ` in ${span(node.startedAt, Date.parse(node.endedAt))}`;
  switch (node.state) {
    case "done":
      return `${name}  done${took}${packages === 0 ? "" : `, ${count(packages, "package")} changed`}${node.result?.rebooted === true ? ", rebooted" : ""}`;
    case "failed":
      return `${name}  failed: ${whatOf(node)}`;
    case "skipped":
      return `${name}  skipped${whatOf(node) === "" ? "" : `: ${whatOf(node)}`}`;
    default: {
      const since = node.timeline.at(-1)?.at;
      return `${name}  ${phaseOf(node)}${since === undefined ? "" : `, ${span(since, nowMs)}`}`;
    }
  }
}
