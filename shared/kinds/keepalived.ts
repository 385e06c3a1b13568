import { readAccounts } from "./accounts.ts";
import type { Accounts } from "./accounts.ts";
import { resolveAmong } from "./keepalived-among.ts";
import { holdsPassword, renderConf } from "./keepalived-conf.ts";
import { drainSteps, gateReasons, observeDrain, observeGate } from "./keepalived-drain.ts";
import { SCRIPT, scriptText } from "./keepalived-script.ts";
import { keepalivedSchema } from "./keepalived-section.ts";
import type { KeepalivedWant } from "./keepalived-section.ts";
import { defineKind } from "./kind.ts";
import type { Json, Owned, ResourceId, Step, StepCommon } from "./kind.ts";
import { lookAt, planFile, restoreStep } from "./managed-file.ts";
import type { At, WantedFile } from "./managed-file.ts";
import { canBeEnabled, isUp, showUnits, unknownUnit } from "./unit-state.ts";
import type { UnitState } from "./unit-state.ts";

/** A resource of its own, so that what is refused is no reason to put back other changes of the network. */
const CHECK: ResourceId = "keepalived/check";
const UNIT = "keepalived.service";
const CONF = "/etc/keepalived/keepalived.conf";
const DROP_IN = "/etc/systemd/system/keepalived.service.d/evenkeel.conf";
const CHECK_TIMEOUT_MS = 30_000;

/** Debian's unit has no Restart=: after a crash the address stayed on a node where nobody watched it, and a second holder came up. */
const DROP_IN_TEXT = `# Kept by evenkeel (section keepalived).
[Unit]
StartLimitIntervalSec=0
[Service]
Restart=on-failure
RestartSec=1
`;

interface Facts {
  readonly conf: At;
  readonly dropIn: At;
  readonly script: At;
  readonly accounts: Accounts;
  readonly unit: UnitState;
  /** Why systemd did not answer, or null. */
  readonly error: string | null;
}

/** Keys of the inventory are the paths of the three files, and the unit for its state. */
export const keepalived = defineKind({
  name: "keepalived",
  summary: "Addresses that move between nodes by VRRP: who holds them, who takes over, and how they are handed over",
  schema: keepalivedSchema,
  resolve: resolveAmong,

  async observe(want, probe, owned): Promise<Facts> {
    const wanted = hasInstances(want);
    const look = (file: WantedFile | null, path: string): Promise<At> => lookAt(probe, path, file === null ? {} : { content: file.content });
    const files = wanted ? filesOf(want) : null;
    const [accounts, conf, dropIn, script, shown] = await Promise.all([
      readAccounts(probe),
      look(files?.conf ?? null, CONF),
      look(files?.dropIn ?? null, DROP_IN),
      look(files?.script ?? null, SCRIPT),
      wanted || owned.size > 0 ? showUnits(probe, [UNIT]) : { units: new Map<string, UnitState>(), error: null },
    ]);
    return { accounts, conf, dropIn, script, unit: shown.units.get(UNIT) ?? unknownUnit, error: shown.error };
  },

  plan(want, facts, owned) {
    if (!hasInstances(want)) return prune(facts, owned);
    const resource: ResourceId = `keepalived/${UNIT}`;
    if (facts.error !== null) return [{ resource, why: "its state is not known", impact: "none", do: "fail", message: `${facts.error}. Without systemd's answer nothing is changed; it is tried again by itself.` }];
    if (facts.unit.loadState === "not-found") {
      return [{ resource, why: "does not exist", impact: "none", do: "fail", message: "keepalived is not installed on this node: declare it, `packages: {keepalived: present}`" }];
    }
    return [...planFiles(want, facts, owned), ...planUnit(facts, owned)];
  },

  watch: (want) => (hasInstances(want) ? { units: [UNIT], paths: [CONF, DROP_IN, SCRIPT] } : {}),

  drain: { observe: observeDrain, steps: drainSteps },
  gate: { observe: observeGate, reasons: gateReasons },
});

function hasInstances(want: KeepalivedWant): boolean {
  return Object.keys(want.instances).length > 0;
}

function filesOf(want: KeepalivedWant): { readonly conf: WantedFile; readonly dropIn: WantedFile; readonly script: WantedFile } {
  const file = (path: string, text: string, mode: number): WantedFile => ({ path, content: new TextEncoder().encode(text), mode, owner: "root", group: "root" });
  return { conf: file(CONF, renderConf(want), holdsPassword(want) ? 0o600 : 0o644), dropIn: file(DROP_IN, DROP_IN_TEXT, 0o644), script: file(SCRIPT, scriptText, 0o755) };
}

