import { chmod, copyFile, cp, mkdir, realpath, rm, stat, writeFile } from "node:fs/promises";
import { join } from "node:path";
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

export async function bundleAgent(): Promise<string> {
  await mkdir(bundleDir, { recursive: true });
  await build({
    entryPoints: [join(root, "agent", "main.ts")],
    outfile: join(bundleDir, "agent.cjs"),
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
  await copyNode();
  await writeFile(join(bundleDir, "evenkeel-agent"), launcher);
  await chmod(join(bundleDir, "evenkeel-agent"), 0o755);
  await cp(join(root, "image", "evenkeel-agent.service"), join(bundleDir, "evenkeel-agent.service"));
  return bundleDir;
}

/** 120 MB are not copied again when they are there. */
async function copyNode(): Promise<void> {
  const from = await realpath(join(root, "node_modules", ".bin", "node"));
  const to = join(bundleDir, "node");
  const [old, current] = await Promise.all([stat(to).catch(() => null), stat(from)]);
  if (old !== null && old.size === current.size && old.mtimeMs >= current.mtimeMs) return;
  await rm(to, { force: true });
  await copyFile(from, to);
  await chmod(to, 0o755);
}
