import { createHash } from "node:crypto";
import { access, mkdir, readFile, rm, symlink, writeFile } from "node:fs/promises";
import { homedir } from "node:os";
import { dirname, join } from "node:path";
import { type Flavour, type Recipe, recipeOf } from "./base-recipe.ts";
import { LabError, lastLines, run } from "./command.ts";

export type Progress = (message: string) => void;

/** The Debian system that every node of a lab is an overlay of. */
export interface Base {
  /** Changes when the packages or the recipe change. */
  readonly key: string;
  readonly directory: string;
}

// Seen on a build machine: 30 s (plain), 47 s (cluster); a first-time download over a slow line takes far longer.
const buildTimeoutMs = 20 * 60_000;

/** Where base systems and downloaded packages are kept between labs. */
export function cacheDirectory(): string {
  return process.env["EVENKEEL_LAB_CACHE"] ?? join(homedir(), ".cache", "evenkeel", "lab");
}

/** Gives the cached base system, building it first if need be. Of several labs that start at once, one builds. */
export async function ensureBase(flavour: Flavour, onProgress: Progress): Promise<Base> {
  const recipe = recipeOf(flavour);
  const key = `${flavour}-${createHash("sha256").update(buildScript + JSON.stringify(recipe)).digest("hex").slice(0, 12)}`;
  const parent = join(cacheDirectory(), "base");
  const base = { key, directory: join(parent, key) };
  if (await exists(base.directory)) return base;
  onProgress(`building the base system ${key} (half a minute to a minute, once)`);
  await mkdir(parent, { recursive: true });
  await build(base, recipe, onProgress);
  return base;
}

/*
 * One shell under one lock does everything up to the rename, so that neither a second lab nor a killed test can leave
 * a base that is only half there. The lock is inherited by mmdebstrap: it lasts as long as anything still writes.
 */
const buildScript = `
set -e
[ -e "$1" ] && exit 0
rm -rf --one-file-system "$1.building"
mmdebstrap --variant=minbase --dpkgopt=force-unsafe-io --aptopt='Acquire::Languages "none"' --include="$3" \\
  --customize-hook='sh "$OVERLAY.sh" "$1"' "$2" "$1.building" >"$1.log" 2>&1
rm -f "$1.building/etc/dpkg/dpkg.cfg.d/99mmdebstrap" "$1.building/etc/apt/apt.conf.d/99mmdebstrap"
mv "$1.building" "$1"
`;

async function build(base: Base, recipe: Recipe, onProgress: Progress): Promise<void> {
  const overlay = `${base.directory}.overlay-${process.pid}`;
  const log = `${base.directory}.log`;
  const ticker = setInterval(async () => {
    const text = await readFile(log, "utf8").catch(() => "");
    onProgress(`building the base system: ${lastLines(text, 1).replace(/^I: /, "") || "waiting for another lab"}`);
  }, 5_000);
  try {
    await writeOverlay(overlay, recipe);
    const argv = ["flock", `${base.directory}.lock`, "sh", "-c", buildScript, "build"];
    const outcome = await run([...argv, base.directory, recipe.suite, recipe.packages.join(",")], {
      timeoutMs: buildTimeoutMs,
      env: { ...stringsOnly(process.env), OVERLAY: overlay },
    });
    if (outcome.code !== 0) {
      const end = lastLines(await readFile(log, "utf8").catch(() => outcome.stderr), 15);
      throw new LabError("command-failed", `mmdebstrap could not build the base system (log: ${log}):\n${end}`);
    }
  } finally {
    clearInterval(ticker);
    await rm(overlay, { recursive: true, force: true });
    await rm(`${overlay}.sh`, { force: true });
  }
}

/** The recipe's files as a tree to copy over the new system, and the script that does so. */
async function writeOverlay(overlay: string, recipe: Recipe): Promise<void> {
  for (const [path, { content, mode }] of Object.entries(recipe.files)) {
    await mkdir(dirname(overlay + path), { recursive: true });
    await writeFile(overlay + path, content, { mode: mode ?? 0o644 });
  }
  for (const [path, target] of Object.entries(recipe.links)) {
    await mkdir(dirname(overlay + path), { recursive: true });
    await symlink(target, overlay + path);
  }
  const removals = recipe.remove.map((path) => `rm -f "$1"${path}`).join("\n");
  // --remove-destination: mmdebstrap links some of these (resolv.conf) to the host's.
  const copy = `cp -a --remove-destination '${overlay}/.' "$1/"`;
  const script = `set -e\n${removals}\nrm -rf "$1"/etc/resolv.conf\n${copy}\nchown -R 0:0 "$1"/usr/local/lib/evenkeel-lab\n`;
  await writeFile(`${overlay}.sh`, script);
}

/** Names what this machine lacks, all of it at once, before anything is half set up. */
export async function checkMachine(): Promise<void> {
  const missing: string[] = [];
  if (process.getuid?.() !== 0) missing.push("root (nspawn, mounts and loop devices need it)");
  const filesystems = await readFile("/proc/filesystems", "utf8");
  if (!/\toverlay$/m.test(filesystems) && (await run(["modprobe", "overlay"]).catch(() => undefined))?.code !== 0) {
    missing.push("the kernel's overlay file system");
  }
  const mounts = await readFile("/proc/self/mounts", "utf8");
  if (!/ \/sys\/fs\/cgroup(\/unified)? cgroup2 /.test(mounts)) missing.push("cgroup2 mounted under /sys/fs/cgroup");
  const packages = { "systemd-nspawn": "systemd-container", mmdebstrap: "mmdebstrap", ip: "iproute2", losetup: "mount" };
  const others = { nsenter: "util-linux", flock: "util-linux", "dpkg-deb": "dpkg", "apt-get": "apt" };
  for (const [command, debian] of Object.entries({ ...packages, ...others })) {
    const found = await run(["sh", "-c", `command -v ${command}`]);
    if (found.code !== 0) missing.push(`the command ${command} (apt-get install ${debian})`);
  }
  if (missing.length > 0) throw new LabError("cannot-run-here", `the lab cannot run here, missing:\n- ${missing.join("\n- ")}`);
}

export async function exists(path: string): Promise<boolean> {
  return access(path).then(
    () => true,
    () => false,
  );
}

function stringsOnly(env: NodeJS.ProcessEnv): Record<string, string> {
  return Object.fromEntries(Object.entries(env).flatMap(([key, value]) => (value === undefined ? [] : [[key, value]])));
}
