/** What FRR runs with against what its file says, as sets of lines: the order in which it prints them is its own. */

/** Lines that say nothing, or nothing that a file has to say. */
const SILENT = /^(!.*|end|exit|exit-address-family|exit-vrf|Building configuration\.\.\.|Current configuration:|frr version .*|)$/;
/** What a drain says to a running router; it is gone with the resume, or with a reboot. */
const DRAINED = /^(bgp graceful-shutdown|router bgp \d+ \u203a (bgp graceful-shutdown|bgp shutdown( message .*)?)|router ospf \u203a max-metric router-lsa administrative)$/;
/** Between a block and what stands in it. */
const IN = " \u203a ";

/** Each line with the blocks that it stands in, as `router bgp 65001 › address-family ipv4 unicast › network 10.0.0.0/8`. */
export function configLines(text: string): ReadonlySet<string> {
  const lines = new Set<string>();
  let blocks: { readonly indent: number; readonly text: string }[] = [];
  for (const line of text.split("\n")) {
    const said = line.trim();
    if (SILENT.test(said)) continue;
    const indent = line.length - line.trimStart().length;
    blocks = [...blocks.filter((block) => block.indent < indent), { indent, text: said }];
    lines.add(blocks.map((block) => block.text).join(IN));
  }
  return lines;
}

export interface Difference {
  /** In the file, and not in what runs. */
  readonly missing: readonly string[];
  /** In what runs, and not in the file. */
  readonly extra: readonly string[];
}

export function compare(file: string, running: string): Difference {
  const [wanted, runs] = [configLines(file), configLines(running)];
  // A block without a line in it is printed by some daemons and not by others.
  const isEmptyBlock = (line: string, all: ReadonlySet<string>): boolean => /^(interface|bfd|vrf)\b/.test(line) && ![...all].some((other) => other.startsWith(`${line}${IN}`));
  return {
    missing: [...wanted].filter((line) => !runs.has(line) && !isEmptyBlock(line, wanted)),
    extra: [...runs].filter((line) => !wanted.has(line) && !DRAINED.test(line) && !isEmptyBlock(line, runs)),
  };
}

const SAID_MAX = 3;

/** For people, without a secret. */
export function sayDifference({ missing, extra }: Difference): string {
  const say = (lines: readonly string[]): string => lines.slice(0, SAID_MAX).map(withoutSecret).join("; ") + (lines.length > SAID_MAX ? `; and ${lines.length - SAID_MAX} more` : "");
  return [...(missing.length === 0 ? [] : [`what runs lacks: ${say(missing)}`]), ...(extra.length === 0 ? [] : [`what runs has besides: ${say(extra)}`])].join(". ");
}

function withoutSecret(line: string): string {
  return line.replace(/( password | md5 | key ).*$/, "$1(secret)").slice(0, 200);
}
