import { quantile, show } from "./row.ts";
import type { Figure, Row } from "./row.ts";

/** The rows for a terminal. */
export function printRows(rows: readonly Row[]): string {
  return rows.map(printRow).join("\n\n");
}

function printRow(row: Row): string {
  const width = Math.max(...row.figures.map((figure) => figure.what.length));
  const figures = row.figures.map((figure) => `  ${figure.what.padEnd(width)}  ${show(figure.value, figure.unit).padStart(10)}${spread(figure)}`);
  const requirements = row.requirements.map(({ what, required, reached, met }) => `  ${met ? "✓" : "✗"} ${what}: ${reached} (${required})${met ? "" : "  NOT MET"}`);
  return [`${row.title}  [${row.name}]`, ...figures, ...requirements, ...row.notes.map((note) => `  · ${note}`)].join("\n");
}

function spread({ samples, unit }: Figure): string {
  if (samples === undefined || samples.length < 2 || unit === "processes") return "";
  return `   ${show(Math.min(...samples), unit)} … ${show(Math.max(...samples), unit)}${samples.length >= 10 ? `, 95 % within ${show(quantile(samples, 0.95), unit)}` : ""}`;
}

/** The rows as a page. @param machine what it ran on, a line. */
export function markdown(rows: readonly Row[], machine: string): string {
  const table = rows.flatMap((row) => row.requirements.map(({ what, required, reached, met }) => `| ${row.title} | ${what} | ${required} | ${reached} | ${met ? "yes" : "**no**"} |`));
  const sections = rows.map((row) => {
    const figures = row.figures.map((figure) => `| ${figure.what.trim()} | ${show(figure.value, figure.unit)} | ${spread(figure).trim()} |`);
    return [`## ${row.title}`, "", "| | median | from … to |", "|---|---:|---|", ...figures, "", ...row.notes.map((note) => `- ${note}`)].join("\n");
  });
  return `# What was measured\n\nWritten by \`npm run bench\`. ${machine}\n\n| row | what | required | reached | met |\n|---|---|---|---|---|\n${table.join("\n")}\n\n${sections.join("\n\n")}\n`;
}
