import { spawn } from "node:child_process";
import { join } from "node:path";

/** `npm test`, and `npm test -- shared/git` for a part of it: vitest, by the Node that runs this. */
const root = join(import.meta.dirname, "..");
const wholeRun = process.argv.length <= 2;
// What takes longest to build is begun first, at the lowest priority; the test that needs it is the last and waits for it.
const kubeBuild = wholeRun ? spawn(process.execPath, [join(root, "test", "kube", "build.ts")], { cwd: root, stdio: "ignore" }) : null;
const vitest = spawn(process.execPath, [join(root, "node_modules", "vitest", "vitest.mjs"), "run", ...process.argv.slice(2)], { cwd: root, stdio: "inherit" });
for (const signal of ["SIGINT", "SIGTERM"] as const) process.on(signal, () => vitest.kill(signal));
vitest.once("close", (code) => {
  kubeBuild?.kill();
  process.exit(code ?? 1);
});
