import { loadRepository } from "../../shared/config/repository.ts";
import type { SectionKind } from "../../shared/config/settings-file.ts";
import { gitTree } from "../../shared/git/tree.ts";
import { gitIn } from "../repo/process.ts";

/** Sum → addresses of all downloads that a commit names, for any node. Remembers the last commit's answer. */
export function wantedDownloads(directory: string, kinds: readonly SectionKind[], tip: () => string | null): () => Promise<ReadonlyMap<string, readonly string[]>> {
  let known: { readonly commit: string; readonly sums: Promise<ReadonlyMap<string, readonly string[]>> } | null = null;
  return () => {
    const commit = tip();
    if (commit === null) return Promise.resolve(new Map());
    if (known?.commit !== commit) known = { commit, sums: sumsIn(directory, kinds, commit) };
    return known.sums;
  };
}

async function sumsIn(directory: string, kinds: readonly SectionKind[], commit: string): Promise<ReadonlyMap<string, readonly string[]>> {
  const loaded = await loadRepository(gitTree(gitIn(directory), commit), kinds);
  const sums = new Map<string, Set<string>>();
  for (const node of loaded.ok ? loaded.repository.nodes.values() : []) {
    const section = (node.sections.get("downloads") ?? {}) as Readonly<Record<string, { readonly url: string; readonly mirrors: readonly string[]; readonly sha256: string }>>;
    for (const { url, mirrors, sha256 } of Object.values(section)) {
      const urls = sums.get(sha256) ?? new Set<string>();
      for (const each of [url, ...mirrors]) urls.add(each);
      sums.set(sha256, urls);
    }
  }
  return new Map([...sums].map(([sha256, urls]) => [sha256, [...urls]]));
}
