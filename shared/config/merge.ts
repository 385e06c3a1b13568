import { errorAt, noteAt, warningAt } from "./diagnostic.ts";
import type { Diagnostic } from "./diagnostic.ts";
import { describeLocated, formatPath, sameValue } from "./located.ts";
import type { Located, LocatedEntry, LocatedMap, Path } from "./located.ts";

/**
 * One file that settings come from. A layer overrides the layers that it includes, directly or not: a node's file its
 * roles, a role the roles that it lists, and every role the cluster's vars. Layers of which neither includes the other
 * are equals, and may not contradict each other.
 */
export interface Layer {
  /** For people: `role "web"`. */
  readonly title: string;
  /** The layers that this one overrides: all of them, not only the next. */
  readonly overrides: ReadonlySet<Layer>;
}

export interface Setting {
  readonly layer: Layer;
  readonly keySpan?: LocatedEntry["keySpan"];
  readonly value: Located;
}

export interface Merged {
  /** Undefined when nothing is left: every setting was taken away by `null`. */
  readonly value: Located | undefined;
  readonly diagnostics: readonly Diagnostic[];
}

/**
 * Merges what several layers say about one thing. Maps are joined key by key; of scalars and lists the one of the
 * overriding layer counts; `null` takes an entry away. Pure, and independent of the order of `settings` but for the
 * order of keys in the result.
 */
export function mergeSettings(settings: readonly Setting[], path: Path = []): Merged {
  const diagnostics: Diagnostic[] = [];
  const entry = mergeEntry(settings, path, diagnostics);
  return { value: entry?.value, diagnostics };
}

function mergeEntry(settings: readonly Setting[], path: Path, diagnostics: Diagnostic[]): (Setting & { readonly value: Located }) | undefined {
  for (const setting of settings) checkRemoval(setting, settings, path, diagnostics);
  const standing = settings.filter((setting) => !isReplaced(setting, settings));
  const [first] = standing;
  if (first === undefined) return undefined;
  const maps = standing.filter((setting) => setting.value.kind === "map");
  if (maps.length === standing.length) return mergeMaps(maps, path, diagnostics);
  const other = standing.find((setting) => setting !== first && !sameValue(first.value, setting.value));
  if (other !== undefined) {
    diagnostics.push(contradiction(first, other, path));
    return first;
  }
  return isRemoval(first.value) ? undefined : first;
}

/**
 * Whether an overriding layer leaves nothing of this setting. A map under a map is joined, not replaced; a map above a
 * scalar replaces it; anything else above a map replaces the whole map.
 */
function isReplaced(setting: Setting, settings: readonly Setting[]): boolean {
  return settings.some(
    (other) => other.layer.overrides.has(setting.layer) && !(other.value.kind === "map" && setting.value.kind === "map"),
  );
}

function mergeMaps(maps: readonly Setting[], path: Path, diagnostics: Diagnostic[]): Setting & { readonly value: LocatedMap } {
  const byKey = new Map<string, Setting[]>();
  for (const { layer, value } of maps) {
    if (value.kind !== "map") continue;
    for (const [key, entry] of value.entries) {
      const list = byKey.get(key) ?? [];
      list.push({ layer, keySpan: entry.keySpan, value: entry.value });
      byKey.set(key, list);
    }
  }
  const entries = new Map<string, LocatedEntry>();
  for (const [key, settings] of byKey) {
    const merged = mergeEntry(settings, [...path, key], diagnostics);
    if (merged !== undefined) entries.set(key, { keySpan: merged.keySpan ?? merged.value.span, value: merged.value });
  }
  // The map as a whole stands where the layer that has the last word wrote it.
  const top = maps.find((map) => !maps.some((other) => other.layer.overrides.has(map.layer))) ?? maps[0];
  if (top === undefined) throw new Error("mergeMaps needs at least one map");
  return { ...top, value: { kind: "map", entries, span: top.value.span } };
}

function isRemoval(value: Located): boolean {
  return value.kind === "scalar" && value.value === null;
}

function checkRemoval(setting: Setting, settings: readonly Setting[], path: Path, diagnostics: Diagnostic[]): void {
  if (!isRemoval(setting.value)) return;
  const name = formatPath(path);
  if (setting.value.kind === "scalar" && setting.value.empty) {
    diagnostics.push(errorAt(setting.keySpan ?? setting.value.span, `${name} has no value`, "give it one, or write null to take away what a role sets"));
  } else if (!settings.some((other) => setting.layer.overrides.has(other.layer))) {
    diagnostics.push(warningAt(setting.value.span, `null takes away what a role sets, but no role sets ${name} here`, "remove the line"));
  }
}

function contradiction(first: Setting, second: Setting, path: Path): Diagnostic {
  const name = formatPath(path);
  return errorAt(
    first.value.span,
    `${first.layer.title} and ${second.layer.title} contradict each other: ${name} is ${describeLocated(first.value)} here`,
    `set ${name} in the node's own file, or in a role that includes both`,
    [noteAt(second.value.span, `and ${describeLocated(second.value)} here`)],
  );
}
