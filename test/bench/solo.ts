import { rm } from "node:fs/promises";
import { join } from "node:path";
import { bundleDir, root } from "../../image/bundle.ts";
import { ConvergeReport } from "../../shared/protocol/report.ts";
import { Lab } from "../lab/lab.ts";
import type { ExecOptions, Outcome } from "../lab/lab.ts";
import { SignedRepository } from "./repository.ts";
import type { State } from "./state.ts";

/** The rows' nodes: one is compared with other products, one is broken, one grows. */
export const soloNodes = { idle: "n1", drift: "n2", scaling: "n3" } as const;

const repositoryInNode = "/srv/cluster";
/** 700 units and packages to enable, start and write: seen to take 15 s. */
const APPLY_TIMEOUT_MS = 5 * 60_000;

/** Real nodes with the agent as it ships, each alone with a repository on disk: no hub, no network. */
export class Solo {
  readonly lab: Lab;
  readonly #repository: SignedRepository;
  readonly #pinned: string;
  readonly #started = new Set<string>();

  private constructor(lab: Lab, repository: SignedRepository) {
    this.lab = lab;
    this.#repository = repository;
    this.#pinned = repository.tip;
  }

  /** @param labPrefix begins the lab's name. A lab of that name that exists is wiped, whoever runs it. */
  static async open(progress: (message: string) => void, closers: (() => Promise<void>)[], labPrefix = "bench"): Promise<Solo> {
    const name = `${labPrefix}-solo`;
    const directory = join(root, ".lab", `${name}-cluster`);
    const lab = new Lab({
      name,
      nodes: Object.values(soloNodes),
      binds: [{ from: bundleDir, to: "/usr/lib/evenkeel" }, { from: join(directory, "repo"), to: repositoryInNode }],
      downOnExit: true,
      onProgress: progress,
    });
    await lab.wipe();
    // Before anything runs, so that it is taken down whatever fails.
    closers.push(async () => {
      await lab.wipe();
      await rm(directory, { recursive: true, force: true });
    });
    await lab.prepare();
    const addresses = new Map(lab.nodes.map((node) => [node, lab.address(node)]));
    return new Solo(lab, await SignedRepository.create(directory, addresses));
  }

  /** The node, booted, with the resident agent running; nothing declared yet when it is new. */
  async start(node: string): Promise<void> {
    if (this.#started.has(node)) return;
    await this.lab.start(node);
    const settings = {
      v: 1,
      node,
      cluster: "bench",
      hub: null,
      broker: null,
      git: { url: repositoryInNode, branch: "main" },
      signers: [{ name: "owner", ssh: this.#repository.publicKey }],
      commit: this.#pinned,
    };
    await this.lab.writeFile(node, "/etc/evenkeel/agent.json", JSON.stringify(settings), 0o600);
    await this.must(
      node,
      "ln -s /usr/lib/evenkeel/evenkeel-agent /usr/bin/ && cp /usr/lib/evenkeel/evenkeel-agent.service /etc/systemd/system/ && systemctl daemon-reload && systemctl enable -q --now evenkeel-agent",
    );
    await this.must(node, "until evenkeel-agent status >/dev/null 2>&1; do sleep 0.2; done");
    this.#started.add(node);
  }

  /** Commits the state for the node, and has the resident agent make the node so. */
  async declare(node: string, state: State): Promise<ConvergeReport> {
    const commit = await this.#repository.declare(node, this.lab.address(node), state);
    const { report, said } = await this.apply(node);
    if (report.commit !== commit) throw new Error(`${node} did not take commit ${commit}: ${said}`);
    if (report.outcome !== "converged") throw new Error(`${node} did not become what was declared: ${JSON.stringify(report).slice(0, 4_000)}`);
    return report;
  }

  /**
   * Asks the resident agent to look and converge, and waits. The report's `tookMs` is the converge inside the agent, as a
   * sweep or an event starts it; `wallMs` has the new process of the command and the fetch from Git as well.
   */
  async apply(node: string): Promise<{ readonly report: ConvergeReport; readonly wallMs: number; readonly said: string }> {
    const { wallMs, outcome } = await this.time(node, ["evenkeel-agent", "apply", "--json"], { timeoutMs: APPLY_TIMEOUT_MS });
    if (outcome.stdout === "") throw new Error(`evenkeel-agent apply on ${node} ended with ${outcome.code} and no report: ${outcome.stderr}`);
    return { report: ConvergeReport.parse(JSON.parse(outcome.stdout)), wallMs, said: outcome.stderr };
  }

  /** A command in the node, and how long it took. Entering the node is in it: 7 to 10 ms, the same for all. */
  async time(node: string, argv: readonly string[], options: ExecOptions = {}): Promise<{ readonly wallMs: number; readonly outcome: Outcome }> {
    const startedMs = performance.now();
    const outcome = await this.lab.exec(node, argv, options);
    return { wallMs: performance.now() - startedMs, outcome };
  }

  async must(node: string, script: string, timeoutMs = 60_000): Promise<string> {
    const outcome = await this.lab.shell(node, script, { timeoutMs });
    if (outcome.code !== 0) throw new Error(`on ${node}: ${script.slice(0, 200)}\n${outcome.stderr}${outcome.stdout}`);
    return outcome.stdout;
  }

  /** What is installed there, in a fixed order. */
  async installed(node: string): Promise<string[]> {
    const output = await this.must(node, "dpkg-query -W -f '${db:Status-Status} ${Package}\\n'");
    return output.split("\n").flatMap((line) => (line.startsWith("installed ") ? [line.slice("installed ".length)] : [])).toSorted();
  }
}
