import { errorAt } from "./diagnostic.ts";
import type { Diagnostic } from "./diagnostic.ts";
import type { LocatedMap } from "./located.ts";
import type { Layer, Setting } from "./merge.ts";
import type { RoleReference, SettingsFile } from "./settings-file.ts";
import { didYouMean } from "./suggest.ts";

export type RoleGraph = {
  /** Role → all roles that it takes over, directly or not, without itself; deepest first. Only roles that can be used. */
  readonly closures: ReadonlyMap<string, readonly string[]>;
  readonly diagnostics: readonly Diagnostic[];
};

/**
 * Follows who includes whom. A role that includes itself or an unknown role, or that could not be read, is left out of the
 * result, and so is whoever includes it; the reason is told once, where it stands.
 *
 * @param names every role that has a file, also one that could not be read.
 */
export function resolveRoles(roles: ReadonlyMap<string, SettingsFile>, names: ReadonlySet<string>): RoleGraph {
  const closures = new Map<string, readonly string[]>();
  const broken = new Set<string>();
  const diagnostics: Diagnostic[] = [];
  const visit = (name: string, trail: readonly string[]): readonly string[] | undefined => {
    const known = closures.get(name);
    if (known !== undefined || broken.has(name)) return known;
    const role = roles.get(name);
    const closure = new Set<string>();
    let usable = role !== undefined;
    for (const reference of role?.roles ?? []) {
      const problem = referenceProblem(reference, [...trail, name], names);
      if (problem !== undefined) diagnostics.push(problem);
      const below = problem === undefined ? visit(reference.name, [...trail, name]) : undefined;
      if (below === undefined) usable = false;
      for (const each of below ?? []) closure.add(each);
      closure.add(reference.name);
    }
    if (!usable) {
      broken.add(name);
      return undefined;
    }
    closures.set(name, [...closure]);
    return closures.get(name);
  };
  for (const name of roles.keys()) visit(name, []);
  return { closures, diagnostics };
}

function referenceProblem(reference: RoleReference, trail: readonly string[], names: ReadonlySet<string>): Diagnostic | undefined {
  const from = trail.indexOf(reference.name);
  if (from !== -1) {
    const circle = [...trail.slice(from), reference.name].join(" → ");
    return errorAt(reference.span, `role ${JSON.stringify(reference.name)} includes itself: ${circle}`, "take one of these roles out of the other's roles:");
  }
  return names.has(reference.name) ? undefined : unknownRole(reference, names);
}

export function unknownRole(reference: RoleReference, names: ReadonlySet<string>): Diagnostic {
  const help = didYouMean(reference.name, names) ?? (names.size === 0 ? `make the file roles/${reference.name}.yaml` : `there are: ${[...names].slice(0, 20).join(", ")}`);
  return errorAt(reference.span, `there is no role ${JSON.stringify(reference.name)}`, help);
}

/** The roles of a node with all that they include, what is included first; without those that cannot be used. */
export function rolesOf(node: SettingsFile, closures: RoleGraph["closures"]): { readonly names: readonly string[]; readonly complete: boolean } {
  const all = new Set<string>();
  let complete = true;
  for (const { name } of node.roles) {
    const closure = closures.get(name);
    if (closure === undefined) complete = false;
    else for (const each of [...closure, name]) all.add(each);
  }
  return { names: [...all], complete };
}

/** What a node's file, its roles and the cluster's vars say, in layers ready to be merged. */
export function layersOf(node: SettingsFile, roleNames: readonly string[], roles: ReadonlyMap<string, SettingsFile>, closures: RoleGraph["closures"], clusterVars: LocatedMap | undefined): readonly Setting[] {
  const cluster: Layer = { title: "cluster.yaml", overrides: new Set() };
  const settings: Setting[] = [];
  if (clusterVars !== undefined && clusterVars.entries.size > 0) {
    const entries = new Map([["vars", { keySpan: clusterVars.span, value: clusterVars }]]);
    settings.push({ layer: cluster, value: { kind: "map", entries, span: clusterVars.span } });
  }
  const layers = new Map<string, Layer>();
  // What a role includes comes before it in roleNames, so its layer is there already.
  for (const name of roleNames) {
    const overrides = new Set<Layer>([cluster]);
    for (const included of closures.get(name) ?? []) {
      const layer = layers.get(included);
      if (layer !== undefined) overrides.add(layer);
    }
    const layer: Layer = { title: `role ${JSON.stringify(name)}`, overrides };
    layers.set(name, layer);
    const role = roles.get(name);
    if (role !== undefined) settings.push({ layer, value: role.settings });
  }
  settings.push({ layer: { title: "the node's own file", overrides: new Set([cluster, ...layers.values()]) }, value: node.settings });
  return settings;
}
