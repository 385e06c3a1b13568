import { createTwoFilesPatch } from "diff";
import type { Probe, Step } from "../../shared/kinds/kind.ts";
import { reportLimits } from "../../shared/protocol/report.ts";
import type { Change } from "../../shared/protocol/report.ts";

/** A step in a few words, for people: `write /etc/motd`, `install nginx 1.24`. */
export function describeStep(step: Step): string {
  switch (step.do) {
    case "run":
      // Arguments may hold what nobody should read; the program and its first words say enough.
      return step.sensitive ? `run ${step.argv[0]}` : `run ${step.argv.join(" ").slice(0, 200)}`;
    case "write":
      return `write ${step.path}`;
    case "attributes":
      return `set mode ${octal(step.mode)} and owner ${step.owner}:${step.group} of ${step.path}`;
    case "directory":
      return `make directory ${step.path}`;
    case "link":
      return `link ${step.path} to ${step.target}`;
    case "remove":
      return `remove ${step.path}`;
    case "restore":
      return `put back what was at ${step.path}`;
    case "set":
      return step.sensitive ? `set ${step.path}` : `set ${step.path} to ${step.value}`;
    case "package":
      return `${step.action} ${step.name}${step.version === undefined ? "" : ` ${step.version}`}`;
    case "unit":
      return step.action === "daemon-reload" ? "reload systemd's units" : `${step.action} ${step.unit}`;
    case "download":
      return `fetch ${step.path} from ${step.urls[0] ?? "nowhere"}`;
    case "ask":
      return `ask ${step.from.join(", ")} for ${step.what}`;
    case "fail":
      return "cannot be done";
  }
}

export function octal(mode: number): string {
  return mode.toString(8).padStart(4, "0");
}

export function changeOf(step: Step, result: Change["result"], error?: string, diff?: string): Change {
  return {
    resource: step.resource.slice(0, 512),
    action: describeStep(step).slice(0, 512),
    why: cut(step.why, reportLimits.textCharsMax),
    impact: step.impact,
    ...(step.oneWay === undefined ? {} : { oneWay: cut(step.oneWay, reportLimits.textCharsMax) }),
    result,
    ...(error === undefined ? {} : { error: step.sensitive ? "failed; what it said is withheld, because it may hold a secret: look on the node" : cut(error, reportLimits.textCharsMax) }),
    ...(diff === undefined || diff === "" ? {} : { diff: cut(diff, reportLimits.diffCharsMax) }),
  };
}

/** Larger files are said to differ, not how: a diff of that size helps nobody, and costs. */
const DIFF_SIZE_MAX_BYTES = 64 * 1024;
/** Myers' algorithm takes time in the square of the edits; past this many the answer is "differs". */
const DIFF_EDITS_MAX = 400;

/** What a step would change in a file, as a unified diff; undefined where there is nothing to show or nobody may see it. */
export async function diffOf(step: Step, probe: Probe): Promise<string | undefined> {
  if (step.sensitive) return undefined;
  if (step.do === "write") {
    const [before, stat] = await Promise.all([probe.read(step.path).catch(() => null), probe.stat(step.path)]);
    // What only its owner may read on the node is not for a report either, now or as it was.
    if (!readableByOthers(step.mode) || (stat !== null && !readableByOthers(stat.mode))) return undefined;
    return unifiedDiff(step.path, stat?.type === "file" ? before : null, step.content, step.source);
  }
  if (step.do === "set") {
    const before = await probe.readText(step.path).catch(() => null);
    return `-${(before ?? "").trim()}\n+${step.value.trim()}\n`;
  }
  return undefined;
}

function readableByOthers(mode: number): boolean {
  return (mode & 0o004) !== 0;
}

export function unifiedDiff(path: string, before: Uint8Array | null, after: Uint8Array, source?: string): string | undefined {
  const sizeBytes = (before?.length ?? 0) + after.length;
  if (sizeBytes > DIFF_SIZE_MAX_BYTES) return `${path}: ${before?.length ?? 0} bytes become ${after.length} (too large for a diff)\n`;
  const [old, now] = [before === null ? "" : asText(before), asText(after)];
  if (old === null || now === null) return `${path}: ${before?.length ?? 0} bytes become ${after.length} (not text)\n`;
  if (old === now) return undefined;
  const patch = createTwoFilesPatch(before === null ? "/dev/null" : path, path, old, now, "", source ?? "", { context: 3, maxEditLength: DIFF_EDITS_MAX });
  if (patch === undefined) return `${path}: more than ${DIFF_EDITS_MAX} lines differ\n`;
  // A name and a rule of equal signs come first, which patch(1) does not need, and people neither.
  return patch.replace(/^(Index: .*\n)?=+\n/, "");
}

function asText(bytes: Uint8Array): string | null {
  if (bytes.includes(0)) return null;
  try {
    return new TextDecoder("utf-8", { fatal: true }).decode(bytes);
  } catch {
    return null;
  }
}

/** Cuts in the middle: the beginning says what it is, the end usually says what went wrong. */
export function cut(text: string, charsMax: number): string {
  if (text.length <= charsMax) return text;
  const half = Math.floor((charsMax - 30) / 2);
  return `${text.slice(0, half)}\n… ${text.length - 2 * half} characters …\n${text.slice(-half)}`;
}
