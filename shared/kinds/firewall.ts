import { readAccounts } from "./accounts.ts";
import type { Accounts } from "./accounts.ts";
import { rawFault, rulesText, TABLE } from "./firewall-rules.ts";
import { ENABLED, LIST_ARGV, LISTING, LOADED, RULES, SCRIPT, scriptText, UNIT, UNIT_PATH, unitText } from "./firewall-script.ts";
import { firewallSchema, resolveFirewall } from "./firewall-section.ts";
import type { FirewallWant } from "./firewall-section.ts";
import { defineKind } from "./kind.ts";
import type { Act, Output, Owned, ResourceId, Step, StepCommon } from "./kind.ts";
import { failStep, lookAt, planFile, restoreStep } from "./managed-file.ts";
import type { At, WantedFile } from "./managed-file.ts";

const NFT_TIMEOUT_MS = 30_000;
const LIVE = "table";

interface Facts {
  readonly accounts: Accounts;
  readonly rules: At;
  readonly script: At;
  readonly unit: At;
  readonly enabled: boolean;
  /** What the kernel has now; null where nothing is wanted or owned. */
  readonly live: Output | null;
  /** What the script put in place last: the file's bytes are those that are wanted, and what the kernel listed then. */
  readonly loaded: At;
  readonly listing: string | null;
}

/** Keys of the inventory are the paths of the files, the unit for its being enabled, and `table` for what is in the kernel. */
export const firewall = defineKind({
  name: "firewall",
  summary: "What is let in to the node, and from where, by nftables; it knows what the cluster itself needs",
  schema: firewallSchema,
  resolve: resolveFirewall,

  async observe(want, probe, owned): Promise<Facts> {
    const wanted = want.policy !== undefined;
    const files = wanted ? filesOf(want) : null;
    const look = (file: WantedFile | undefined, path: string): Promise<At> => lookAt(probe, path, file === undefined ? {} : { content: file.content });
    const [accounts, rules, script, unit, enabled, loaded, listing, live] = await Promise.all([
      readAccounts(probe),
      look(files?.rules, RULES),
      look(files?.script, SCRIPT),
      look(files?.unit, UNIT_PATH),
      probe.readLink(ENABLED),
      look(files?.rules, LOADED),
      probe.readText(LISTING),
      wanted || owned.size > 0 ? probe.run(LIST_ARGV, { timeoutMs: NFT_TIMEOUT_MS }) : null,
    ]);
    return { accounts, rules, script, unit, enabled: enabled !== null, loaded, listing, live };
  },

  plan(want, facts, owned) {
    if (want.policy === undefined) return prune(facts, owned);
    if (facts.live?.code === 127) return [failStep({ resource: `firewall/${LIVE}` }, "nft is not installed", "nft is not installed on this node: declare it, `packages: {nftables: present}`")];
    const fault = want.raw === undefined ? null : rawFault(new TextDecoder().decode(want.raw.bytes));
    if (fault !== null) return [failStep({ resource: `firewall/${RULES}` }, "raw is not taken", `raw: ${fault}. The firewall is left as it is.`)];
    return planWanted(want, facts, owned);
  },

  // Whoever starts Debian's nftables.service anew throws all tables away.
  watch: (want) => (want.policy === undefined ? {} : { paths: [RULES, SCRIPT, UNIT_PATH, LOADED], units: ["nftables.service"] }),

  gate: {
    observe: async (want, probe) => (want.policy === undefined ? null : probe.run(LIST_ARGV, { timeoutMs: NFT_TIMEOUT_MS })),
    reasons: (want, live) => (want.policy === undefined || live?.code === 0 ? [] : [`the firewall's table ${TABLE} is not in place`]),
  },
});

function filesOf(want: FirewallWant): { readonly rules: WantedFile; readonly script: WantedFile; readonly unit: WantedFile } {
  const file = (path: string, text: string, mode: number): WantedFile => ({ path, content: new TextEncoder().encode(text), mode, owner: "root", group: "root" });
  return { rules: file(RULES, rulesText(want), 0o600), script: file(SCRIPT, scriptText, 0o755), unit: file(UNIT_PATH, unitText, 0o644) };
}

const BACK: Act = { doing: "putting the earlier firewall back", argv: [SCRIPT, "back"], timeoutMs: NFT_TIMEOUT_MS };

