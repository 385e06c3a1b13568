import type { Step } from "../../shared/kinds/kind.ts";

/** The path whose state a step changes, of those that can be kept and put back. */
export function touchedPath(step: Step): string | undefined {
  switch (step.do) {
    case "write":
    case "attributes":
    case "directory":
    case "link":
    case "remove":
    case "restore":
    case "download":
      return step.path;
    default:
      return undefined;
  }
}
