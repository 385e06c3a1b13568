import { NodeName } from "../ids.ts";
import { RECIPIENTS_PATH, SecretName } from "../secrets/recipients-file.ts";
import { RoleName } from "./cluster.ts";
import { errorInFile, warningInFile } from "./diagnostic.ts";
import type { Diagnostic } from "./diagnostic.ts";
import type { FileTree, TreeEntry } from "./tree.ts";

/** Files in a repository: a cluster's settings are hundreds; thousands are a source tree that got there by mistake. */
export const REPOSITORY_FILES_MAX = 5_000;
/** Nodes of one cluster: ten times what the hub is made for, and checked in a minute or two. */
export const NODES_MAX = 1_000;
/** One file below files/: what belongs on a node as configuration. Larger things come as packages. */
export const CONTENT_SIZE_BYTES_MAX = 10 * 1024 * 1024;
/** A path's length, as the kernel bounds it (PATH_MAX). */
export const PATH_LENGTH_MAX = 4_096;

export const CLUSTER_FILE = "cluster.yaml";

/** Which file is what. Only regular files get in; everything else has been told. */
export interface Layout {
  readonly hasCluster: boolean;
  /** Name → path. */
  readonly nodes: ReadonlyMap<string, string>;
  readonly roles: ReadonlyMap<string, string>;
  /** All entries below files/, by their path below it. Links are in it, so that a reference to one can say so. */
  readonly contents: ReadonlyMap<string, TreeEntry>;
  /** Name → entry of secrets/NAME.age. */
  readonly secrets: ReadonlyMap<string, TreeEntry>;
  readonly hasRecipients: boolean;
  /** Path → bytes, of cluster.yaml and the files in `nodes` and `roles`. */
  readonly sizes: ReadonlyMap<string, number>;
  readonly diagnostics: readonly Diagnostic[];
}

/** Sorts a repository's listing. `ok: false` in the caller's terms when a diagnostic is an error. */
export async function readLayout(tree: FileTree): Promise<Layout> {
  const entries = await tree.list();
  const found = { hasCluster: false, nodes: new Map<string, string>(), roles: new Map<string, string>(), contents: new Map<string, TreeEntry>(), secrets: new Map<string, TreeEntry>(), hasRecipients: false, sizes: new Map<string, number>(), diagnostics: [] as Diagnostic[] };
  if (entries.length > REPOSITORY_FILES_MAX) {
    found.diagnostics.push(errorInFile(CLUSTER_FILE, `the repository has ${entries.length} files; at most ${REPOSITORY_FILES_MAX} are read`, "keep what is not the cluster's settings in a repository of its own"));
    return found;
  }
  for (const entry of entries) {
    const wrong = pathProblem(entry.path);
    if (wrong !== undefined) found.diagnostics.push(errorInFile(entry.path.slice(0, 200), wrong, "rename the file"));
    else place(entry, found);
  }
  if (found.nodes.size > NODES_MAX) found.diagnostics.push(errorInFile(CLUSTER_FILE, `there are ${found.nodes.size} nodes; at most ${NODES_MAX} may be in one cluster`, "make several clusters of them"));
  if (!found.hasCluster && !found.diagnostics.some((each) => each.file === CLUSTER_FILE)) {
    found.diagnostics.push(errorInFile(CLUSTER_FILE, "there is no cluster.yaml", "a cluster's repository has one at its top; `evenkeel init DIR` makes a new repository"));
  }
  return found;
}

/** Git refuses most of these; a tree made by other means need not. */
function pathProblem(path: string): string | undefined {
  if (path === "" || path.length > PATH_LENGTH_MAX) return `a path must have 1 to ${PATH_LENGTH_MAX} characters`;
  if (path.startsWith("/")) return "the path leaves the repository: it begins with /";
  const names = path.split("/");
  if (names.includes("..")) return "the path leaves the repository: it contains ..";
  if (names.includes(".") || names.includes("")) return "the path contains an empty name or .";
  // oxlint-disable-next-line no-control-regex -- control characters are what this is about
  if (/[\u0000-\u001f\u007f]/.test(path)) return "the path contains control characters";
  return undefined;
}

