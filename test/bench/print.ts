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

export function spread({ samples, unit }: Figure): string {
  if (samples === undefined || samples.length < 2 || unit === "processes") return "";
  return `   ${show(Math.min(...samples), unit)} … ${show(Math.max(...samples), unit)}${samples.length >= 10 ? `, 95 % within ${show(quantile(samples, 0.95), unit)}` : ""}`;
}
