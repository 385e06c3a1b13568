import { randomUUID } from "node:crypto";
import { chmod, copyFile, mkdir, realpath, rename, rm, stat, writeFile } from "node:fs/promises";
import { basename, dirname, join } from "node:path";
import { build } from "esbuild";

/**
 * What ships: one JavaScript file for each program, and Node beside it, in `dist/evenkeel/`, which is /usr/lib/evenkeel on
 * a node. CommonJS, because a file that is one script starts faster and takes less memory than a graph of modules.
 */

export const root = join(import.meta.dirname, "..");
export const bundleDir = join(root, "dist", "evenkeel");

/**
 * The resident agent's Node is to be small rather than fast. Measured after some converges, linked to a hub: 105 MB RSS as
 * Node comes; 88 without V8's optimising compilers and worker threads and with one malloc arena; 79 when malloc also gives
 * freed memory back early (mallopt(3)). A converge takes as long with all of it.
 */
const launcher = `#!/bin/sh
export NODE_COMPILE_CACHE=/var/cache/evenkeel
if [ "\${1:-}" = run ]; then
  export MALLOC_ARENA_MAX=1 MALLOC_TRIM_THRESHOLD_=131072 UV_THREADPOOL_SIZE=2
  exec /usr/lib/evenkeel/node --lite-mode --v8-pool-size=0 --max-semi-space-size=1 --max-old-space-size=128 /usr/lib/evenkeel/agent.cjs "$@"
fi
exec /usr/lib/evenkeel/node /usr/lib/evenkeel/agent.cjs "$@"
`;

/**
 * Every file is written beside its place and renamed: a program that is starting from the directory meanwhile, or another
 * that bundles, gets the old one or the new one, never a part.
 */
export async function bundleAgent(directory: string = bundleDir): Promise<string> {
  await mkdir(directory, { recursive: true });
  const place = (name: string, make: (path: string) => Promise<unknown>) => putInPlace(join(directory, name), make);
  await place("agent.cjs", bundleInto);
  await placeNode(join(directory, "node"));
  await place("evenkeel-agent", async (path) => {
    await writeFile(path, launcher);
    await chmod(path, 0o755);
  });
  await place("evenkeel-agent.service", (path) => copyFile(join(root, "image", "evenkeel-agent.service"), path));
  return directory;
}

/** `make` writes a file at the path that it is given, which then takes the place of what is at `path`. */
export async function putInPlace(path: string, make: (path: string) => Promise<unknown>): Promise<void> {
  const beside = join(dirname(path), `.${basename(path)}.${process.pid}.${randomUUID()}`);
  try {
    await make(beside);
    await rename(beside, path);
  } catch (error) {
    await rm(beside, { force: true });
    throw error;
  }
}

function bundleInto(outfile: string): Promise<unknown> {
  return build({
    entryPoints: [join(root, "agent", "main.ts")],
    outfile,
    bundle: true,
    platform: "node",
    target: "node26",
    format: "cjs",
    minify: true,
    // Names of classes and functions in a stack trace are worth more than the bytes they take.
    keepNames: true,
    legalComments: "none",
    logLevel: "warning",
    define: { "import.meta.dirname": "__dirname" },
  });
}

/** 120 MB are not copied again when they are there. */
async function placeNode(to: string): Promise<void> {
  const from = await realpath(join(root, "node_modules", ".bin", "node"));
  const [old, current] = await Promise.all([stat(to).catch(() => null), stat(from)]);
  if (old !== null && old.size === current.size && old.mtimeMs >= current.mtimeMs) return;
  await putInPlace(to, async (path) => {
    await copyFile(from, path);
    await chmod(path, 0o755);
  });
}
