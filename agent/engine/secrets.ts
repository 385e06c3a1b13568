import type { ResourceId, Step } from "../../shared/kinds/kind.ts";
import type { Redactor } from "../../shared/secrets/redact.ts";
import type { Unopened } from "../../shared/secrets/vault.ts";

/**
 * What a plan may not do with the secrets that this node has opened, whatever kind it is of: show them, put them into an
 * argument that every user can see (/proc/PID/cmdline), or write them to a file that everybody may read.
 */
export function guardSecrets(steps: readonly Step[], redactor: Redactor): readonly Step[] {
  return steps.map((step) => {
    const why = redactor.text(step.why);
    const forbidden = problemOf(step, redactor);
    if (forbidden !== undefined) return { resource: step.resource, why, impact: "none", do: "fail", message: forbidden };
    return holdsSecret(step, redactor) ? { ...step, why, sensitive: true } : why === step.why ? step : { ...step, why };
  });
}

function problemOf(step: Step, redactor: Redactor): string | undefined {
  const argv = [...(step.do === "run" ? step.argv : []), ...(step.undo?.argv ?? [])];
  if (argv.some((argument) => redactor.isIn(argument))) {
    return `a secret would stand in the arguments of ${step.do === "run" ? step.argv[0] : (step.undo?.argv[0] ?? "a program")}, where every user of this machine can see it, so it is not started. Write the secret to a file of mode 0600 (section files), and give the program the file's name.`;
  }
  if (step.do === "write" && (step.mode & 0o007) !== 0 && redactor.isInBytes(step.content)) {
    return `${step.path} would hold a secret, and everybody on this machine may read it (mode ${step.mode.toString(8).padStart(4, "0")}), so it is not written. Give it mode "0600", or "0640" with the group that reads it.`;
  }
  if (step.claim !== undefined && redactor.isIn(JSON.stringify(step.claim))) return "a secret would stand in the agent's own records, so nothing is done. This is a mistake in the kind itself: please report it.";
  return undefined;
}

function holdsSecret(step: Step, redactor: Redactor): boolean {
  switch (step.do) {
    case "write":
      return redactor.isInBytes(step.content);
    case "run":
      return redactor.isIn(step.input ?? "");
    case "set":
      return redactor.isIn(step.value);
    case "download":
      return step.urls.some((url) => redactor.isIn(url));
    default:
      return false;
  }
}

/** Of a section some of whose keys cannot be had, because their secrets cannot be opened: those fail, and say why. */
export function withoutUnopened(kind: string, steps: readonly Step[], { keys, message }: Unopened & { readonly keys: ReadonlySet<string> }): readonly Step[] {
  const resources = new Set([...keys].map((key): ResourceId => `${kind}/${key}`));
  const failing = [...resources].map((resource): Step => ({ resource, why: "its secret cannot be opened", impact: "none", do: "fail", message }));
  return [...failing, ...steps.filter((step) => !resources.has(step.resource))];
}
