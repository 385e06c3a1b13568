import { parseDpkgStatus } from "../../shared/kinds/dpkg-status.ts";
import type { DpkgStatus } from "../../shared/kinds/dpkg-status.ts";
import type { Probe } from "../../shared/kinds/kind.ts";
import { updateLimits } from "../../shared/protocol/updates.ts";
import type { RebootNeed, TriState } from "../../shared/protocol/updates.ts";
import { kernelNeed, releaseOfPackage, runningBuild } from "./kernel.ts";
import type { InstalledKernel } from "./kernel.ts";
import { needrestartNeed, parseNeedrestart } from "./needrestart.ts";
import type { Needrestart } from "./needrestart.ts";
import { findReplaced, INIT } from "./replaced-libraries.ts";

/** Whether something that runs is older than what is installed, and which part of it only a reboot renews. */

export const STATUS_PATH = "/var/lib/dpkg/status";
const NEEDRESTART = "/usr/sbin/needrestart";
/** Some seconds on a node with many processes: it reads the memory maps and the scripts of all of them. */
const NEEDRESTART_TIMEOUT_MS = 120_000;
/** Our own service is started anew by whoever replaced it, and needs no reboot for that. */
const OURSELVES = "evenkeel-agent.service";
const WHY_MAX = 50;
const NAMED_MAX = 20;

export interface RunningView {
  readonly reboot: RebootNeed;
  readonly restarts: { readonly needed: TriState; readonly services: readonly string[] };
}

/**
 * Reads the marks of packages, the kernels and the processes; starts one process, `needrestart`, only where that is
 * installed, and with `full` lets it look at services too. A source that is missing says nothing; the answer is
 * `unknown` only when no source said yes and the one about the kernel, which has no second, could not tell.
 */
export async function lookAtRunning(probe: Probe, full: boolean): Promise<RunningView> {
  const [marks, kernel, answer] = await Promise.all([packageMarks(probe), kernelOf(probe), askNeedrestart(probe, full)]);
  const found = full && answer !== null ? withInit(answer.services) : await findReplaced(probe);
  const services = found?.filter((name) => name !== OURSELVES) ?? null;
  const asked = answer === null ? null : needrestartNeed(answer, kernel.needed === "yes");
  const why = [...marks, ...kernel.why, ...(asked?.why ?? []), ...servicesWhy(services ?? [])];
  const yes = marks.length > 0 || kernel.needed === "yes" || asked?.needed === "yes" || (services?.length ?? 0) > 0;
  // What needrestart cannot tell about the kernel was told by the kernels themselves, or stays unknown by them.
  const needed: TriState = yes ? "yes" : kernel.needed;
  return {
    reboot: { needed, why: why.slice(0, WHY_MAX).map((one) => one.slice(0, updateLimits.whyCharsMax)) },
    restarts: {
      needed: services === null ? "unknown" : services.length > 0 ? "yes" : "no",
      services: (services ?? []).slice(0, updateLimits.servicesMax).map((one) => one.slice(0, 256)),
    },
  };
}

/** update-notifier's convention, which Debian's kernel, libc and dbus packages follow too. /var/run is a link to /run, but for old systems. */
async function packageMarks(probe: Probe): Promise<readonly string[]> {
  for (const directory of ["/run", "/var/run"]) {
    if ((await probe.stat(`${directory}/reboot-required`)) === null) continue;
    const text = (await probe.readText(`${directory}/reboot-required.pkgs`).catch(() => null)) ?? "";
    const names = [...new Set(text.split("\n").map((line) => line.trim()).filter((line) => line !== ""))];
    if (names.length === 0) return [`a package asks for it (${directory}/reboot-required)`];
    return [`${listed(names)} ${names.length === 1 ? "asks" : "ask"} for it (${directory}/reboot-required)`];
  }
  return [];
}

async function kernelOf(probe: Probe): Promise<RebootNeed> {
  // systemd writes its kind there in every container (systemd-detect-virt(1)).
  if ((await probe.stat("/run/systemd/container")) !== null) return kernelNeed({ container: true, running: null, build: null, installed: [] });
  const [release, version, signature, status, boot] = await Promise.all([
    probe.readText("/proc/sys/kernel/osrelease").catch(() => null),
    probe.readText("/proc/version").catch(() => null),
    probe.readText("/proc/version_signature").catch(() => null),
    probe.parsed(STATUS_PATH, parseDpkgStatus),
    probe.list("/boot").catch(() => null),
  ]);
  return kernelNeed({ container: false, running: release?.trim() || null, build: runningBuild(version, signature), installed: installedKernels(status, boot ?? []) });
}

/** By package, and by file for kernels that are in no package. */
function installedKernels(status: DpkgStatus | null, boot: readonly string[]): readonly InstalledKernel[] {
  const kernels = new Map<string, InstalledKernel>();
  for (const name of boot) {
    const release = /^vmlinu[xz]-(\d.*)$/.exec(name)?.[1];
    if (release !== undefined) kernels.set(release, { release, version: null });
  }
  for (const [name, entries] of status?.packages ?? []) {
    const release = releaseOfPackage(name);
    const installed = release === null ? undefined : entries.find(({ state }) => state === "installed");
    if (release !== null && installed !== undefined) kernels.set(release, { release, version: installed.version });
  }
  return [...kernels.values()];
}

async function askNeedrestart(probe: Probe, full: boolean): Promise<Needrestart | null> {
  if ((await probe.stat(NEEDRESTART)) === null) return null;
  const output = await probe.run([NEEDRESTART, "-b", "-r", "l", ...(full ? [] : ["-k", "-w"])], { timeoutMs: NEEDRESTART_TIMEOUT_MS });
  return output.code === 0 ? parseNeedrestart(output.stdout) : null;
}

/** needrestart's name for PID 1 is `systemd-manager`. */
function withInit(services: readonly string[]): readonly string[] {
  return services.map((name) => (name === "systemd-manager" ? INIT : name));
}

function servicesWhy(services: readonly string[]): string[] {
  if (services.length === 0) return [];
  return [`${listed(services)} still ${services.length === 1 ? "runs" : "run"} on files that an upgrade has replaced`];
}

function listed(names: readonly string[]): string {
  const shown = names.slice(0, NAMED_MAX).join(", ");
  return names.length > NAMED_MAX ? `${shown} and ${names.length - NAMED_MAX} more` : shown;
}
