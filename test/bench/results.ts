import { spread } from "./print.ts";
import { show } from "./row.ts";
import type { Row } from "./row.ts";

/** A row in RESULTS.md: its lines of the table of requirements, and its section with the name of the row in the heading. */
interface Section {
  readonly table: readonly string[];
  readonly body: string;
}

const HEAD = "# What was measured\n\nWritten by `npm run bench`, row by row: each says when and on what it was measured.\n\n| row | what | required | reached | met |\n|---|---|---|---|---|\n";

/**
 * The page with these rows in it. Rows of the page that were not measured this time stay as they are, and so do those
 * that could not be measured: what was found earlier is still true of its day.
 * @param earlier the page as it is, empty when there is none.
 * @param machine what these rows ran on and when, a line.
 */
export function mergeResults(earlier: string, rows: readonly Row[], machine: string): string {
  const sections = readSections(earlier);
  for (const row of rows) {
    if (row.figures.length > 0 || !sections.has(row.name)) sections.set(row.name, sectionOf(row, machine));
  }
  const all = [...sections.values()];
  return `${HEAD}${all.flatMap(({ table }) => table).join("\n")}\n\n${all.map(({ body }) => body).join("\n\n")}\n`;
}

function sectionOf(row: Row, machine: string): Section {
  const table = row.requirements.map(({ what, required, reached, met }) => `| \`${row.name}\` ${row.title} | ${what} | ${required} | ${reached} | ${met ? "yes" : "**no**"} |`);
  const figures = row.figures.map((figure) => `| ${figure.what.trim()} | ${show(figure.value, figure.unit)} | ${spread(figure).trim()} |`);
  const notes = [...row.notes, machine].map((note) => `- ${note.replaceAll(/\s*\n\s*/g, " ")}`);
  return { table, body: [`## ${row.title} (\`${row.name}\`)`, "", "| | median | from … to |", "|---|---:|---|", ...figures, "", ...notes].join("\n") };
}

function readSections(page: string): Map<string, Section> {
  const [head = "", ...bodies] = page.split(/^(?=## )/m);
  const sections = new Map<string, Section>();
  for (const body of bodies) {
    const name = /^## .* \(`([a-z]+)`\)$/m.exec(body)?.[1];
    if (name === undefined) continue;
    sections.set(name, { table: head.split("\n").filter((line) => line.startsWith(`| \`${name}\` `)), body: body.trimEnd() });
  }
  return sections;
}
