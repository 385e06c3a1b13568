import { createHash } from "node:crypto";
import { mkdir, mkdtemp, readFile, readdir, rename, rm, stat, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { type Base, type Progress, cacheDirectory, exists } from "./base.ts";
import { LabError, lastLines, run } from "./command.ts";
import { withLock } from "./lock.ts";

/** Small real packages, enough to install, configure, restart and remove something in a test. */
export const defaultMirror: readonly string[] = ["nginx-light", "cron", "tree", "jq", "htop", "rsync", "chrony"];

// Debian's lists change a few times a day; a lab does not need the newest, but packages do vanish from the mirror.
const listsAgeMs = 24 * 60 * 60_000;

/**
 * Gives real .deb files for the packages and what they need beyond the base system. They are downloaded once: the same
 * wish on the same base is answered from the cache, without a network.
 */
export async function fetchPackages(base: Base, names: readonly string[], onProgress: Progress): Promise<string[]> {
  for (const name of names) {
    if (!/^[a-z0-9][a-z0-9+.-]+$/.test(name)) throw new LabError("bad-request", `not a package name: "${name}"`);
  }
  const cache = cacheDirectory();
  const wish = createHash("sha256").update([base.key, ...names.toSorted()].join(" ")).digest("hex").slice(0, 16);
  const closure = join(cache, "closures", wish);
  const files = await cachedClosure(cache, closure);
  if (files !== undefined) return files;
  return withLock(join(cache, "apt.lock"), 10 * 60_000, async () => {
    const meanwhile = await cachedClosure(cache, closure);
    if (meanwhile !== undefined) return meanwhile;
    const apt = await aptFor(base, cache);
    await updateLists(apt, onProgress);
    onProgress(`downloading ${names.join(", ")} and what they need`);
    return await download(apt, names, cache, closure);
  });
}

interface Apt {
  readonly argv: readonly string[];
  readonly lists: string;
}

/** The host's apt-get, made to see the base system's packages as installed, with lists and cache of its own. */
async function aptFor(base: Base, cache: string): Promise<Apt> {
  const state = join(cache, "apt");
  const lists = join(state, "lists");
  await mkdir(join(lists, "partial"), { recursive: true });
  await mkdir(join(state, "empty.d"), { recursive: true });
  const keyring = `[signed-by=${join(base.directory, "usr/share/keyrings/debian-archive-keyring.gpg")}]`;
  const sources = [
    `deb ${keyring} http://deb.debian.org/debian bookworm main`,
    `deb ${keyring} http://deb.debian.org/debian bookworm-updates main`,
    `deb ${keyring} http://security.debian.org/debian-security bookworm-security main`,
  ];
  await writeFile(join(state, "sources.list"), `${sources.join("\n")}\n`);
  const settings = {
    "Dir::Etc::sourcelist": join(state, "sources.list"),
    "Dir::Etc::sourceparts": join(state, "empty.d"),
    "Dir::Etc::preferencesparts": join(state, "empty.d"),
    "Dir::State": state,
    "Dir::State::lists": lists,
    "Dir::State::status": join(base.directory, "var/lib/dpkg/status"),
    "Dir::Cache": state,
    "APT::Sandbox::User": "root",
    "APT::Install-Recommends": "0",
    "Acquire::Languages": "none",
  };
  return { argv: ["apt-get", "-q", "-y", ...Object.entries(settings).flatMap(([key, value]) => ["-o", `${key}=${value}`])], lists };
}

async function updateLists(apt: Apt, onProgress: Progress): Promise<void> {
  const stamp = join(apt.lists, "..", "updated");
  const updated = await stat(stamp).catch(() => undefined);
  if (updated !== undefined && Date.now() - updated.mtimeMs < listsAgeMs) return;
  onProgress("reading Debian's package lists");
  const outcome = await run([...apt.argv, "update"], { timeoutMs: 5 * 60_000 });
  if (outcome.code === 0) return writeFile(stamp, "");
  const reason = lastLines(outcome.stderr, 3);
  if (updated === undefined) throw new LabError("command-failed", `no Debian package lists: ${reason}`);
  onProgress(`going on with old package lists: ${reason}`);
}

async function download(apt: Apt, names: readonly string[], cache: string, closure: string): Promise<string[]> {
  const debs = join(cache, "debs");
  await mkdir(debs, { recursive: true });
  await mkdir(join(cache, "closures"), { recursive: true });
  const archives = await mkdtemp(join(cache, "download-"));
  try {
    await mkdir(join(archives, "partial"));
    const outcome = await run([...apt.argv, "-o", `Dir::Cache::archives=${archives}`, "install", "--download-only", ...names], {
      timeoutMs: 10 * 60_000,
    });
    if (outcome.code !== 0) {
      await rm(join(apt.lists, "..", "updated"), { force: true }); // perhaps the lists were too old
      throw new LabError("command-failed", `apt-get cannot fetch ${names.join(" ")}: ${lastLines(outcome.stderr || outcome.stdout, 6)}`);
    }
    const fetched = (await readdir(archives)).filter((name) => name.endsWith(".deb"));
    for (const name of fetched) await rename(join(archives, name), join(debs, name));
    await writeFile(`${closure}.new`, fetched.join("\n"));
    await rename(`${closure}.new`, closure);
    return fetched.map((name) => join(debs, name));
  } finally {
    await rm(archives, { recursive: true, force: true });
  }
}

async function cachedClosure(cache: string, closure: string): Promise<string[] | undefined> {
  const text = await readFile(closure, "utf8").catch(() => undefined);
  if (text === undefined) return undefined;
  const files = text.split("\n").filter((name) => name !== "").map((name) => join(cache, "debs", name));
  const present = await Promise.all(files.map(exists));
  return present.every(Boolean) ? files : undefined;
}
