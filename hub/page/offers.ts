import { html } from "hono/html";
import type { CoordinationSummary, LeaseView, RequestView, RolloutView } from "../../shared/protocol/rollout.ts";
import { type Html, nodeHref } from "./format.ts";

/** Which actions are offered where. Each leads to a page that says what will happen and asks for a word; only its form acts. */
export interface Offer {
  readonly href: string;
  readonly words: string;
  readonly tone: "plain" | "grave";
}

export function actionLink({ href, words, tone }: Offer): Html {
  return html`<a class="button ${tone}" href="${href}">${words}…</a> `;
}

export function actionsOf({ id, phase }: RolloutView): readonly Offer[] {
  const at = (what: string, words: string, tone: Offer["tone"]): Offer => ({ href: `/rollouts/${encodeURIComponent(id)}/${what}`, words, tone });
  if (phase === "running") return [at("halt", "Halt", "grave"), at("cancel", "Cancel", "grave")];
  return phase === "halted" ? [at("resume", "Resume", "plain"), at("cancel", "Cancel", "grave")] : [];
}

/** What may be done with a lease before its node is past the point of no return, and after. */
export function offersOf(lease: LeaseView | null, request: RequestView | null): readonly Offer[] {
  const held = lease ?? request;
  if (held === null) return [];
  const at = (what: string, words: string, tone: Offer["tone"]): Offer => ({ href: `/leases/${encodeURIComponent(held.id)}/${what}`, words, tone });
  const early = lease === null || (lease.holder === "agent" && (lease.phase === "draining" || lease.phase === "drained"));
  const resumable = held.work === "hold" && held.rollout === null && (lease === null || lease.holder === "agent");
  return [
    ...(resumable ? [{ href: `${nodeHref(held.node)}/resume`, words: "Resume", tone: "plain" } as const] : []),
    ...(early ? [at("abort", lease === null ? "Withdraw" : "Call off", "plain")] : []),
    ...(lease === null ? [] : [at("clear", "Clear the slot", "grave")]),
  ];
}

export function nodeOffers(name: string, lease: LeaseView | null, request: RequestView | null, holds: CoordinationSummary["holds"]): readonly Offer[] {
  const at = (what: string, words: string, tone: Offer["tone"] = "plain"): Offer => ({ href: `${nodeHref(name)}/${what}`, words, tone });
  const free = lease === null && request === null;
  return [
    ...offersOf(lease, request),
    ...(free ? [at("drain", "Drain"), at("reboot", "Reboot")] : []),
    holds.some(({ what }) => what === name) ? at("unhold", "Lift the hold") : at("hold", "Hold"),
  ];
}