function place(entry: TreeEntry, found: { hasCluster: boolean; nodes: Map<string, string>; roles: Map<string, string>; contents: Map<string, TreeEntry>; secrets: Map<string, TreeEntry>; hasRecipients: boolean; sizes: Map<string, number>; diagnostics: Diagnostic[] }): void {
  const { path } = entry;
  const slash = path.indexOf("/");
  const top = slash === -1 ? path : path.slice(0, slash);
  const rest = slash === -1 ? "" : path.slice(slash + 1);
  if (top === "files" && rest !== "") {
    found.contents.set(rest, entry);
    if (entry.type === "file" && entry.sizeBytes > CONTENT_SIZE_BYTES_MAX) {
      found.diagnostics.push(errorInFile(path, `the file is ${entry.sizeBytes} bytes long; at most ${CONTENT_SIZE_BYTES_MAX} may stand below files/`, "bring large things to the nodes as a package"));
    }
    return;
  }
  const isOurs = path === CLUSTER_FILE || top === "nodes" || top === "roles" || top === "files" || top === "secrets";
  if (!isOurs) return;
  if (entry.type !== "file") {
    found.diagnostics.push(errorInFile(path, entry.type === "link" ? "this is a symbolic link; links are never followed" : "this is a Git submodule; submodules are not read", "put the file itself here"));
    return;
  }
  found.sizes.set(path, entry.sizeBytes);
  if (top === "secrets" && rest !== "") {
    placeSecret(entry, rest, found);
    return;
  }
  if (path === CLUSTER_FILE) found.hasCluster = true;
  else if (rest === "") found.diagnostics.push(errorInFile(path, `${path} is a file; it must be a directory`));
  else placeSettings(path, top as "nodes" | "roles", rest, found);
}

function placeSettings(path: string, folder: "nodes" | "roles", rest: string, found: { nodes: Map<string, string>; roles: Map<string, string>; diagnostics: Diagnostic[] }): void {
  const one = folder === "nodes" ? "node" : "role";
  const base = rest.slice(rest.lastIndexOf("/") + 1);
  if (base.startsWith(".")) return;
  if (rest.includes("/")) {
    found.diagnostics.push(warningInFile(path, `this file is not read: ${folder}/ has no folders in it`, `a ${one} is ${folder}/NAME.yaml`));
    return;
  }
  const name = /^(.*)\.yaml$/.exec(rest)?.[1];
  if (name === undefined) {
    const stem = /^(.*)\.ya?ml$/i.exec(rest)?.[1];
    found.diagnostics.push(warningInFile(path, "this file is not read: its name does not end with .yaml", stem === undefined ? `move it out of ${folder}/` : `rename it to ${folder}/${stem}.yaml`));
    return;
  }
  const valid = (folder === "nodes" ? NodeName : RoleName).safeParse(name);
  if (valid.success) found[folder].set(name, path);
  else found.diagnostics.push(errorInFile(path, `${JSON.stringify(name)} cannot be a ${one}'s name: ${valid.error.issues[0]?.message ?? "invalid"}`, "rename the file"));
}

function placeSecret(entry: TreeEntry, rest: string, found: { secrets: Map<string, TreeEntry>; hasRecipients: boolean; diagnostics: Diagnostic[] }): void {
  const { path } = entry;
  if (path === RECIPIENTS_PATH) found.hasRecipients = true;
  if (path === RECIPIENTS_PATH || rest.startsWith(".")) return;
  const name = /^(.*)\.age$/.exec(rest)?.[1];
  if (name === undefined) {
    found.diagnostics.push(errorInFile(path, `${path} is not a secret: its name does not end with .age`, "only encrypted files belong here: `evenkeel secret set NAME` makes one. If this file was never encrypted, what it holds must be changed: it stays in Git's history"));
    return;
  }
  const valid = SecretName.safeParse(name);
  if (valid.success) found.secrets.set(name, entry);
  else found.diagnostics.push(errorInFile(path, `${JSON.stringify(name)} cannot be a secret's name: ${valid.error.issues[0]?.message ?? "invalid"}`, "rename the file"));
}
