import { spawn } from "node:child_process";
import type { ChildProcess } from "node:child_process";
import { once } from "node:events";
import { chmodSync, existsSync, mkdtempSync, rmSync, statSync } from "node:fs";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import { takeLock } from "../machine.ts";

/** The agent's lock, between real processes. */

const USER = 65_534;
const program = `
  const { takeLock } = await import(process.argv[1]);
  console.log(await takeLock({ stateDir: process.argv[2] }));
  globalThis.gc?.();
  setInterval(() => {}, 1_000);
`;
const machine = join(import.meta.dirname, "..", "machine.ts");
let directory = "";
const children: ChildProcess[] = [];

beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), "evenkeel-lock-"));
});
afterEach(() => {
  for (const child of children.splice(0)) child.kill("SIGKILL");
  rmSync(directory, { recursive: true, force: true });
});

/** Another agent: whether it got the lock, and how to end it as a crash does. */
async function another(): Promise<{ readonly has: boolean; crash(): Promise<void> }> {
  const child = spawn(process.execPath, ["--expose-gc", "--input-type=module", "-e", program, machine, directory], { stdio: ["ignore", "pipe", "inherit"] });
  children.push(child);
  const [said] = (await once(child.stdout, "data")) as [Buffer];
  return {
    has: said.toString().trim() === "true",
    async crash() {
      child.kill("SIGKILL");
      await once(child, "close");
    },
  };
}

test("one process holds it, and a crash lets go of it although the file stays", async () => {
  const first = await another();
  const second = await another();
  await second.crash();
  expect([first.has, second.has]).toEqual([true, false]);
  expect(await takeLock({ stateDir: directory } as never)).toBe(false);
  await first.crash();
  expect(existsSync(join(directory, "lock"))).toBe(true);
  const third = await another();
  await third.crash();
  expect(third.has).toBe(true);
});

test("of several that start at once, exactly one gets it", async () => {
  const started = await Promise.all(Array.from({ length: 4 }, another));
  for (const one of started) await one.crash();
  expect(started.filter((one) => one.has).length).toBe(1);
});

test("no other user can take it first", async () => {
  chmodSync(directory, 0o755);
  // What was the lock once: a name that belongs to whoever comes first.
  const squatter = createServer().listen(`\0evenkeel-agent${directory}`);
  await once(squatter, "listening");
  const first = await another();
  expect(first.has).toBe(true);
  await first.crash();
  expect(statSync(join(directory, "lock")).mode & 0o777).toBe(0o600);
  const user = spawn("flock", ["--nonblock", join(directory, "lock"), "true"], { uid: USER, gid: USER, stdio: "ignore" });
  const [code] = (await once(user, "close")) as [number];
  expect(code).not.toBe(0);
  squatter.close();
});