function planWanted(want: FirewallWant, facts: Facts, owned: Owned): readonly Step[] {
  const { rules, script, unit } = filesOf(want);
  const context = (path: string, common: Partial<StepCommon>) => ({ resource: `firewall/${path}` as const, accounts: facts.accounts, owned, common });
  const check: ResourceId = "firewall/check";
  const written = planFile(rules, facts.rules, context(RULES, { impact: "network", needs: [check] }));
  const checked: Step[] = written.some((step) => step.do === "write")
    ? [{ resource: check, why: "nft has to accept the new rules before they are put in place", impact: "none", do: "run", argv: ["nft", "-c", "-f", "-"], timeoutMs: NFT_TIMEOUT_MS, input: new TextDecoder().decode(rules.content) }]
    : [];
  const units = planFile(unit, facts.unit, context(UNIT_PATH, { needs: [`firewall/${SCRIPT}`] }));
  const reload: Step[] = units.length > 0 ? [{ resource: `firewall/${UNIT_PATH}`, why: "systemd has to read the changed unit file", impact: "none", do: "unit", action: "daemon-reload", unit: UNIT }] : [];
  const enable: Step[] = facts.enabled ? [] : [{ resource: `firewall/${UNIT}`, needs: [`firewall/${UNIT_PATH}`], why: "is not enabled, should be in place at boot", impact: "none", do: "unit", action: "enable", unit: UNIT, ...(owned.has(UNIT) ? {} : { claim: { enabled: false } }) }];
  const why = written.some((step) => step.do === "write") ? "the rules have changed" : liveFault(facts);
  const load: Step[] = why === null ? [] : [{ resource: `firewall/${LIVE}`, needs: [`firewall/${SCRIPT}`, `firewall/${RULES}`], why, impact: "network", do: "run", argv: [SCRIPT, "load"], timeoutMs: NFT_TIMEOUT_MS, undo: BACK, ...(owned.has(LIVE) ? {} : { claim: { table: TABLE } }) }];
  return [...planFile(script, facts.script, context(SCRIPT, {})), ...checked, ...written, ...units, ...reload, ...enable, ...load];
}

/** Why what the kernel has is not what the file says, or null. */
function liveFault({ live, loaded, listing }: Facts): string | null {
  if (live === null || live.code !== 0) return `the table ${TABLE} is not in place`;
  if (!loaded.same) return "the rules in place are not those of the file";
  return listing !== null && steady(live.stdout) === steady(listing) ? null : `somebody has changed the table ${TABLE}`;
}

/** What a set with timeouts or one that rules fill holds changes by itself, and is nobody's doing. */
function steady(listing: string): string {
  return listing.replace(/(\n\t(?:set|map) \S+ \{\n)((?:\t\t[^\n]*\n)*?)(\t\}\n)/g, (whole, head: string, body: string, tail: string) => (/^\t\t(flags [^\n]*(timeout|dynamic)|timeout )/m.test(body) ? `${head}${body.replace(/^\t\telements = \{[^}]*\}\n/m, "")}${tail}` : whole));
}

/** Nothing is wanted any more: the table goes, then the unit and the files. Tables of others stay. */
function prune(facts: Facts, owned: Owned): readonly Step[] {
  if (owned.size === 0) return [];
  const steps: Step[] = [];
  const common = { impact: "none", removes: true, release: true } as const;
  if (owned.has(RULES)) steps.push({ ...restoreStep(`firewall/${RULES}`, RULES, owned.get(RULES)), impact: "network" });
  if (owned.has(LIVE)) {
    const there = facts.live?.code === 0 && facts.script.stat !== null;
    steps.push({ resource: `firewall/${LIVE}`, why: there ? "no longer declared" : "no longer declared, and gone", ...common, ...(there ? { impact: "network" as const, undo: BACK } : {}), do: "run", argv: there ? [SCRIPT, "back"] : ["true"], timeoutMs: NFT_TIMEOUT_MS });
  }
  if (owned.has(UNIT)) steps.push({ resource: `firewall/${UNIT}`, why: "no longer declared", ...common, ...(facts.enabled ? { do: "unit", action: "disable", unit: UNIT } : { do: "run", argv: ["true"], timeoutMs: 10_000 }) });
  if (owned.has(UNIT_PATH)) {
    const { release: _, ...unit } = restoreStep(`firewall/${UNIT_PATH}`, UNIT_PATH, owned.get(UNIT_PATH));
    steps.push(unit, { resource: `firewall/${UNIT_PATH}`, why: "systemd has to forget the unit file", ...common, do: "unit", action: "daemon-reload", unit: UNIT });
  }
  if (owned.has(SCRIPT)) steps.push(restoreStep(`firewall/${SCRIPT}`, SCRIPT, owned.get(SCRIPT)));
  return steps;
}
