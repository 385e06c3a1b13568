import { findPackage, isUnfinished } from "../../shared/kinds/dpkg-status.ts";
import type { DpkgPackage, DpkgStatus } from "../../shared/kinds/dpkg-status.ts";
import type { Output } from "../../shared/kinds/kind.ts";

/**
 * What apt and dpkg print, read. They speak to people, so every pattern here was taken from their real output
 * (apt 2.6, dpkg 1.21, LC_ALL=C.UTF-8); test/fixtures/packages/apt-get/ holds it.
 */

/** What a transaction would do, by package; the architecture is part of a name only where it is a foreign one. */
export interface Simulation {
  /** Unpacked: new, upgraded, downgraded or reinstalled. */
  readonly installs: ReadonlyMap<string, { readonly from: string | null; readonly to: string }>;
  /** Removed or purged, with the version that goes. */
  readonly removes: ReadonlyMap<string, string>;
  readonly configures: ReadonlySet<string>;
}

/** Reads the `Inst`, `Remv`, `Purg` and `Conf` lines of `apt-get -s`. All other lines are ignored. */
export function parseSimulation(text: string): Simulation {
  const installs = new Map<string, { from: string | null; to: string }>();
  const removes = new Map<string, string>();
  const configures = new Set<string>();
  for (const line of text.split("\n")) {
    const install = /^Inst (\S+)(?: \[([^\]]+)\])? \((\S+)/.exec(line);
    if (install !== null) installs.set(install[1]!, { from: install[2] ?? null, to: install[3]! });
    const remove = /^(?:Remv|Purg) (\S+)(?: \[([^\]]+)\])?/.exec(line);
    if (remove !== null) removes.set(remove[1]!, remove[2] ?? "");
    const configure = /^Conf (\S+)/.exec(line);
    if (configure !== null) configures.add(configure[1]!);
  }
  return { installs, removes, configures };
}

/** Why apt will not even consider a name: it does not know it, or not in that version, or only as a virtual package. */
export interface Unknown {
  readonly name: string;
  readonly code: "unknown-package" | "unknown-version";
  readonly message: string;
}

