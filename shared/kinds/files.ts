import * as z from "zod";
import { Content, content, describeSource } from "../config/content.ts";
import { accountNeeds, fileOwner, readAccounts } from "./accounts.ts";
import type { Accounts } from "./accounts.ts";
import { defineKind } from "./kind.ts";
import type { Owned, ResourceId, Step, StepCommon, Trigger } from "./kind.ts";
import { claimedType, describeAt, forgetStep, lookAt, lookAtAll, nothingAt, planAbsent, planDirectory, planFile, planLink, restoreStep } from "./managed-file.ts";
import type { At, FileContext } from "./managed-file.ts";
import { ancestors, fileMode, managedPath } from "./paths.ts";
import { unitNames } from "./unit-name.ts";

const owner = fileOwner.default("root").describe("The user it belongs to");
const group = fileOwner.default("root").describe("The group it belongs to");
const restart = unitNames.optional().describe("Units to restart after it has changed, if they are running");
const reload = unitNames.optional().describe("Units to reload after it has changed, if they are running");
const needs = z
  .array(z.templateLiteral([z.string().regex(/^[a-z]+$/), "/", z.string().min(1).max(4095)]))
  .max(20)
  .optional()
  .describe("Resources that must not have failed before this one is touched, such as packages/nginx");

const regular = z
  .strictObject({
    type: z.literal("file").default("file").describe("A regular file; may be left out"),
    content: content.describe("What the file holds: text, or {file: NAME} or {template: NAME.eta} below files/"),
    mode: fileMode.default(0o644).describe('Permission bits, in quotes: "0644"'),
    owner,
    group,
    restart,
    reload,
    sensitive: z.boolean().default(false).describe("Never show the content or a diff of it, in no plan, report or log"),
    needs,
  })
  .describe("A regular file");

const directory = z
  .strictObject({
    type: z.literal("directory").describe("A directory; what else it holds is left alone"),
    mode: fileMode.default(0o755).describe('Permission bits, in quotes: "0755"'),
    owner,
    group,
    needs,
  })
  .describe("A directory");

const link = z
  .strictObject({
    type: z.literal("link").describe("A symbolic link"),
    target: z
      .string()
      .min(1)
      .max(4095)
      .refine((target) => !target.includes("\0"), "a link's target cannot hold a NUL character")
      .describe("Where it points to, exactly as it is written into the link"),
    restart,
    reload,
    needs,
  })
  .describe("A symbolic link");

const absent = z
  .strictObject({
    type: z.literal("absent").describe("Nothing: a file, a link or an empty directory is removed"),
    restart,
    reload,
    needs,
  })
  .describe("Nothing at this path");

const entry = z.union([
  z
    .string()
    .max(256 * 1024)
    .transform((text) => regular.parse({ content: text }))
    .describe("The content of a regular file, with mode 0644, of root"),
  z.discriminatedUnion("type", [regular, directory, link, absent]),
]);

const schema = z
  .record(managedPath, entry)
  .describe("Files, directories and links by absolute path");

type Want = z.output<typeof schema>;
type Entry = Want[string];

interface Facts {
  readonly at: ReadonlyMap<string, At>;
  readonly accounts: Accounts;
}

export const files = defineKind({
  name: "files",
  summary: "Files, directories and links, with content, mode, owner and what to restart after a change",
  schema,

  async observe(want, probe, owned): Promise<Facts> {
    const paths = [...new Set([...Object.keys(want), ...owned.keys()])];
    const [accounts, at] = await Promise.all([readAccounts(probe), lookAtAll(paths, (path) => lookAt(probe, path, wantedOf(want[path])))]);
    return { accounts, at };
  },

  plan(want, facts, owned) {
    // Sorted, a directory comes before what it holds; what goes away goes the other way round.
    const paths = Object.keys(want).toSorted();
    const made = paths.filter((path) => want[path]!.type !== "absent").flatMap((path) => planEntry(path, want, facts, owned));
    const removed = paths.filter((path) => want[path]!.type === "absent").toReversed().flatMap((path) => planEntry(path, want, facts, owned));
    return [...prune(want, facts, owned), ...removed, ...made];
  },

  watch: (want) => ({ paths: Object.keys(want) }),
});

function wantedOf(entry: Entry | undefined): { readonly content?: Uint8Array; readonly directory?: boolean } {
  if (entry?.type === "file") return { content: entry.content.bytes };
  return entry?.type === "directory" ? { directory: true } : {};
}

function planEntry(path: string, want: Want, facts: Facts, owned: Owned): Step[] {
  const entry = want[path]!;
  const at = facts.at.get(path) ?? nothingAt;
  const context: FileContext = { resource: `files/${path}`, accounts: facts.accounts, owned, common: commonOf(path, entry, want) };
  switch (entry.type) {
    case "file":
      return planFile({ path, content: entry.content.bytes, mode: entry.mode, owner: entry.owner, group: entry.group, ...sourceOf(entry.content) }, at, context);
    case "directory":
      return planDirectory(path, entry, at, context);
    case "link":
      return planLink(path, entry.target, at, context);
    case "absent":
      return planAbsent(path, at, context);
  }
}

function sourceOf(from: Content): { readonly source?: string } {
  return "text" in from.from ? {} : { source: describeSource(from.from) };
}

function commonOf(path: string, entry: Entry, want: Want): NonNullable<FileContext["common"]> {
  const then: Trigger[] = [
    ...("restart" in entry ? (entry.restart ?? []) : []).map((unit) => ({ unit, action: "restart" as const })),
    ...("reload" in entry ? (entry.reload ?? []) : []).map((unit) => ({ unit, action: "reload" as const })),
  ];
  const parent = ancestors(path).find((up) => want[up] !== undefined && want[up].type !== "absent");
  const needs: ResourceId[] = [
    ...(entry.needs ?? []),
    ...("owner" in entry ? accountNeeds(entry.owner, entry.group) : []),
    ...(parent === undefined || entry.type === "absent" ? [] : [`files/${parent}` as const]),
  ];
  return {
    ...(then.length === 0 ? {} : { then, impact: "service" as const }),
    ...(needs.length === 0 ? {} : { needs: [...new Set(needs)] }),
    ...("sensitive" in entry && entry.sensitive ? { sensitive: true as const } : {}),
  } satisfies Partial<StepCommon>;
}

/** What the agent put there and nobody wants any more: what stood there before comes back. */
function prune(want: Want, facts: Facts, owned: Owned): Step[] {
  const gone = [...owned.keys()].filter((path) => want[path] === undefined).toSorted().toReversed();
  return gone.map((path): Step => {
    const resource: ResourceId = `files/${path}`;
    const at = facts.at.get(path) ?? nothingAt;
    const claim = owned.get(path);
    if (claimedType(claim) === "absent" && at.stat?.type === "directory" && !emptied(path, at, gone, owned)) {
      return forgetStep(resource, `no longer declared; it is ${describeAt(at)}, so it stays`);
    }
    return restoreStep(resource, path, claim);
  });
}

/** Whether nothing is left in a directory once what is pruned in the same run has gone. */
function emptied(path: string, at: At, gone: readonly string[], owned: Owned): boolean {
  return (at.entries ?? []).every((name) => gone.includes(`${path}/${name}`) && claimedType(owned.get(`${path}/${name}`)) === "absent");
}
