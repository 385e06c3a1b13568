import type { Probe } from "../../shared/kinds/kind.ts";
import { findPackage } from "../../shared/kinds/dpkg-status.ts";
import type { DpkgStatus } from "../../shared/kinds/dpkg-status.ts";
import type { Problem } from "../../shared/protocol/report.ts";

/** Others on this node who would upgrade, reboot or restart by themselves, beside the budget that everything else asks. */

const TIMER = "apt-daily-upgrade.timer";
const TIMEOUT_MS = 30_000;
const NEEDRESTART_FILES_MAX = 100;

/** The values of `apt-config dump`, by name in lower case: apt compares names without regard to it. */
export function parseAptConfig(stdout: string): ReadonlyMap<string, string> {
  const values = new Map<string, string>();
  for (const line of stdout.split("\n")) {
    const found = /^(\S+) "(.*)";$/.exec(line);
    if (found !== null && !found[1]!.endsWith("::")) values.set(found[1]!.toLowerCase(), found[2]!);
  }
  return values;
}

/** As apt reads a boolean (its strutl.cc, StringToBool): a number other than 0, or one of these words. */
export function isOn(value: string | undefined): boolean {
  if (value === undefined || value === "") return false;
  return /^-?\d+$/.test(value) ? Number(value) !== 0 : /^(yes|true|with|on|enable)$/i.test(value);
}

/** How needrestart acts by its configuration, which is Perl: the last plain assignment counts. Null when there is none. */
export function needrestartMode(texts: readonly string[]): string | null {
  let mode: string | null = null;
  for (const text of texts) {
    for (const found of text.matchAll(/^\s*\$nrconf\{['"]?restart['"]?\}\s*=\s*['"](\w)['"]\s*;/gm)) mode = found[1]!;
  }
  return mode;
}

/** Starts one process, `apt-config`, and only where unattended-upgrades is installed. */
export async function findConflicts(probe: Probe, status: DpkgStatus): Promise<readonly Problem[]> {
  const [unattended, restarts] = await Promise.all([
    isInstalled(status, "unattended-upgrades") ? unattendedUpgrades(probe) : [],
    isInstalled(status, "needrestart") ? needrestart(probe) : [],
  ]);
  return [...unattended, ...restarts];
}

async function unattendedUpgrades(probe: Probe): Promise<Problem[]> {
  const output = await probe.run(["apt-config", "dump"], { timeoutMs: TIMEOUT_MS });
  if (output.code !== 0) return [{ code: "unattended-upgrades-unknown", message: `unattended-upgrades is installed, and its settings cannot be read: apt-config ended with code ${output.code}: ${output.stderr.trim().slice(0, 500)}` }];
  const settings = parseAptConfig(output.stdout);
  const problems: Problem[] = [];
  if (isOn(settings.get("unattended-upgrade::automatic-reboot"))) {
    problems.push({ code: "unattended-reboot", message: "unattended-upgrades reboots this node by itself, whatever else is down: set Unattended-Upgrade::Automatic-Reboot \"false\" (in /etc/apt/apt.conf.d)" });
  }
  const periodic = settings.get("apt::periodic::unattended-upgrade");
  const enabled = settings.get("apt::periodic::enable");
  const runs = periodic !== undefined && periodic !== "" && periodic !== "0" && enabled !== "0";
  if (runs && (await isTimerEnabled(probe))) {
    problems.push({ code: "unattended-upgrades", message: `unattended-upgrades upgrades this node by itself (${TIMER}), outside every window and without a drain: set APT::Periodic::Unattended-Upgrade "0", or mask ${TIMER}` });
  }
  return problems;
}

/** By its links, without asking systemd: a masked unit is a link to /dev/null (systemctl(1)). */
async function isTimerEnabled(probe: Probe): Promise<boolean> {
  const masked = await Promise.all(["/etc/systemd/system", "/run/systemd/system"].map((directory) => probe.readLink(`${directory}/${TIMER}`)));
  if (masked.includes("/dev/null")) return false;
  return (await probe.readLink(`/etc/systemd/system/timers.target.wants/${TIMER}`)) !== null;
}

async function needrestart(probe: Probe): Promise<Problem[]> {
  const directory = "/etc/needrestart/conf.d";
  const names = ((await probe.list(directory)) ?? []).filter((name) => name.endsWith(".conf")).slice(0, NEEDRESTART_FILES_MAX);
  const texts = await Promise.all(["/etc/needrestart/needrestart.conf", ...names.map((name) => `${directory}/${name}`)].map((path) => probe.readText(path).catch(() => null)));
  if (needrestartMode(texts.map((text) => text ?? "")) !== "a") return [];
  return [{ code: "needrestart", message: "needrestart restarts services by itself after any use of apt but ours: set $nrconf{restart} = 'l'; in /etc/needrestart/conf.d" }];
}

function isInstalled(status: DpkgStatus, name: string): boolean {
  return findPackage(status, name)?.state === "installed";
}
