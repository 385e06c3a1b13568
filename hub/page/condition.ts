import { html, raw } from "hono/html";
import type { NodeCondition } from "../../shared/protocol/api.ts";
import { type Html, plural } from "./format.ts";

/**
 * How a condition looks: a symbol, a word and a colour, always together, because not everybody sees the colour.
 * The symbols are drawn, as fonts differ in what they have.
 */
type SymbolName = "check" | "turn" | "down" | "cross" | "ring" | "bar" | "dots" | "slash" | "pause" | "half";

/** What a colour stands for; `style.css` has the colours. */
export type Tone = "good" | "busy" | "warn" | "bad" | "off";

const SHAPES: Readonly<Record<SymbolName, string>> = {
  check: '<path d="m3.5 8.5 3 3 6-7"/>',
  turn: '<path d="M13 8a5 5 0 1 1-1.6-3.7M13 2.5v2.8h-2.8"/>',
  down: '<path d="M8 3v9.5M4 8.8l4 4 4-4"/>',
  cross: '<path d="m4 4 8 8m0-8-8 8"/>',
  ring: '<circle cx="8" cy="8" r="4.8" stroke-dasharray="3 2"/>',
  bar: '<circle cx="8" cy="8" r="5.2"/><path d="M5.5 8h5"/>',
  dots: '<path d="M3.5 8h.01M8 8h.01M12.5 8h.01" stroke-width="2.6"/>',
  slash: '<circle cx="8" cy="8" r="5.2"/><path d="m4.4 4.4 7.2 7.2"/>',
  pause: '<path d="M5.8 4v8M10.2 4v8"/>',
  half: '<path d="M8 2.5v6.5M8 12.6h.01" stroke-width="2.2"/>',
};

export function symbol(name: SymbolName): Html {
  return raw(
    `<svg class="symbol" viewBox="0 0 16 16" width="16" height="16" aria-hidden="true" focusable="false">${SHAPES[name]}</svg>`,
  );
}

interface Look {
  readonly symbol: SymbolName;
  readonly tone: Tone;
  /** Whether a person has to do something. */
  readonly attention: boolean;
}

export const CONDITION_LOOKS: Readonly<Record<NodeCondition, Look>> = {
  converged: { symbol: "check", tone: "good", attention: false },
  converging: { symbol: "turn", tone: "busy", attention: false },
  behind: { symbol: "down", tone: "warn", attention: false },
  failing: { symbol: "cross", tone: "bad", attention: true },
  refused: { symbol: "bar", tone: "bad", attention: true },
  offline: { symbol: "ring", tone: "warn", attention: true },
  waiting: { symbol: "dots", tone: "off", attention: false },
  revoked: { symbol: "slash", tone: "off", attention: false },
  guest: { symbol: "dots", tone: "off", attention: false },
};

export function conditionPill(condition: NodeCondition): Html {
  const look = CONDITION_LOOKS[condition];
  return html`<span class="pill" data-tone="${look.tone}">${symbol(look.symbol)}${condition}</span>`;
}

/** How many nodes are in each condition, the bad ones first; conditions that no node is in are left out. */
export function conditionTally(conditions: readonly NodeCondition[]): Html {
  const order: readonly NodeCondition[] = ["failing", "refused", "offline", "behind", "converging", "converged", "waiting", "revoked", "guest"];
  const present = order
    .map((condition) => ({ condition, count: conditions.filter((other) => other === condition).length }))
    .filter(({ count }) => count > 0);
  return html`<ul class="tally" aria-label="${plural(conditions.length, "node")} by condition">
    ${present.map(({ condition, count }) => {
      const look = CONDITION_LOOKS[condition];
      return html`<li class="pill" data-tone="${look.tone}">${symbol(look.symbol)}<b>${count}</b> ${condition}</li>`;
    })}
  </ul>`;
}

const OUTCOME_LOOKS: Readonly<Record<string, { symbol: SymbolName; tone: Tone }>> = {
  converged: { symbol: "check", tone: "good" },
  failed: { symbol: "cross", tone: "bad" },
  stopped: { symbol: "pause", tone: "warn" },
  interrupted: { symbol: "half", tone: "warn" },
  running: { symbol: "turn", tone: "busy" },
  done: { symbol: "check", tone: "good" },
  planned: { symbol: "dots", tone: "busy" },
  blocked: { symbol: "pause", tone: "warn" },
  held: { symbol: "pause", tone: "busy" },
  waiting: { symbol: "dots", tone: "busy" },
};

/** The look of an outcome of a converge, or of the result of one change. A word that we do not know is shown as it is. */
export function outcomeLook(outcome: string): { symbol: SymbolName; tone: Tone } {
  return (Object.hasOwn(OUTCOME_LOOKS, outcome) ? OUTCOME_LOOKS[outcome] : undefined) ?? { symbol: "dots", tone: "off" };
}

export function outcomeMark(outcome: string): Html {
  const look = outcomeLook(outcome);
  return html`<span class="mark" data-tone="${look.tone}">${symbol(look.symbol)}${outcome}</span>`;
}
