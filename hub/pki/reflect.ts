/**
 * The three functions of the Reflect Metadata proposal that tsyringe, a part of @peculiar/x509, insists on at import.
 * Import this before that library. An implementation that is already there is left alone.
 * Source: https://rbuckton.github.io/reflect-metadata/
 */
type MetadataTarget = object;
type WithMetadata = {
  getMetadata?: (key: unknown, target: MetadataTarget) => unknown;
  getOwnMetadata?: (key: unknown, target: MetadataTarget) => unknown;
  defineMetadata?: (key: unknown, value: unknown, target: MetadataTarget) => void;
};

const reflect = Reflect as typeof Reflect & WithMetadata;

if (reflect.getMetadata === undefined) {
  const known = new WeakMap<MetadataTarget, Map<unknown, unknown>>();
  reflect.defineMetadata = (key, value, target) => {
    const entries = known.get(target) ?? new Map<unknown, unknown>();
    entries.set(key, value);
    known.set(target, entries);
  };
  reflect.getOwnMetadata = (key, target) => known.get(target)?.get(key);
  reflect.getMetadata = (key, target) => {
    for (let at: object | null = target; at !== null; at = Object.getPrototypeOf(at) as object | null) {
      const entries = known.get(at);
      if (entries?.has(key)) return entries.get(key);
    }
    return undefined;
  };
}
