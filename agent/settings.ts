import { readFile } from "node:fs/promises";
import { join } from "node:path";
import * as z from "zod";
import { CommitId, NodeName } from "../shared/ids.ts";

/** Where an agent keeps what; another pair of directories makes a second agent, for tests. */
export interface Places {
  /** Settings, keys and certificates: /etc/evenkeel. */
  readonly settingsDir: string;
  /** Repository, inventory, backups, spool, log: /var/lib/evenkeel. */
  readonly stateDir: string;
  /** The control socket: /run/evenkeel. */
  readonly runDir: string;
}

export const standardPlaces: Places = { settingsDir: "/etc/evenkeel", stateDir: "/var/lib/evenkeel", runDir: "/run/evenkeel" };

const SignerSetting = z.union([z.object({ name: z.string(), ssh: z.string() }), z.object({ name: z.string(), gpg: z.string() })]);

/** Written once by `evenkeel-agent enrol`: who this node is, and whom it believes. Nothing that comes later can change it. */
export const Settings = z.object({
  v: z.literal(1),
  node: NodeName,
  cluster: z.string().min(1),
  /** The hub's API, such as https://hub:7443; null for a node that follows a repository without a hub. */
  hub: z.url().nullable(),
  broker: z.object({ host: z.string(), port: z.number().int() }).nullable(),
  git: z.object({ url: z.string().min(1), branch: z.string().min(1) }),
  /** Who may sign on top of `commit`; later ones come by signed commits. */
  signers: z.array(SignerSetting).min(1),
  /** The commit that this node's history starts from; null when the repository was empty at enrolment. */
  commit: CommitId.nullable(),
  /** Seconds between looks at the repository without a hint; half to one and a half times as long, by chance. */
  pollSeconds: z.number().positive().default(300),
  /** Seconds between full sweeps for drift that no event has told of. */
  sweepSeconds: z.number().positive().default(900),
});
export type Settings = z.output<typeof Settings>;

export const settingsPath = (places: Places) => join(places.settingsDir, "agent.json");
export const keyPath = (places: Places) => join(places.settingsDir, "node.key");
export const certificatePath = (places: Places) => join(places.settingsDir, "node.crt");
export const authorityPath = (places: Places) => join(places.settingsDir, "ca.crt");
/** The node's age key. With the other keys, and not in the state directory, which may be wiped without losing what is secret. */
export const identityPath = (places: Places) => join(places.settingsDir, "age.txt");
export const repositoryPath = (places: Places) => join(places.stateDir, "repo.git");
export const controlPath = (places: Places) => join(places.runDir, "agent.sock");

export type SettingsRead = { readonly ok: true; readonly settings: Settings } | { readonly ok: false; readonly message: string };

export async function readSettings(places: Places): Promise<SettingsRead> {
  const path = settingsPath(places);
  let text: string;
  try {
    text = await readFile(path, "utf8");
  } catch (error) {
    const code = (error as NodeJS.ErrnoException).code;
    if (code === "ENOENT") return { ok: false, message: `this machine is not enrolled (${path} does not exist). On the hub run "evenkeel node add NAME", and here the command that it prints.` };
    return { ok: false, message: `cannot read ${path}: ${code === "EACCES" ? "run this as root" : String(error)}` };
  }
  try {
    return { ok: true, settings: Settings.parse(JSON.parse(text)) };
  } catch (error) {
    return { ok: false, message: `${path} is damaged (${error instanceof z.ZodError ? z.prettifyError(error) : String(error)}). Enrol this node again.` };
  }
}