export function parseUnknown({ stdout, stderr }: Output): readonly Unknown[] {
  const found = new Map<string, Unknown>();
  for (const [, name = ""] of stderr.matchAll(/^E: (?:Unable to locate package|Couldn't find any package by (?:glob|regex)) '?([^'\s]+)'?$/gm)) {
    found.set(name, { name, code: "unknown-package", message: `no source of this node has a package ${name}: check the name, or add its source to the section apt` });
  }
  for (const [, version = "", name = ""] of stderr.matchAll(/^E: Version '([^']*)' for '([^']*)' was not found$/gm)) {
    found.set(name, { name, code: "unknown-version", message: `no source of this node has version ${version} of ${name}: \`apt-cache madison ${name}\` on the node lists those that there are` });
  }
  for (const [, name = ""] of stderr.matchAll(/^E: Package '([^']*)' has no installation candidate$/gm)) {
    found.set(name, { name, code: "unknown-package", message: withoutCandidate(name, stdout) });
  }
  return [...found.values()];
}

function withoutCandidate(name: string, stdout: string): string {
  const lines = stdout.split("\n");
  const start = lines.indexOf(`Package ${name} is a virtual package provided by:`);
  if (start < 0) return `${name} is mentioned by other packages, but no source of this node has it: add its source to the section apt`;
  const providers = lines.slice(start + 1, lines.indexOf("", start)).map((line) => line.trim().split(" ")[0] ?? "");
  return `${name} is a virtual package: write one of those that provide it (${providers.slice(0, 10).join(", ")})`;
}

export type FailureCode =
  | "unknown-package"
  | "unknown-version"
  | "refused"
  | "unsatisfiable"
  | "locked"
  | "disk-full"
  | "download-failed"
  | "interrupted"
  | "timeout"
  | "dpkg-failed"
  | "failed";

/** A failure of the run as a whole, in words for the owner. */
export interface Diagnosis {
  readonly code: FailureCode;
  readonly message: string;
}

/** timeout(1) and the agent's own runner report this for a program that ran too long. */
const CODE_TIMEOUT = 124;
const CODE_NOT_FOUND = 127;

export function diagnose(output: Output, lockTimeoutSeconds: number): Diagnosis {
  const text = `${output.stdout}\n${output.stderr}`;
  if (output.code === CODE_TIMEOUT) return { code: "timeout", message: "apt did not end in time and was ended; the next run repairs what it left" };
  if (output.code === CODE_NOT_FOUND) return { code: "failed", message: "apt-get is not on this node: it is no Debian or Ubuntu system" };
  const full = /^.*(?:No space left on device|You don't have enough free space in).*$/m.exec(text);
  if (full !== null) return { code: "disk-full", message: `a file system of this node is full, free some space (\`df -h\`; \`apt-get clean\` empties apt's cache): ${full[0].trim()}` };
  if (/Unable to acquire the dpkg frontend lock|Could not get lock|frontend lock was locked|Unable to lock directory/.test(text)) {
    return { code: "locked", message: `${lockHolder(text)} is at work on packages, and was waited for (up to ${lockTimeoutSeconds} s); it is tried again at the next run` };
  }
  if (/dpkg was interrupted, you must manually run/.test(text)) return { code: "interrupted", message: "dpkg was interrupted earlier, and `dpkg --configure -a` could not repair it" };
  if (/^[EW]: (?:Failed to fetch|Unable to fetch some archives)/m.test(text)) return { code: "download-failed", message: `packages could not be downloaded: ${errorLines(output)}` };
  if (/Sub-process \S*dpkg returned an error code/.test(text)) return { code: "dpkg-failed", message: `dpkg failed: ${errorLines(output)}` };
  if (/unmet dependencies|held broken packages|Resolve generated breaks/.test(text)) return { code: "unsatisfiable", message: `its dependencies cannot be met: ${unmet(output.stdout) || errorLines(output)}` };
  return { code: "failed", message: `apt-get ended with code ${output.code}: ${errorLines(output)}` };
}

/** Who holds apt's or dpkg's lock, by their own words: "process 5 (apt-get)". */
function lockHolder(text: string): string {
  const named = /held by process (\d+) \(([^)]*)\)/.exec(text);
  if (named !== null) return `process ${named[1]} (${named[2]})`;
  const numbered = /locked by another process with pid (\d+)/.exec(text);
  return numbered === null ? "another program" : `process ${numbered[1]}`;
}

function errorLines({ stderr }: Output): string {
  const lines = stderr.split("\n").filter((line) => line.startsWith("E: "));
  const chosen = lines.length > 0 ? lines.map((line) => line.slice(3)) : stderr.trim().split("\n").slice(-3);
  return chosen.join("; ").slice(0, 1000);
}

function unmet(stdout: string): string {
  const at = stdout.indexOf("The following packages have unmet dependencies:\n");
  if (at < 0) return "";
  const lines = stdout.slice(at).split("\n").slice(1);
  const end = lines.findIndex((line) => !line.startsWith(" "));
  return lines.slice(0, end < 0 ? undefined : end).map((line) => line.trim().replaceAll(/ +/g, " ")).join("; ").slice(0, 1000);
}

/** Packages that dpkg itself names as failed, each with what it and the package's script said. */
export function parseDpkgErrors({ stderr }: Output): ReadonlyMap<string, string> {
  const errors = new Map<string, string>();
  const lines = stderr.split("\n");
  for (const [index, line] of lines.entries()) {
    const error = /^dpkg: error processing (?:package (\S+)|archive (\S+)) \(--\S+\):$/.exec(line);
    if (error === null) continue;
    const name = error[1] ?? archiveName(error[2]!);
    // A script's last words stand right before dpkg's; those of the package before it end with an indented line.
    let from = index;
    while (from > 0 && index - from < 6 && !/^( |dpkg: |$)/.test(lines[from - 1]!)) from -= 1;
    const said = [...lines.slice(from, index), lines[index + 1] ?? ""].map((one) => one.trim()).filter((one) => one !== "" && !one.startsWith("debconf: "));
    if (!errors.has(name)) errors.set(name, (missingDependency(name, lines) ?? said.join("; ")).slice(0, 1000));
  }
  return errors;
}

/** "dependency problems - leaving unconfigured" says less than the two lines that dpkg prints before it. */
function missingDependency(name: string, lines: readonly string[]): string | undefined {
  const at = lines.findIndex((line) => line.startsWith("dpkg: dependency problems prevent ") && line.endsWith(` of ${name}:`));
  return at < 0 ? undefined : lines.slice(at + 1, at + 3).map((line) => line.trim()).join(" ");
}

/** Packages whose files could not be downloaded, by the names of the files. */
export function parseFetchFailures({ stderr }: Output): ReadonlySet<string> {
  return new Set([...stderr.matchAll(/^E: Failed to fetch (\S+\.u?deb)\b/gm)].map((match) => archiveName(match[1]!)));
}

/** `/var/cache/apt/archives/nginx_1.22.1-9_amd64.deb` is of `nginx`. */
function archiveName(path: string): string {
  return path.slice(path.lastIndexOf("/") + 1).split("_")[0] ?? path;
}

/** One line per package of dpkg's database, merged with its journal: unlike the file, also right after a crash. */
export const QUERY_FORMAT =
  "${Package}\\t${Architecture}\\t${Version}\\t${db:Status-Want}\\t${db:Status-Eflag}\\t${db:Status-Status}\\t${Essential}\\t${Protected}\\n";

export function parseQuery(text: string): DpkgStatus {
  const packages = new Map<string, DpkgPackage[]>();
  const unfinished: DpkgPackage[] = [];
  for (const line of text.split("\n")) {
    const [name, architecture, version, selection, flag, state, essential, isProtected] = line.split("\t");
    if (name === undefined || name === "" || state === undefined) continue;
    const found: DpkgPackage = {
      name,
      architecture: architecture ?? "",
      version: version ?? "",
      selection: selection ?? "",
      flag: flag ?? "",
      state,
      configured: state === "installed",
      essential: essential === "yes" || isProtected === "yes",
      provides: [],
    };
    packages.set(name, [...(packages.get(name) ?? []), found]);
    if (isUnfinished(found)) unfinished.push(found);
  }
  return { architecture: packages.get("dpkg")?.[0]?.architecture ?? "", packages, unfinished };
}

/** One name per package: apt and people leave the node's own architecture out. */
export function shortName(name: string, status: DpkgStatus): string {
  const colon = name.indexOf(":");
  if (colon < 0) return name;
  const architecture = name.slice(colon + 1);
  return architecture === status.architecture || architecture === "all" || findPackage(status, name)?.architecture === "all" ? name.slice(0, colon) : name;
}
