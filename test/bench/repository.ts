import { spawnSync } from "node:child_process";
import { mkdir, rm, writeFile } from "node:fs/promises";
import { dirname, join } from "node:path";
import { stringify } from "yaml";
import { unitName } from "./state.ts";
import type { State } from "./state.ts";

/** A cluster repository on disk, each commit signed, that nodes fetch by its path. */
export class SignedRepository {
  readonly path: string;
  readonly publicKey: string;
  readonly #key: string;

  private constructor(path: string, key: string, publicKey: string) {
    this.path = path;
    this.#key = key;
    this.publicKey = publicKey;
  }

  /** @param addresses of the nodes, by name. */
  static async create(directory: string, addresses: ReadonlyMap<string, string>): Promise<SignedRepository> {
    await rm(directory, { recursive: true, force: true });
    await mkdir(directory, { recursive: true, mode: 0o700 });
    const key = join(directory, "key");
    must("ssh-keygen", ["-q", "-t", "ed25519", "-N", "", "-C", "owner@bench", "-f", key]);
    const publicKey = must("ssh-keygen", ["-y", "-f", key]).trim();
    const path = join(directory, "repo");
    const repository = new SignedRepository(path, key, publicKey);
    must("git", ["init", "-q", "-b", "main", path]);
    await repository.#write("cluster.yaml", stringify({ name: "bench", signers: [{ name: "owner", ssh: publicKey }] }));
    for (const [node, address] of addresses) await repository.#write(`nodes/${node}.yaml`, stringify({ address }));
    repository.#commit("The bench");
    return repository;
  }

  get tip(): string {
    return this.#git("rev-parse", "HEAD").trim();
  }

  /** Declares the state for the node, all contents as files of the repository. Answers the commit. */
  async declare(node: string, address: string, state: State): Promise<string> {
    const contents = [...state.files].map(([path, text]) => ({ path, text, file: `bench${path}` }));
    const units = [...state.units].map(([name, text]) => ({ name, text, file: `bench/units/${name}.service` }));
    for (const { file, text } of [...contents, ...units]) await this.#write(`files/${file}`, text);
    const settings = {
      address,
      packages: Object.fromEntries(state.packages.map((name) => [name, "present"])),
      files: Object.fromEntries(contents.map(({ path, file }) => [path, { content: { file } }])),
      services: Object.fromEntries(units.map(({ name, file }) => [name, { enabled: true, running: true, unit: { file } }])),
    };
    await this.#write(`nodes/${node}.yaml`, stringify(settings));
    this.#commit(`What ${node} shall be (${[...state.units.keys()].at(-1) ?? unitName(0)})`);
    return this.tip;
  }

  async #write(path: string, text: string): Promise<void> {
    await mkdir(dirname(join(this.path, path)), { recursive: true });
    await writeFile(join(this.path, path), text);
  }

  #commit(message: string): void {
    this.#git("add", "-A");
    const identity = ["-c", "user.name=Owner", "-c", "user.email=owner@bench", "-c", "gpg.format=ssh", "-c", `user.signingKey=${this.#key}`];
    this.#git(...identity, "commit", "-q", "-S", "--allow-empty", "-m", message);
  }

  #git(...args: string[]): string {
    return must("git", ["-C", this.path, ...args]);
  }
}

function must(file: string, args: readonly string[]): string {
  // The machine's own git settings shall not matter.
  const env = { ...process.env, GIT_CONFIG_GLOBAL: "/dev/null", GIT_CONFIG_NOSYSTEM: "1" };
  const { status, stdout, stderr } = spawnSync(file, args, { encoding: "utf8", env });
  if (status !== 0) throw new Error(`${file} ${args.join(" ")} ended with ${status}: ${stderr}`);
  return stdout;
}
