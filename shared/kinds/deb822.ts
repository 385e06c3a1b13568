/**
 * One stanza in the format of deb822(5), as apt reads it in `.sources` and preferences files. Values are single lines;
 * the schemas that feed this let no line break through.
 */
export function formatStanza(fields: readonly (readonly [name: string, value: string])[]): string {
  return fields.map(([name, value]) => `${name}: ${value}\n`).join("");
}
