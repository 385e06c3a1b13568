import { readAccounts } from "./accounts.ts";
import type { Accounts } from "./accounts.ts";
import { resolveAmong } from "./frr-among.ts";
import { daemonsOf, holdsPassword, renderConf, switchedOn, withDaemons } from "./frr-conf.ts";
import { drainSteps, gateReasons, observeDrain, observeGate } from "./frr-drain.ts";
import { compare, sayDifference } from "./frr-running.ts";
import { CONF, RELOADER, SCRIPT, scriptText, UNIT } from "./frr-script.ts";
import { frrSchema } from "./frr-section.ts";
import type { FrrWant } from "./frr-section.ts";
import { defineKind } from "./kind.ts";
import type { Act, Output, Owned, ResourceId, Step, StepCommon } from "./kind.ts";
import { lookAt, planFile, restoreStep } from "./managed-file.ts";
import type { At } from "./managed-file.ts";

/** A resource of its own, so that what is refused is no reason to put back other changes of the network. */
const CHECK: ResourceId = "frr/check";
const DAEMONS = "/etc/frr/daemons";
/** zebra takes over what the kernel has as it starts, and after a boot that is off, whatever the file says by saying nothing. */
const SYSCTL = "/etc/sysctl.d/60-evenkeel-frr.conf";
const ENABLED = `/etc/systemd/system/multi-user.target.wants/${UNIT}`;

/** 0.7 s for a small configuration; each changed line is a call of vtysh. */
const RELOAD_TIMEOUT_MS = 120_000;
const SHOW_TIMEOUT_MS = 30_000;

interface Facts {
  readonly conf: At;
  readonly daemons: At;
  readonly script: At;
  readonly sysctl: At;
  /** /etc/frr/daemons as it is, or null: FRR is not installed. */
  readonly daemonsText: string | null;
  readonly hasReloader: boolean;
  readonly isEnabled: boolean;
  readonly accounts: Accounts;
  /** What FRR runs with, or why it does not say. */
  readonly running: Output | null;
}

/** Keys of the inventory are the paths of the files, and the unit for its state. */
export const frr = defineKind({
  name: "frr",
  summary: "Routing by FRR: BGP, OSPF, static routes, policy and BFD, changed without ending sessions",
  schema: frrSchema,
  resolve: resolveAmong,

  async observe(want, probe, owned): Promise<Facts> {
    const daemonsText = await probe.readText(DAEMONS);
    const wanted = isWanted(want);
    const [accounts, conf, daemons, script, sysctl, reloader, enabled, running] = await Promise.all([
      readAccounts(probe),
      lookAt(probe, CONF, wanted ? { content: bytes(renderConf(want)) } : {}),
      lookAt(probe, DAEMONS, daemonsText === null || !wanted ? {} : { content: bytes(withDaemons(daemonsText, daemonsOf(want))) }),
      lookAt(probe, SCRIPT, wanted ? { content: bytes(scriptText) } : {}),
      lookAt(probe, SYSCTL, wanted ? { content: bytes(forwardingText(want)) } : {}),
      probe.stat(RELOADER),
      probe.stat(ENABLED),
      daemonsText === null || (!wanted && owned.size === 0) ? null : probe.run(["vtysh", "-c", "show running-config"], { timeoutMs: SHOW_TIMEOUT_MS }),
    ]);
    return { accounts, conf, daemons, script, sysctl, daemonsText, hasReloader: reloader !== null, isEnabled: enabled !== null, running };
  },

  plan(want, facts, owned) {
    if (!isWanted(want)) return prune(facts, owned);
    const missing = facts.daemonsText === null ? "frr" : facts.hasReloader ? null : "frr-pythontools";
    if (missing !== null) return [{ resource: `frr/${UNIT}`, why: "does not exist", impact: "none", do: "fail", message: `${missing} is not installed on this node: declare it, \`packages: {frr: present, frr-pythontools: present}\`` }];
    return [...planFiles(want, facts, owned), ...planUnit(facts, owned)];
  },

  watch: (want) => (isWanted(want) ? { units: [UNIT], paths: [CONF, DAEMONS] } : {}),

  drain: { observe: observeDrain, steps: drainSteps },
  gate: { observe: observeGate, reasons: gateReasons },
});

/** Of what changes while FRR runs: the files are put back first. */
const readBack: Act = { doing: "having FRR read its earlier configuration", argv: [SCRIPT, "reload"], timeoutMs: RELOAD_TIMEOUT_MS };

const bytes = (text: string): Uint8Array => new TextEncoder().encode(text);

function forwardingText({ forwarding: { ipv4, ipv6 } }: FrrWant): string {
  return `# Kept by evenkeel (section frr). What is written here by hand is overwritten.\nnet.ipv4.ip_forward = ${ipv4 ? 1 : 0}\nnet.ipv6.conf.all.forwarding = ${ipv6 ? 1 : 0}\n`;
}

/** A section that says nothing but how to drain wants nothing. */
function isWanted(want: FrrWant): boolean {
  const filled = (of: object): boolean => Object.keys(of).length > 0;
  return want.bgp !== undefined || want.ospf !== undefined || want.raw !== undefined || [want.static, want.bfd, want.prefixLists, want.routeMaps].some(filled);
}

