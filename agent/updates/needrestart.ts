import { compareVersions } from "../../shared/kinds/deb-version.ts";
import type { RebootNeed } from "../../shared/protocol/updates.ts";
import { splitRelease } from "./kernel.ts";

/** What `needrestart -b` says (its README.batch.md; recorded from 3.6). */
export interface Needrestart {
  /** 0 unknown, 1 nothing pending, 2 a compatible build is pending, 3 another version is pending; null in a container. */
  readonly kernel: number | null;
  readonly kernelRunning: string | null;
  readonly kernelExpected: string | null;
  /** 0 unknown, 1 current, 2 newer is on the disk; null when it was not looked at. */
  readonly microcode: number | null;
  readonly services: readonly string[];
}

/** Null when this is no answer of needrestart's. */
export function parseNeedrestart(stdout: string): Needrestart | null {
  const values = new Map<string, string[]>();
  for (const line of stdout.split("\n")) {
    const found = /^NEEDRESTART-([A-Z]+):\s*(.*)$/.exec(line);
    if (found !== null) values.set(found[1]!, [...(values.get(found[1]!) ?? []), found[2]!.trim()]);
  }
  if (!values.has("VER")) return null;
  const number = (key: string): number | null => {
    const text = values.get(key)?.[0];
    return text !== undefined && /^\d$/.test(text) ? Number(text) : null;
  };
  const text = (key: string): string | null => values.get(key)?.[0] || null;
  return {
    kernel: number("KSTA"),
    kernelRunning: text("KCUR"),
    kernelExpected: text("KEXP"),
    microcode: number("UCSTA"),
    services: values.get("SVC") ?? [],
  };
}

/**
 * Its view of kernel and microcode. Status 3 says only that another kernel is expected: seen with 3.6 on a machine that
 * was booted with a foreign and newer kernel, where a reboot would change nothing. So it counts as yes only for a newer
 * kernel of the same flavour. With `kernelSaid`, the kernels themselves have said yes already, and it is not said twice.
 */
export function needrestartNeed(view: Needrestart, kernelSaid: boolean): RebootNeed {
  const why: string[] = [];
  const kernel = kernelSaid ? null : view.kernel;
  let unknown = kernel === 0;
  if (kernel === 2) why.push(`a newer build of the running kernel ${view.kernelRunning ?? ""} is installed (needrestart)`);
  if (kernel === 3) {
    if (isNewer(view.kernelRunning, view.kernelExpected)) why.push(`the running kernel ${view.kernelRunning} is older than the installed ${view.kernelExpected} (needrestart)`);
    else unknown = true;
  }
  if (view.microcode === 2) why.push("newer microcode for the processor is installed, and is loaded at boot (needrestart)");
  if (why.length > 0) return { needed: "yes", why };
  return { needed: unknown ? "unknown" : "no", why: [] };
}

function isNewer(running: string | null, expected: string | null): boolean {
  if (running === null || expected === null) return false;
  const [from, to] = [splitRelease(running), splitRelease(expected)];
  return from.flavour === to.flavour && compareVersions(to.version, from.version) > 0;
}
