import { defineKind } from "./kind.ts";
import type { Given, Owned, Step } from "./kind.ts";
import { makeForOther, planCluster, planMember, resolveLxd } from "./lxd-cluster.ts";
import { drainSteps, gateReasons, observeGoing } from "./lxd-drain.ts";
import { observeLxd } from "./lxd-facts.ts";
import type { LxdFacts } from "./lxd-facts.ts";
import { planImages, planInstances } from "./lxd-instances.ts";
import { planNetworks, planPools, planProfiles, planProjects, planSettings } from "./lxd-objects.ts";
import { SCRIPT, scriptText } from "./lxd-script.ts";
import { lxdSchema } from "./lxd-section.ts";
import type { LxdWant } from "./lxd-section.ts";
import { planFile, restoreStep } from "./managed-file.ts";

const NOTHING_GIVEN: Given = new Map();

/** LXD 5 and 6, and Incus: keys of the inventory are the path of its script, `cluster`, `config/KEY`, `profiles/NAME` and `images/NAME`; all else is never taken away. */
export const lxd = defineKind({
  name: "lxd",
  summary: "LXD or Incus: the cluster and its members, pools, networks, projects, profiles, images and instances",
  schema: lxdSchema,
  resolve: resolveLxd,

  observe: (want, probe, owned) => observeLxd(want, probe, owned),

  plan(want: LxdWant, facts: LxdFacts, owned: Owned, given: Given = NOTHING_GIVEN): readonly Step[] {
    const script = planScript(want, facts, owned);
    // The section is gone, and so is what it was about: what is left in the inventory waits until it is there again.
    if (facts.product === null && isEmpty(want)) return script;
    const cluster = isEmpty(want) ? [] : planCluster(want, facts, owned, given);
    if (cluster.length > 0) return [...script, ...cluster];
    return [
      ...script,
      ...planMember(want, facts),
      ...planSettings(want, facts, owned),
      ...planProjects(want, facts),
      ...planPools(want, facts),
      ...planNetworks(want, facts),
      ...planProfiles(want, facts, owned),
      ...planImages(want, facts, owned),
      ...planInstances(want, facts),
    ];
  },

  make: makeForOther,

  watch: (want) => (want.cluster === undefined ? {} : { paths: [SCRIPT] }),

  drain: { observe: observeGoing, steps: drainSteps },
  gate: { observe: observeGoing, reasons: gateReasons },
});

/** Only a member of a cluster is ever evacuated. */
function planScript(want: LxdWant, { script, accounts }: LxdFacts, owned: Owned): readonly Step[] {
  const resource = `lxd/${SCRIPT}` as const;
  if (want.cluster !== undefined) return planFile({ path: SCRIPT, content: new TextEncoder().encode(scriptText), mode: 0o755, owner: "root", group: "root" }, script, { resource, accounts, owned });
  return owned.has(SCRIPT) ? [restoreStep(resource, SCRIPT, owned.get(SCRIPT))] : [];
}

function isEmpty(want: LxdWant): boolean {
  return want.cluster === undefined && want.address === undefined && [want.config, want.pools, want.networks, want.projects, want.profiles, want.images, want.instances].every((entries) => Object.keys(entries).length === 0);
}