function planFiles(want: FrrWant, facts: Facts, owned: Owned): Step[] {
  const text = renderConf(want);
  const sensitive = holdsPassword(want) ? { sensitive: true as const } : {};
  const resource: ResourceId = `frr/${CONF}`;
  const context = (path: string, common: Partial<StepCommon>) => ({ resource: `frr/${path}` as const, accounts: facts.accounts, owned, common });
  const daemons = planDaemons(want, facts, owned);
  const conf = planFile({ path: CONF, content: bytes(text), mode: 0o640, owner: "frr", group: "frr" }, facts.conf, context(CONF, { impact: "network", needs: [CHECK, `frr/${DAEMONS}`], ...sensitive }));
  const script = planFile({ path: SCRIPT, content: bytes(scriptText), mode: 0o755, owner: "root", group: "root" }, facts.script, context(SCRIPT, {}));
  const sysctl = planFile({ path: SYSCTL, content: bytes(forwardingText(want)), mode: 0o644, owner: "root", group: "root" }, facts.sysctl, context(SYSCTL, {}));
  const check: Step = { resource: CHECK, needs: [`frr/${SCRIPT}`], why: "FRR has to accept the new configuration before it is put in place", impact: "none", do: "run", argv: [SCRIPT, "check"], timeoutMs: SHOW_TIMEOUT_MS, input: text };
  const isUp = facts.running?.code === 0;
  const difference = isUp ? compare(text, facts.running?.stdout ?? "") : null;
  const drifted = difference !== null && difference.missing.length + difference.extra.length > 0;
  const reload: Step[] = difference !== null && drifted ? [{ resource, needs: [`frr/${DAEMONS}`], why: sayDifference(difference), impact: "network", do: "run", argv: [SCRIPT, "reload"], timeoutMs: RELOAD_TIMEOUT_MS, undo: readBack }] : [];
  return [...script, ...(conf.some((step) => step.do === "write") ? [check] : []), ...daemons, ...conf, ...reload, ...sysctl];
}

/**
 * A daemon that comes new means a restart of all: by `systemctl reload` they are restarted as well, since systemd ends the new watchfrr with
 * the reload (seen with 8.4 and cgroup 2). One that is no longer needed goes with the next start; until then it has nothing to do.
 */
function planDaemons(want: FrrWant, facts: Facts, owned: Owned): Step[] {
  const wanted = daemonsOf(want);
  const runs = switchedOn(facts.daemonsText ?? "");
  const fresh = [...wanted].flatMap(([name, on]) => (on && !runs.has(name) ? [name] : []));
  const resource: ResourceId = `frr/${DAEMONS}`;
  // Where only zebra runs, nobody has a session that could end.
  const impact = fresh.length === 0 ? "none" : [...wanted.keys()].some((name) => runs.has(name)) ? "disruptive" : "network";
  const written = planFile({ path: DAEMONS, content: bytes(withDaemons(facts.daemonsText ?? "", wanted)), mode: 0o640, owner: "frr", group: "frr" }, facts.daemons, { resource, accounts: facts.accounts, owned, common: { impact, needs: [CHECK] } });
  if (fresh.length === 0 || facts.running?.code !== 0) return written;
  const argv: [string, ...string[]] = [SCRIPT, "restart"];
  return [...written, { resource, needs: [CHECK, `frr/${SCRIPT}`], why: `${fresh.join(", ")} has to be started, which restarts all of FRR`, impact, do: "run", argv, timeoutMs: RELOAD_TIMEOUT_MS, undo: { doing: "restarting FRR with its earlier daemons", argv, timeoutMs: RELOAD_TIMEOUT_MS } }];
}

function planUnit(facts: Facts, owned: Owned): Step[] {
  const isUp = facts.running?.code === 0;
  const claim = owned.has(UNIT) ? {} : { claim: { enabled: facts.isEnabled, running: isUp } };
  const unit = { resource: `frr/${UNIT}`, needs: [`frr/${CONF}`], do: "unit", unit: UNIT, ...claim } as const;
  return [
    ...(facts.isEnabled ? [] : [{ ...unit, why: "is not started at boot, should be", impact: "none", action: "enable" } as const]),
    ...(isUp ? [] : [{ ...unit, why: "does not run, or does not answer", impact: "network", action: "start" } as const]),
  ];
}

/** Nothing is wanted any more: both files are what they were before, and FRR reads them. */
function prune(facts: Facts, owned: Owned): Step[] {
  if (owned.size === 0) return [];
  const claim = owned.get(UNIT);
  const before = typeof claim === "object" && claim !== null ? (claim as { readonly enabled?: unknown; readonly running?: unknown }) : null;
  // Its daemons that have nothing to do any more go with the next start.
  const paths = [DAEMONS, CONF].filter((path) => owned.has(path));
  const last = paths.at(-1);
  const isUp = facts.running?.code === 0;
  const files = paths.flatMap((path): Step[] => {
    const resource: ResourceId = `frr/${path}`;
    const restore: Step = { ...restoreStep(resource, path, owned.get(path)), impact: "network" };
    if (path !== last || !isUp || before?.running === false) return [restore];
    return [restore, { resource, why: "no longer declared: FRR goes back to what it read before", impact: "network", removes: true, do: "run", argv: readBack.argv, timeoutMs: RELOAD_TIMEOUT_MS, undo: readBack }];
  });
  const unit = { resource: `frr/${UNIT}`, why: "no longer declared; it was so before", removes: true, do: "unit", unit: UNIT } as const;
  return [
    ...(before?.running === false && isUp ? [{ ...unit, impact: "network", action: "stop" } as const] : []),
    ...(before?.enabled === false && facts.isEnabled ? [{ ...unit, impact: "none", action: "disable" } as const] : []),
    ...(before === null ? [] : [{ resource: unit.resource, why: unit.why, impact: "none", removes: true, release: true, do: "run", argv: ["true"], timeoutMs: 10_000 } as const]),
    ...files,
    ...[SYSCTL, SCRIPT].flatMap((path) => (owned.has(path) ? [restoreStep(`frr/${path}`, path, owned.get(path))] : [])),
  ];
}
