import * as z from "zod";

/**
 * Text or bytes that a section carries. In the repository it is written in one of four ways, wherever a kind wants
 * content (a file, a unit, a key):
 *
 * ```yaml
 * content: "as it stands here\n"
 * content: { file: motd }           # files/motd, byte for byte
 * content: { template: motd.eta }   # files/motd.eta, rendered for this node
 * content: { secret: db-password }  # secrets/db-password.age, decrypted on the node
 * ```
 *
 * The schema makes a {@link Content} that only knows where its bytes come from; rendering a node reads the repository
 * and fills them in. Kinds see filled ones only.
 */
export class Content {
  readonly from: ContentSource;
  readonly #bytes: Uint8Array | null;

  constructor(from: ContentSource, bytes?: Uint8Array) {
    this.from = from;
    this.#bytes = bytes ?? ("text" in from ? new TextEncoder().encode(from.text) : null);
  }

  get filled(): boolean {
    return this.#bytes !== null;
  }

  /** @throws when the content was never filled in, which is a bug in the caller: see `contents.ts`. */
  get bytes(): Uint8Array {
    if (this.#bytes === null) throw new Error(`content of ${describeSource(this.from)} was used before it was rendered`);
    return this.#bytes;
  }
}

export type ContentSource = { readonly text: string } | { readonly file: string } | { readonly template: string } | { readonly secret: string };

/** For people: where content comes from. */
export function describeSource(from: ContentSource): string {
  if ("file" in from) return `files/${from.file}`;
  if ("template" in from) return `files/${from.template}`;
  if ("secret" in from) return `secrets/${from.secret}.age`;
  return "the section itself";
}

const repositoryPath = z
  .string()
  .min(1)
  .max(255)
  .regex(/^(?!\/)(?!.*(^|\/)\.\.?(\/|$))[^\0]+$/, "a path below files/, without a leading slash and without . or .. in it");

/** The schema of {@link Content}, to be used by kinds. */
export const content = z
  .union([
    z.string().max(256 * 1024).describe("The text itself"),
    z.strictObject({ file: repositoryPath.describe("A file below files/, taken byte for byte") }),
    z.strictObject({ template: repositoryPath.describe("A template (*.eta) below files/, rendered for the node") }),
    z.strictObject({ secret: z.string().max(64).describe("A secret, byte for byte: secrets/NAME.age, which only the nodes that may read it can decrypt") }),
  ])
  .transform((value) => new Content(typeof value === "string" ? { text: value } : value));
