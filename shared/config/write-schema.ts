import { mkdir, readFile, readdir, rm, writeFile } from "node:fs/promises";
import { dirname, join } from "node:path";
import { kinds } from "../kinds/index.ts";
import { EXAMPLE_FILES, artefacts } from "./artefacts.ts";

// `npm run schema`: writes the JSON Schemas for editors and the pages of the reference. A test fails when they are not up to date.

const root = join(import.meta.dirname, "..", "..");
const examples = await Promise.all(EXAMPLE_FILES.map(async (path) => ({ path, text: await readFile(join(root, path), "utf8") })));
const files = artefacts(kinds, examples);
for (const [path, text] of files) {
  await mkdir(dirname(join(root, path)), { recursive: true });
  await writeFile(join(root, path), text);
}
// The page of a kind that is gone.
for (const name of await readdir(join(root, "docs/reference"))) {
  if (name.endsWith(".md") && !files.has(`docs/reference/${name}`)) await rm(join(root, "docs/reference", name));
}
console.log(`wrote ${files.size} files: docs/reference/*.md and git-config/.evenkeel/schema/*.json`);
