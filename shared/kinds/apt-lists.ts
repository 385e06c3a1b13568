/**
 * Where `apt-get update` keeps what it fetched: one file in /var/lib/apt/lists per index, named after its URI. Seeing
 * them tells whether a source has ever been fetched, also after a crash between writing the source and fetching it.
 */
export interface IndexSource {
  readonly types: readonly string[];
  readonly uris: readonly string[];
  readonly suites: readonly string[];
  readonly components: readonly string[];
}

/** One suite of one source, with the beginnings of the names of its files in the lists directory. */
export interface SuiteFiles {
  readonly uri: string;
  readonly suite: string;
  /** InRelease, or Release where the repository signs in the old way or not at all: one of the two must be there. */
  readonly releases: readonly string[];
  /** Empty for a flat repository, whose index needs no component. */
  readonly components: readonly { readonly name: string; readonly prefixes: readonly string[] }[];
}

/**
 * A URI as apt names a file after it: without scheme, user, password and an address's brackets, with `_` for `/` and dangerous characters as
 * `%xx`. Plain ASCII only. As in apt's strutl.cc, URItoFileName and QuoteString; checked against the names of apt 2.6.
 */
export function listFileName(uri: string): string {
  const rest = uri.replace(/^[a-z0-9+.-]+:(\/\/)?/i, "").replace(/^[^/@]*@/, "").replace(/^\[([0-9a-f:.]+)\]/i, "$1");
  const safe = rest.replace(/[\\|{}[\]<>"^~_=!@#$%&*]/g, (character) => `%${character.charCodeAt(0).toString(16)}`);
  return safe.replaceAll("/", "_");
}

/** What has to be in the lists directory once a source has been fetched. */
export function expectedFiles(source: IndexSource): readonly SuiteFiles[] {
  return source.uris.flatMap((written) => {
    const uri = written.endsWith("/") ? written : `${written}/`;
    return source.suites.map((suite): SuiteFiles => {
      const flat = suite.endsWith("/");
      const base = listFileName(flat ? `${uri}${suite}` : `${uri}dists/${suite}/`);
      return {
        uri,
        suite,
        releases: [`${base}InRelease`, `${base}Release`],
        components: flat
          ? []
          : source.components.map((name) => ({
              name,
              prefixes: source.types.map((type) => `${base}${name.replaceAll("/", "_")}_${type === "deb" ? "binary-" : "source_"}`),
            })),
      };
    });
  });
}

/** An index of nothing leaves no file behind (seen with apt 2.6), and the release file says so: size 0. */
export function isEmptyComponent(release: string, component: string): boolean {
  const name = component.replace(/[.*+?^${}()|[\]\\/]/g, "\\$&");
  return new RegExp(`^ [0-9a-f]+ +0 ${name}/(binary-[^/]+/Packages|source/Sources)$`, "m").test(release);
}

/** Whether a release file knows a component at all: a misspelt one is otherwise ignored by apt with a warning. */
export function hasComponent(release: string, component: string): boolean {
  return release.includes(` ${component}/`);
}
