/**
 * Files of which one part is ours and the rest belongs to others: /etc/hosts, /etc/default/locale, /etc/locale.gen.
 * Each function takes the text as it is (null: no file) and gives the text as it should be.
 */

const BEGIN = "# begin: kept by evenkeel (section host)";
const END = "# end: kept by evenkeel";

/** What a Debian machine has at least, where there is no /etc/hosts at all. */
const BARE_HOSTS = "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n";

interface WantedHosts {
  readonly name?: string | undefined;
  readonly hosts?: Readonly<Record<string, readonly string[]>> | undefined;
}

/**
 * The lines of our part, or null where nothing is wanted. The host's own name gets 127.0.1.1, as Debian's installer
 * does (Debian reference, 5.1.1), unless it is found otherwise: else sudo and others wait for a DNS server.
 */
export function hostsBlock(want: WantedHosts, text: string | null): readonly string[] | null {
  const lines = Object.entries(want.hosts ?? {}).map(([address, names]) => `${address}\t${names.join(" ")}`);
  const known = [...lines, ...withoutHosts(text ?? "").split("\n")].some((line) => want.name !== undefined && namesOf(line).includes(want.name));
  const own = want.name === undefined || known ? [] : [`127.0.1.1\t${[want.name, ...shortName(want.name)].join(" ")}`];
  return own.length + lines.length === 0 ? null : [...own, ...lines];
}

function namesOf(line: string): readonly string[] {
  return line.replace(/#.*/, "").trim().split(/\s+/).slice(1);
}

function shortName(name: string): readonly string[] {
  const dot = name.indexOf(".");
  return dot < 0 ? [] : [name.slice(0, dot)];
}

/** Our part stays where it stands, or goes to the end. */
export function withHosts(text: string | null, block: readonly string[]): string {
  const part = [BEGIN, ...block, END, ""].join("\n");
  const found = findBlock(text ?? "");
  if (found !== null) return `${found.before}${part}${found.after}`;
  const rest = text ?? BARE_HOSTS;
  return `${rest}${rest === "" || rest.endsWith("\n") ? "" : "\n"}${part}`;
}

export function withoutHosts(text: string): string {
  const found = findBlock(text);
  return found === null ? text : `${found.before}${found.after}`;
}

/** From the first beginning to the next end. A beginning without an end is a line like any other. */
function findBlock(text: string): { readonly before: string; readonly after: string } | null {
  const lines = text.split("\n");
  const begin = lines.indexOf(BEGIN);
  const end = begin < 0 ? -1 : lines.indexOf(END, begin);
  if (end < 0) return null;
  const before = lines.slice(0, begin).map((line) => `${line}\n`);
  return { before: before.join(""), after: lines.slice(end + 1).join("\n") };
}

/** LANG of /etc/default/locale or /etc/locale.conf; other LC_* lines stay. */
export function withLang(text: string | null, locale: string): string {
  const lines = (text ?? "").split("\n");
  const at = lines.findIndex((line) => /^\s*LANG=/.test(line));
  if (at < 0) return `${text ?? ""}${text && !text.endsWith("\n") ? "\n" : ""}LANG=${locale}\n`;
  const now = /^\s*LANG=["']?([^"'\s]*)["']?\s*$/.exec(lines[at]!)?.[1];
  return now === locale ? (text ?? "") : lines.with(at, `LANG=${locale}`).join("\n");
}

/** The locale's line in /etc/locale.gen, uncommented where it stands, or added. */
export function withLocaleGen(text: string | null, locale: string): string {
  const line = `${locale} UTF-8`;
  const lines = (text ?? "").split("\n");
  if (lines.some((one) => one.trim() === line)) return text ?? "";
  const commented = lines.findIndex((one) => one.replace(/^\s*#+\s*/, "").trim() === line);
  if (commented >= 0) return lines.with(commented, line).join("\n");
  return `${text ?? ""}${text && !text.endsWith("\n") ? "\n" : ""}${line}\n`;
}
