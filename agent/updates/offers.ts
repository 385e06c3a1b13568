/** What apt offers, read from `apt-get -s upgrade --with-new-pkgs` and `apt-cache madison` (apt 2.6, recorded beside). */

export interface Offer {
  readonly name: string;
  /** Null for a package that is only now needed by another. */
  readonly from: string | null;
  readonly to: string;
  readonly security: boolean;
}

export interface Offers {
  readonly offers: readonly Offer[];
  /** Held by the owner, or for lack of something, or deferred by the archive (phased updates). */
  readonly keptBack: readonly string[];
}

const KEPT_BACK = "The following packages have been kept back:";

/** `Inst NAME [OLD] (NEW ORIGINS [ARCH])`, where ORIGINS is `Label:Version/Suite, Label:Suite …`. */
export function parseUpgrade(stdout: string): Offers {
  const offers: Offer[] = [];
  const lines = stdout.split("\n");
  for (const line of lines) {
    const found = /^Inst (\S+)(?: \[([^\]]+)\])? \((\S+)(?: (.*?))?(?: \[[^\]]*\])?\)/.exec(line);
    if (found === null) continue;
    const origins = (found[4] ?? "").split(", ");
    offers.push({ name: found[1]!, from: found[2] ?? null, to: found[3]!, security: origins.some(isSecurityOrigin) });
  }
  const at = lines.indexOf(KEPT_BACK);
  const after = at < 0 ? [] : lines.slice(at + 1);
  const end = after.findIndex((line) => !line.startsWith("  "));
  const keptBack = after.slice(0, Math.max(end, 0)).flatMap((line) => line.trim().split(/\s+/));
  return { offers, keptBack };
}

/** Debian's archive is labelled `Debian-Security`; Ubuntu's, and Debian's too, has a suite such as `noble-security`. */
export function isSecurityOrigin(origin: string): boolean {
  return origin.startsWith("Debian-Security:") || /[/:][a-z-]+-security$/.test(origin);
}

export interface ArchiveVersion {
  readonly name: string;
  readonly version: string;
  /** By the name of the suite or the last part of the address: madison knows no labels. */
  readonly security: boolean;
}

export function parseMadison(stdout: string): readonly ArchiveVersion[] {
  return stdout.split("\n").flatMap((line) => {
    const [name, version, where] = line.split(" | ").map((part) => part.trim());
    if (name === undefined || version === undefined || where === undefined || where.endsWith(" Sources")) return [];
    const [address = "", suite = ""] = where.split(" ");
    return [{ name, version, security: /^[a-z-]+-security(\/|$)/.test(suite) || /\/(debian-)?security\/?$/.test(address) }];
  });
}
