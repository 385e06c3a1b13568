import { appendFile, mkdir, readFile, rename, stat } from "node:fs/promises";
import { dirname } from "node:path";
import { ConvergeReport } from "../shared/protocol/report.ts";

/** One file of this size and one older: some thousand runs, which is more than a year of a calm node. */
const JOURNAL_SIZE_MAX_BYTES = 4 * 1024 * 1024;

/** What this node did, a JSON report a line, for `evenkeel-agent log`: it is there without the hub, and bounded. */
export class Journal {
  readonly #path: string;

  constructor(path: string) {
    this.#path = path;
  }

  async add(report: ConvergeReport): Promise<void> {
    await mkdir(dirname(this.#path), { recursive: true, mode: 0o700 });
    const size = await stat(this.#path).then((found) => found.size, () => 0);
    if (size > JOURNAL_SIZE_MAX_BYTES) await rename(this.#path, `${this.#path}.1`);
    await appendFile(this.#path, `${JSON.stringify(report)}\n`, { mode: 0o600 });
  }

  /** Newest last. A line that a crash cut short is passed over. */
  async last(count: number): Promise<readonly ConvergeReport[]> {
    const texts = await Promise.all([`${this.#path}.1`, this.#path].map((path) => readFile(path, "utf8").catch(() => "")));
    return texts
      .join("")
      .split("\n")
      .slice(-count * 2 - 2)
      .flatMap((line) => {
        try {
          return [ConvergeReport.parse(JSON.parse(line))];
        } catch {
          return [];
        }
      })
      .slice(-count);
  }
}
