import * as z from "zod";
import { content, describeSource } from "../config/content.ts";
import { readAccounts } from "./accounts.ts";
import type { Accounts } from "./accounts.ts";
import { expectedFiles, hasComponent, isEmptyComponent } from "./apt-lists.ts";
import type { SuiteFiles } from "./apt-lists.ts";
import { formatStanza } from "./deb822.ts";
import { defineKind } from "./kind.ts";
import type { Owned, Probe, ResourceId, Step, StepCommon } from "./kind.ts";
import { failStep, forgetStep, lookAt, lookAtAll, nothingAt, planFile } from "./managed-file.ts";
import type { At, WantedFile } from "./managed-file.ts";
import { pathFault } from "./paths.ts";

/** Becomes a file's name under /etc/apt, where run-parts' rules hold: no dot, or apt ignores the file (apt_preferences(5)). */
const name = z.string().regex(/^[a-z0-9][a-z0-9_-]{0,62}$/, "a name here is lower-case letters, digits, - and _, at most 63, like docker");
/** One word of a field that apt splits at white space, and in which it replaces $(ARCH). */
const word = z.string().min(1).max(500).regex(/^[!"%-'*-~]+$/, "one word in plain ASCII, without spaces, #, $ or parentheses");
const uri = word.regex(/^(https?|mirror\+https?|file|copy|cdrom|ftp|s3|tor\+https?):/, "a URI that apt knows, like https://download.docker.com/linux/debian");
const suite = word.refine((value) => !value.startsWith("/"), "a suite like bookworm, or a path that ends with / for a flat repository, like ./");
const keyring = z.string().superRefine((path, check) => {
  const fault = /\s/.test(path) ? "a keyring's path has no spaces" : pathFault(path);
  if (fault !== null) check.addIssue({ code: "custom", message: fault });
});

const source = z
  .strictObject({
    uris: z.array(uri).min(1).max(20).describe("Where the repository is, several for mirrors of the same"),
    suites: z.array(suite).min(1).max(20).describe("Suites such as bookworm and bookworm-updates; a path ending with / for a flat repository"),
    components: z.array(word).max(20).default([]).describe("Components such as main; none for a flat repository"),
    types: z.array(z.enum(["deb", "deb-src"])).min(1).max(2).default(["deb"]).describe("deb for packages, deb-src for their sources"),
    architectures: z.array(word).min(1).max(10).optional().describe("Only these architectures; without it, all that dpkg has on this node"),
    key: content.optional().describe("The OpenPGP public key that signs the repository, armored or binary; it is trusted for this source only"),
    signedBy: keyring.optional().describe("A keyring that is on the node already, such as /usr/share/keyrings/debian-archive-keyring.gpg"),
    trusted: z.boolean().default(false).describe("Take packages without any signature; only for file: and copy: URIs"),
    enabled: z.boolean().default(true).describe("false: written down, but not used"),
  })
  .superRefine((entry, check) => {
    const issue = (path: string, message: string) => check.addIssue({ code: "custom", path: [path], message });
    if (entry.key !== undefined && entry.signedBy !== undefined) issue("signedBy", "write either key or signedBy, not both");
    if (entry.key === undefined && entry.signedBy === undefined && !entry.trusted) issue("key", "a source needs the key that signs it: write key: {file: NAME.asc}, or signedBy: with a keyring on the node");
    if (entry.trusted && !entry.uris.every((one) => /^(file|copy):/.test(one))) issue("trusted", "only file: and copy: sources may go without a signature: anybody on the way could replace the packages");
    const flat = entry.suites.filter((one) => one.endsWith("/"));
    if (flat.length === entry.suites.length && entry.components.length > 0) issue("components", "a flat repository (a suite that ends with /) has no components");
    if (flat.length > 0 && flat.length < entry.suites.length) issue("suites", "flat suites (ending with /) and others need two sources");
    if (flat.length === 0 && entry.components.length === 0) issue("components", "write the components, such as [main]; only a flat repository, whose suite ends with /, has none");
  })
  .describe("A repository of packages, written as /etc/apt/sources.list.d/evenkeel-NAME.sources");

const line = z.string().min(1).max(1000).regex(/^[ -~]+$/, "one line of plain ASCII text");

const pin = z
  .strictObject({
    package: z.union([line, z.array(line).min(1).max(100)]).describe("Packages by name, glob or /regular expression/; * for all"),
    pin: line.regex(/^(release|version|origin) /, 'what is preferred: "release a=bookworm-backports", "version 1.22.*" or "origin download.docker.com"').describe("What is preferred, as in apt_preferences(5)"),
    priority: z.int().min(-32768).max(32767).refine((value) => value !== 0, "a priority of 0 is undefined in apt: use a negative one to forbid, a positive one to prefer").describe("From 1 to 1000 to prefer; above 1000 to downgrade too; negative to forbid"),
  })
  .describe("A preference, written as /etc/apt/preferences.d/evenkeel-NAME");

const optionName = z.string().max(200).regex(/^[A-Za-z0-9][A-Za-z0-9_/.+-]*(::[A-Za-z0-9_/.+-]+)*$/, "an option's name, like Acquire::http::Proxy");
const optionText = z.string().max(1000).regex(/^[ !#-[\]-~]*$/, "one line of plain ASCII text, without quotation marks and backslashes");
const option = z.union([optionText, z.number(), z.boolean(), z.array(optionText).max(50)]).describe("Its value; a list for options that are lists");

const schema = z
  .strictObject({
    sources: z.record(name, source).default({}).describe("Repositories by name"),
    pins: z.record(name, pin).default({}).describe("Preferences by name"),
    options: z.record(optionName, option).default({}).describe("apt's own settings, written as /etc/apt/apt.conf.d/90evenkeel"),
  })
  .describe("Where packages come from: repositories with their keys, preferences, and apt's settings");

type Want = z.output<typeof schema>;
type Source = z.output<typeof source>;

interface Facts {
  readonly accounts: Accounts;
  readonly at: ReadonlyMap<string, At>;
  /** Names in /var/lib/apt/lists. */
  readonly lists: readonly string[];
  /** Release files, only of suites that lack the index of a component. */
  readonly releases: ReadonlyMap<string, string>;
}

const LISTS_DIRECTORY = "/var/lib/apt/lists";
const OPTIONS_PATH = "/etc/apt/apt.conf.d/90evenkeel";
const OPTIONS_KEY = "options";
/** Some hundred mirrors over a slow line; apt itself gives up on a silent server after 30 s (apt-transport-http(1)). */
const UPDATE_TIMEOUT_MS = 300_000;
/** Readable by all: `_apt`, who checks the signatures, is not root. */
const PUBLIC = { mode: 0o644, owner: "root", group: "root" } as const;

export const apt = defineKind({
  name: "apt",
  summary: "Where packages come from: repositories with their keys, preferences, and apt's settings",
  schema,

  async observe(want, probe, owned): Promise<Facts> {
    const paths = new Map<string, Uint8Array | undefined>();
    for (const key of owned.keys()) for (const path of pathsOf(key)) paths.set(path, undefined);
    for (const [key, files] of wantedFiles(want)) {
      for (const path of pathsOf(key)) paths.set(path, undefined);
      for (const file of files) paths.set(file.path, file.content);
    }
    const [accounts, lists, at] = await Promise.all([
      readAccounts(probe),
      probe.list(LISTS_DIRECTORY),
      lookAtAll([...paths.keys()], (path) => lookAt(probe, path, contentOf(paths.get(path)))),
    ]);
    const names = lists ?? [];
    return { accounts, at, lists: names, releases: await readReleases(want, names, probe) };
  },

  plan(want, facts, owned) {
    const files = wantedFiles(want);
    const gone = [...owned.keys()].filter((key) => !files.has(key)).toSorted();
    return [
      ...gone.flatMap((key) => prune(key, facts)),
      ...[...files].flatMap(([key, wanted]) => planFiles(key, wanted, facts, owned)),
      ...Object.keys(want.sources).toSorted().flatMap((name) => planUpdate(name, want.sources[name]!, facts, files)),
    ];
  },

  watch: () => ({ paths: ["/etc/apt/sources.list.d", "/etc/apt/keyrings", "/etc/apt/preferences.d", "/etc/apt/apt.conf.d"] }),
});

/** Every file that the section asks for, by the key of its resource: settings first, then keys before the sources that name them. */
function wantedFiles(want: Want): ReadonlyMap<string, readonly WantedFile[]> {
  const files = new Map<string, readonly WantedFile[]>();
  if (Object.keys(want.options).length > 0) files.set(OPTIONS_KEY, [textFile(OPTIONS_PATH, formatOptions(want.options))]);
  for (const name of Object.keys(want.pins).toSorted()) files.set(`pins/${name}`, [textFile(pinPath(name), formatPin(want.pins[name]!))]);
  for (const name of Object.keys(want.sources).toSorted()) files.set(`sources/${name}`, sourceFiles(name, want.sources[name]!));
  return files;
}

function sourceFiles(name: string, want: Source): readonly WantedFile[] {
  const keyPath = want.key === undefined ? undefined : keyPaths(name)[isArmored(want.key.bytes) ? "armored" : "binary"];
  const signedBy = keyPath ?? want.signedBy;
  const fields: (readonly [string, string])[] = [
    ["Enabled", want.enabled ? "yes" : "no"],
    ["Types", want.types.join(" ")],
    ["URIs", want.uris.join(" ")],
    ["Suites", want.suites.join(" ")],
    ...(want.components.length === 0 ? [] : [["Components", want.components.join(" ")] as const]),
    ...(want.architectures === undefined ? [] : [["Architectures", want.architectures.join(" ")] as const]),
    ...(signedBy === undefined ? [] : [["Signed-By", signedBy] as const]),
    ...(want.trusted ? [["Trusted", "yes"] as const] : []),
  ];
  const list = textFile(sourcePath(name), `${MADE_BY}${formatStanza(fields)}`);
  if (want.key === undefined || keyPath === undefined) return [list];
  return [{ path: keyPath, content: want.key.bytes, source: describeSource(want.key.from), ...PUBLIC }, list];
}

const MADE_BY = "# Made by Evenkeel from the section `apt` of the cluster's repository; changes here are undone.\n";

function formatPin(want: z.output<typeof pin>): string {
  const names = typeof want.package === "string" ? want.package : want.package.join(" ");
  return `${MADE_BY}${formatStanza([["Package", names], ["Pin", want.pin], ["Pin-Priority", String(want.priority)]])}`;
}

function formatOptions(options: Want["options"]): string {
  const lines = Object.keys(options).toSorted().map((name) => {
    const value = options[name]!;
    return Array.isArray(value) ? `${name} { ${value.map((one) => `"${one}"; `).join("")}};\n` : `${name} "${String(value)}";\n`;
  });
  return `// Made by Evenkeel from the section \`apt\` of the cluster's repository; changes here are undone.\n${lines.join("")}`;
}

function planFiles(key: string, files: readonly WantedFile[], facts: Facts, owned: Owned): Step[] {
  const context = { resource: `apt/${key}` as const, accounts: facts.accounts, owned };
  const steps = files.flatMap((file) => planFile(file, facts.at.get(file.path) ?? nothingAt, context));
  // The key's other form, from when it was armored and is now binary, or from when there was one at all.
  const wanted = new Set(files.map(({ path }) => path));
  const left = owned.has(key) ? pathsOf(key).filter((path) => !wanted.has(path) && facts.at.get(path)?.stat?.type === "file") : [];
  return [...steps, ...left.map((path): Step => ({ ...plain(context.resource), why: "is not used by the source any more", do: "remove", path }))];
}

function plain(resource: ResourceId): Omit<StepCommon, "why"> {
  return { resource, impact: "none" };
}

/**
 * Fetches one source by itself, as the last step of its own resource: what is wrong with it (its key, its address) is
 * then said of it alone, and neither another source nor any package waits for it. Asked for when its files change, and
 * whenever its indexes are not there: after a crash in between, too.
 */
function planUpdate(name: string, want: Source, facts: Facts, files: ReadonlyMap<string, readonly WantedFile[]>): Step[] {
  if (!want.enabled) return [];
  const changes = (files.get(`sources/${name}`) ?? []).some(({ path }) => facts.at.get(path)?.same !== true);
  const missing = missingLists(want, facts);
  const why = changes ? "has changed, its package lists are to be fetched" : (missing?.why ?? null);
  if (why === null) return [];
  const options = [
    `Dir::Etc::SourceList=${sourcePath(name)}`,
    "Dir::Etc::SourceParts=/dev/null",
    // Else the lists of all other sources would be deleted.
    "APT::Get::List-Cleanup=0",
    // Else a server that cannot be reached is a warning, and exit code 0.
    "APT::Update::Error-Mode=any",
    "Acquire::Retries=2",
  ];
  const resource: ResourceId = `apt/sources/${name}`;
  const update: Step = { ...plain(resource), why, do: "run", argv: ["apt-get", "update", "-q", ...options.flatMap((option) => ["-o", option])], timeoutMs: UPDATE_TIMEOUT_MS };
  return changes || missing?.fault === undefined ? [update] : [update, failStep({ resource }, why, missing.fault)];
}

/** Why a source has not been fetched completely, or null; `fault` when fetching it again will hardly help. */
function missingLists(want: Source, facts: Facts): { readonly why: string; readonly fault?: string } | null {
  if (!want.uris.every(keepsLists)) return null;
  for (const expected of expectedFiles(want)) {
    const where = `${expected.suite} at ${expected.uri}`;
    if (!expected.releases.some((file) => facts.lists.includes(file))) return { why: `the package lists of ${where} have not been fetched` };
    const release = facts.releases.get(releaseOf(expected, facts.lists) ?? "") ?? "";
    for (const component of missingComponents(expected, facts.lists)) {
      if (isEmptyComponent(release, component)) continue;
      if (hasComponent(release, component)) return { why: `the package lists of ${component} in ${where} have not been fetched` };
      // apt only warns of it.
      const known = /^Components: (.+)$/m.exec(release)?.[1] ?? "none";
      return { why: `has no component ${component}`, fault: `${where} has no component ${component}; it has: ${known}. Correct components: in the section apt` };
    }
  }
  return null;
}

/** The methods whose files are named after the URI itself; a mirror list or a CD is named after something else. */
function keepsLists(uri: string): boolean {
  return /^(https?|file|copy|ftp):/.test(uri);
}

function missingComponents(expected: SuiteFiles, lists: readonly string[]): string[] {
  return expected.components.filter(({ prefixes }) => !prefixes.every((prefix) => lists.some((file) => file.startsWith(prefix)))).map(({ name }) => name);
}

function releaseOf(expected: SuiteFiles, lists: readonly string[]): string | undefined {
  return expected.releases.find((file) => lists.includes(file));
}

async function readReleases(want: Want, lists: readonly string[], probe: Probe): Promise<ReadonlyMap<string, string>> {
  const incomplete = Object.values(want.sources)
    .filter(({ enabled }) => enabled)
    .flatMap((entry) => expectedFiles(entry))
    .filter((expected) => missingComponents(expected, lists).length > 0)
    .flatMap((expected) => releaseOf(expected, lists) ?? []);
  return lookAtAll([...new Set(incomplete)], async (file) => (await probe.readText(`${LISTS_DIRECTORY}/${file}`)) ?? "");
}

/** Puts back what stood there before, where the section no longer asks for it. */
function prune(key: string, facts: Facts): Step[] {
  const resource: ResourceId = `apt/${key}`;
  const why = "is no longer declared, and was made by the agent";
  const paths = pathsOf(key).filter((path) => (facts.at.get(path)?.stat ?? null) !== null);
  if (paths.length === 0) return [forgetStep(resource, "is no longer declared, and not there any more")];
  return paths.map((path, index): Step => ({ ...plain(resource), why, removes: true, ...(index === paths.length - 1 ? { release: true } : {}), do: "restore", path }));
}

/** Every path that a resource may have made. The source goes before its key: apt fails on a source whose key is missing. */
function pathsOf(key: string): readonly string[] {
  if (key === OPTIONS_KEY) return [OPTIONS_PATH];
  const name = key.slice(key.indexOf("/") + 1);
  return key.startsWith("pins/") ? [pinPath(name)] : [sourcePath(name), ...Object.values(keyPaths(name))];
}

function sourcePath(name: string): string {
  return `/etc/apt/sources.list.d/evenkeel-${name}.sources`;
}

function pinPath(name: string): string {
  return `/etc/apt/preferences.d/evenkeel-${name}`;
}

/** apt tells the two forms apart by the file's extension (sources.list(5), Signed-By). */
function keyPaths(name: string): { readonly armored: string; readonly binary: string } {
  return { armored: `/etc/apt/keyrings/evenkeel-${name}.asc`, binary: `/etc/apt/keyrings/evenkeel-${name}.gpg` };
}

function isArmored(key: Uint8Array): boolean {
  return new TextDecoder().decode(key.subarray(0, 200)).trimStart().startsWith("-----BEGIN PGP PUBLIC KEY BLOCK-----");
}

function contentOf(bytes: Uint8Array | undefined): { readonly content?: Uint8Array } {
  return bytes === undefined ? {} : { content: bytes };
}

function textFile(path: string, text: string): WantedFile {
  return { path, content: new TextEncoder().encode(text), ...PUBLIC };
}
