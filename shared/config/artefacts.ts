import { editorSchemas } from "./json-schema.ts";
import type { DocumentedKind } from "./json-schema.ts";
import { referencePages } from "./reference.ts";
import type { ExampleFile } from "./reference.ts";

/** Where examples of sections are taken from, the first that has one; from the top of the project. */
export const EXAMPLE_FILES = ["git-config/cluster.yaml", "git-config/roles/base.yaml", "git-config/roles/web.yaml", "git-config/roles/front.yaml", "git-config/roles/routes.yaml", "git-config/roles/containers.yaml", "docs/reference/examples.yaml"] as const;

/** Where a cluster repository keeps the schemas that its YAML files name in their first line. */
export const EDITOR_SCHEMA_FOLDER = ".evenkeel/schema";

/** Path in a cluster repository → text, for the editor of whoever writes it. */
export function editorFiles(kinds: readonly DocumentedKind[]): ReadonlyMap<string, string> {
  return new Map([...editorSchemas(kinds)].map(([name, schema]) => [`${EDITOR_SCHEMA_FOLDER}/${name}`, `${JSON.stringify(schema, null, 2)}\n`]));
}

/** Everything that is made from the schemas and kept in Git: path from the top of the project → text. `npm run schema` writes it. */
export function artefacts(kinds: readonly DocumentedKind[], examples: readonly ExampleFile[]): ReadonlyMap<string, string> {
  const files = new Map<string, string>();
  for (const [path, text] of editorFiles(kinds)) files.set(`git-config/${path}`, text);
  for (const [name, text] of referencePages(kinds, examples)) files.set(`docs/reference/${name}`, text);
  return files;
}
