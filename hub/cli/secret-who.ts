import { audienceOf } from "../../shared/secrets/recipients-file.ts";
import type { Paint } from "./show.ts";
import { plain, table } from "./show.ts";
import { sealedTo, type SecretStore } from "./secret-store.ts";

/** Who may read which secret, who can, and what is to be done where the two differ. */

export interface SecretStanding {
  readonly name: string;
  readonly owners: readonly string[];
  /** Nodes that may read it. */
  readonly nodes: readonly string[];
  /** Of these, the ones whose recipient the repository does not know. */
  readonly lacking: readonly string[];
  /** Owners and nodes that may read it, and to whom the file is not encrypted yet. */
  readonly notYet: readonly string[];
  /** Whoever can read the file now, and should not: nodes by name, others by recipient. */
  readonly tooMany: readonly string[];
  /** False: the file was not written by `evenkeel secret`, and nobody knows who can read it. */
  readonly known: boolean;
}

export function whoReads(store: SecretStore, only?: string): readonly SecretStanding[] {
  const names = [...store.files].toSorted().filter((name) => only === undefined || name === only);
  return names.map((name) => {
    const audience = audienceOf(store.entries[name] ?? { nodes: [], roles: [] }, store.owners, store.nodes);
    const sealed = sealedTo(store, name);
    const named = (recipient: string): string => store.nodes.find((node) => node.recipient === recipient)?.name ?? recipient;
    const able = new Set(sealed ?? audience.recipients);
    return {
      name,
      owners: Object.keys(store.owners),
      nodes: audience.nodes.map((node) => node.name),
      lacking: audience.lacking,
      notYet: [...Object.entries(store.owners).filter(([, recipient]) => !able.has(recipient)).map(([owner]) => owner), ...audience.nodes.filter((node) => node.recipient !== undefined && !able.has(node.recipient)).map((node) => node.name)],
      tooMany: [...able].filter((recipient) => !audience.recipients.includes(recipient)).map(named),
      known: sealed !== null,
    };
  });
}

export function showWho(rows: readonly SecretStanding[], store: SecretStore, paint: Paint): string {
  if (rows.length === 0) return `${paint.dim("no secrets yet: `evenkeel secret set NAME --for NODE,NODE` makes one")}\n`;
  const text = (each: string) => ({ text: each, style: plain });
  const head = ["SECRET", "OWNERS", "NODES", "STANDING"].map((each) => ({ text: each, style: paint.dim }));
  const body = rows.map((row) => {
    const standing = standingOf(row);
    const all = row.nodes.length === store.nodes.length && row.nodes.length > 1;
    return [{ text: row.name, style: paint.bold }, text(row.owners.join(", ") || "-"), text(all ? "all" : row.nodes.join(", ") || "-"), { text: standing || "good", style: standing === "" ? paint.green : paint.yellow }];
  });
  return table([head, ...body]);
}

function standingOf({ name, lacking, notYet, tooMany, known }: SecretStanding): string {
  if (!known) return `not known to whom it is encrypted: evenkeel secret rotate ${name}`;
  return [
    ...(lacking.length > 0 ? [`no recipient of ${lacking.join(", ")}: evenkeel secret trust NODE`] : []),
    ...(notYet.length > 0 ? [`not yet to ${notYet.join(", ")}: evenkeel secret rotate ${name}`] : []),
    ...(tooMany.length > 0 ? [`${tooMany.join(", ")} can still read it: rotate, and set it anew`] : []),
  ].join("; ");
}