function planFiles(want: KeepalivedWant, facts: Facts, owned: Owned): Step[] {
  const { conf, dropIn, script } = filesOf(want);
  const context = (path: string, common: Partial<StepCommon>) => ({ resource: `keepalived/${path}` as const, accounts: facts.accounts, owned, common });
  const reload = (why: string): Step => ({ resource: `keepalived/${DROP_IN}`, why, impact: "none", do: "unit", action: "daemon-reload", unit: UNIT });
  const dropped = planFile(dropIn, facts.dropIn, context(DROP_IN, {}));
  // Its own steps change a unit file; that of others is seen when systemd says so.
  const reloads = dropped.length > 0 ? [reload("systemd has to read the changed unit file")] : facts.unit.needsReload ? [reload("a unit file has changed since systemd read it")] : [];
  const sensitive = holdsPassword(want) ? { sensitive: true as const } : {};
  const written = planFile(conf, facts.conf, context(CONF, { impact: "network", needs: [CHECK], then: [{ unit: UNIT, action: "reload" }], ...sensitive }));
  const check: Step = {
    resource: CHECK,
    needs: [`keepalived/${SCRIPT}`],
    why: "keepalived has to accept the new configuration before it is put in place",
    impact: "none",
    do: "run",
    argv: [SCRIPT, "check"],
    timeoutMs: CHECK_TIMEOUT_MS,
    input: new TextDecoder().decode(conf.content),
  };
  return [...planFile(script, facts.script, context(SCRIPT, {})), ...dropped, ...reloads, ...(written.some((step) => step.do === "write") ? [check] : []), ...written];
}

function planUnit({ unit }: Facts, owned: Owned): Step[] {
  const resource: ResourceId = `keepalived/${UNIT}`;
  const { loadState, fileState, activeState } = unit;
  const claim = owned.has(UNIT) ? {} : { claim: { loadState, fileState, activeState } };
  const common = { resource, needs: [`keepalived/${CONF}`, `keepalived/${DROP_IN}`] as const, do: "unit", unit: UNIT, ...claim } as const;
  return [
    ...(unit.fileState === "masked" ? [{ ...common, why: "is masked, should not be", impact: "none", action: "unmask" } as const] : []),
    ...(canBeEnabled(unit) ? [{ ...common, why: `is ${unit.fileState}, should be enabled`, impact: "none", action: "enable" } as const] : []),
    ...(isUp(unit) ? [] : [{ ...common, why: `is ${unit.activeState}, should be running`, impact: "network", action: "start" } as const]),
  ];
}

/** Nothing is wanted any more: the addresses go, and what was there before comes back. */
function prune(facts: Facts, owned: Owned): Step[] {
  if (owned.size === 0) return [];
  const claim = owned.get(UNIT);
  const before = (field: string): Json => (typeof claim === "object" && claim !== null && field in claim ? ((claim as { readonly [key: string]: Json })[field] ?? null) : null);
  const unit = { resource: `keepalived/${UNIT}`, do: "unit", unit: UNIT, removes: true } as const;
  const wasUp = claim === undefined || before("activeState") === "active";
  const stop: Step[] = !wasUp && isUp(facts.unit) ? [{ ...unit, why: "no longer declared; it did not run before", impact: "network", action: "stop" }] : [];
  const disable: Step[] = before("fileState") === "disabled" && facts.unit.fileState === "enabled" ? [{ ...unit, why: "no longer declared; it was disabled before", impact: "none", action: "disable" }] : [];
  const forget: Step[] = claim === undefined ? [] : [{ resource: unit.resource, why: "no longer declared", impact: "none", removes: true, release: true, do: "run", argv: ["true"], timeoutMs: 10_000 }];
  const files = [CONF, DROP_IN, SCRIPT].filter((path) => owned.has(path)).map((path): Step => {
    const step = restoreStep(`keepalived/${path}`, path, owned.get(path));
    return path === CONF ? { ...step, impact: "network", then: [{ unit: UNIT, action: "reload" }] } : step;
  });
  const reload: Step[] = owned.has(DROP_IN) ? [{ resource: `keepalived/${DROP_IN}`, why: "systemd has to read the changed unit file", impact: "none", removes: true, do: "unit", action: "daemon-reload", unit: UNIT }] : [];
  return [...stop, ...disable, ...forget, ...files, ...reload];
}
