import type * as z from "zod";
import { Content } from "../config/content.ts";
import { placeOfSource, sourcesIn } from "../config/contents.ts";
import type { Contents } from "../config/contents.ts";
import { errorAt } from "../config/diagnostic.ts";
import type { Diagnostic, Span } from "../config/diagnostic.ts";
import { formatPath, locate } from "../config/located.ts";
import type { Located, LocatedEntry, Path } from "../config/located.ts";
import { fitSecrets, referencesIn, textOf } from "./references.ts";
import type { Fitted } from "./references.ts";
import type { Unopened, Vault } from "./vault.ts";

/** A section's use of secrets: where, which, and what of it cannot be had. */

/** One use of a secret by a node's section: by `{secret: NAME}`, or by a template that the section names. */
export interface SecretUse {
  readonly name: string;
  /** Where it is named: in the section, or in the template. */
  readonly span: Span;
  /** The key of the section under which it is used. */
  readonly key: string;
}

/** All uses in a section. Templates must have been prepared. */
export function usesIn(section: Located, contents: Contents): readonly SecretUse[] {
  const uses: SecretUse[] = referencesIn(section).map(({ name, span, path }) => ({ name, span, key: String(path[0]) }));
  if (section.kind !== "map") return uses;
  for (const [key, { value }] of section.entries) {
    for (const { from, span } of sourcesIn(value)) {
      if (!("template" in from)) continue;
      for (const name of contents.secretsOf(from)) uses.push({ name, span: contents.placeOfSecret(from, name) ?? span, key });
    }
  }
  return uses;
}

/** The section with text for its secrets: the secrets themselves, as far as the vault could open them. */
export function fitSection(schema: z.ZodType, section: Located, vault: Vault): Fitted {
  const references = referencesIn(section);
  if (references.length === 0) return { located: section, unfit: [], misfits: [] };
  return fitSecrets(schema, section, references, (name) => {
    const value = vault.value(name);
    return value.state === "open" ? textOf(value.bytes) : undefined;
  });
}

/** Kinds whose keys are things of their own: when a secret of one cannot be had, the others can. */
const KEYED = new Set(["files"]);

/** What of a section is not to be had, on a node that should have opened its secrets; undefined when all of it is. */
export function unopenedOf(kind: string, uses: readonly SecretUse[], misfits: Fitted["misfits"], vault: Vault): Unopened | undefined {
  const troubles = uses.flatMap(({ name, key }) => {
    const value = vault.value(name);
    return value.state === "unopened" ? [{ key, message: value.message }] : [];
  });
  for (const { reference, message } of misfits) {
    troubles.push({ key: String(reference.path[0]), message: `the secret ${JSON.stringify(reference.name)} does not fit ${formatPath([kind, ...reference.path])}: ${message}. Run \`evenkeel secret set ${reference.name}\` with a value that does, commit and push` });
  }
  if (troubles.length === 0) return undefined;
  const message = [...new Set(troubles.map((trouble) => trouble.message))].join("\n").slice(0, 3_000);
  return { message, keys: KEYED.has(kind) ? new Set(troubles.map((trouble) => trouble.key)) : null };
}

/** Kinds that write content to files that everybody on the machine may read. */
const READABLE_BY_ALL: Readonly<Record<string, string>> = {
  services: "a unit's file can be read by everybody on the machine: put the secret in a file of mode 0600 (section files), and name that with EnvironmentFile= or LoadCredential=",
  apt: "apt's sources and keys can be read by everybody on the machine: put the user and password in a file of mode 0600 below /etc/apt/auth.conf.d (apt_auth.conf(5))",
};

/** A file with a secret in it must not be readable by others: told at its mode. `section` is as the kind's schema gives it. */
export function exposedSecrets(kind: string, section: unknown, entry: LocatedEntry, contents: Contents): readonly Diagnostic[] {
  const found: Diagnostic[] = [];
  const tell = (path: Path, message: string, help?: string) => {
    const place = locate(entry.value, path);
    found.push(errorAt(place.missing.length > 0 || place.value.kind === "map" ? (place.keySpan ?? entry.keySpan) : place.value.span, `${formatPath([kind, ...path])}: ${message}`, help));
  };
  const walk = (value: unknown, path: Path): void => {
    if (value instanceof Content || value === null || typeof value !== "object" || value instanceof Uint8Array) return;
    const mode = "mode" in value && typeof value.mode === "number" ? value.mode : undefined;
    for (const [key, each] of Object.entries(value)) {
      const inside: Path = Array.isArray(value) ? [...path, Number(key)] : [...path, key];
      const secrets = each instanceof Content ? contents.secretsOf(each.from) : [];
      const reason = READABLE_BY_ALL[kind];
      if (secrets.length === 0) walk(each, inside);
      else if (mode !== undefined && (mode & 0o007) !== 0) {
        tell([...path, "mode"], `a file with a secret in it must not be readable by others (it is ${mode.toString(8).padStart(4, "0")}, and holds ${secrets.join(", ")})`, 'write mode: "0600", or "0640" with the group that reads it');
      } else if (mode === undefined && reason !== undefined) {
        const source = placeOfSource(entry.value, (each as Content).from);
        if (source !== undefined) found.push(errorAt(source, `a secret (${secrets.join(", ")}) cannot stand here`, reason));
        else tell(inside, `a secret (${secrets.join(", ")}) cannot stand here`, reason);
      }
    }
  };
  walk(section, []);
  return found;
}
