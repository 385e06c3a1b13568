import * as z from "zod";
import { accountId, groupNameSchema, userName } from "./accounts.ts";
import { refuseSameId } from "./groups.ts";
import { pathFault } from "./paths.ts";

/** passwd(5): fields end at a colon, records at the end of the line. */
const field = (what: string) => z.string().max(255).regex(/^[^:\n\0]*$/, `${what} has no colon and no line break`);

const absolute = (what: string) =>
  field(what).superRefine((path, check) => {
    const fault = pathFault(path);
    if (fault !== null) check.addIssue({ code: "custom", message: fault });
  });

/** sshd(8), AUTHORIZED_KEYS FILE FORMAT: options, type, key, comment. */
const KEY_TYPES = "ssh-ed25519|ssh-rsa|ecdsa-sha2-nistp(?:256|384|521)|sk-ssh-ed25519@openssh\\.com|sk-ecdsa-sha2-nistp256@openssh\\.com";
const AUTHORIZED_KEY = new RegExp(`^(?:[^\\s"]+(?:"[^"]*"[^\\s"]*)* +)?(?:${KEY_TYPES}) AAAA[A-Za-z0-9+/]+={0,2}(?: [^\\n\\r\\0]*)?$`);

const authorizedKey = z
  .string()
  .max(16 * 1024)
  .transform((line) => line.trim())
  .refine((line) => AUTHORIZED_KEY.test(line), "a line as in authorized_keys, like: ssh-ed25519 AAAA… anna@laptop");

/** sudoers(5) wants a backslash before `,`, `:`, `=` and `\`; the backslash itself, wildcards and quotes are not taken. */
const sudoCommand = z
  .string()
  .max(1000)
  .regex(/^\/[A-Za-z0-9_./+@-]*[A-Za-z0-9_.+@-]( [A-Za-z0-9_./+@%=:,-]+)*$/, "a command's absolute path, with its exact arguments or without any, like /usr/bin/systemctl restart nginx");

const sudo = z
  .union([
    z.literal(false).describe("No rights by sudo"),
    z.enum(["all", "all-nopasswd"]).describe("Everything, with or without being asked for the password"),
    z.array(sudoCommand.describe("One command with exactly these arguments; without arguments, with any (sudoers(5))")).min(1).max(100).describe("These commands, without a password"),
  ])
  .describe("What the user may do by sudo, kept in /etc/sudoers.d/evenkeel-NAME");

/** crypt(5): `!` for none; the hashes that Debian makes, and the older ones that are still read. */
const password = z
  .string()
  .max(255)
  .regex(/^(!|\$[a-z0-9]{1,8}\$[A-Za-z0-9./$=,+_-]{8,240})$/, "`!` for no password, or a hash as `mkpasswd` prints it, which begins with $; never the password itself")
  .describe("`!`: no password fits; or a crypt(5) hash, as mkpasswd prints it");

const user = z
  .strictObject({
    uid: accountId.optional().describe("The user's number; chosen by the system when not said"),
    group: groupNameSchema.optional().describe("The primary group; one of the user's own name when not said"),
    groups: z.array(groupNameSchema.describe("A group")).max(100).optional().describe("Every other group that the user is in; left as it is when not said"),
    home: absolute("a home directory").optional().describe("The home directory; /home/NAME when the user is made. It is never moved or deleted"),
    shell: absolute("a shell").optional().describe("The shell; /bin/bash when the user is made, or /usr/sbin/nologin for a system user"),
    comment: field("a comment").regex(/^[^,]*$/, "a comment has no comma").optional().describe("Who it is: the name in full"),
    system: z.boolean().default(false).describe("A user of the system's: number below 1000 and no home directory, if it has to be made"),
    authorizedKeys: z.array(authorizedKey.describe("One line of authorized_keys")).max(200).optional().describe("All keys that may log in by SSH; what else stands in ~/.ssh/authorized_keys goes"),
    sudo: sudo.optional(),
    password: password.optional(),
    state: z.enum(["present", "absent"]).default("present").describe("`absent`: the user is deleted, the home directory stays"),
  })
  .describe("A user");

const short = z
  .enum(["present", "absent"])
  .transform((state) => user.parse({ state }))
  .describe("Whether the user exists");

export const usersSchema = z
  .record(userName, z.union([short, user]))
  .superRefine((users, check) => {
    for (const [name, entry] of Object.entries(users)) {
      if (name === "root") {
        const { authorizedKeys: _, system, state, ...rest } = entry;
        const other = Object.entries(rest).find(([, value]) => value !== undefined)?.[0] ?? (system ? "system" : state === "absent" ? "state" : undefined);
        if (other !== undefined) check.addIssue({ code: "custom", path: [name, other], message: "of root, only authorizedKeys are managed" });
      }
      if (entry.state === "absent" && (entry.authorizedKeys !== undefined || (entry.sudo !== undefined && entry.sudo !== false))) {
        check.addIssue({ code: "custom", path: [name, "state"], message: "a user that is deleted has neither keys nor sudo: leave them out" });
      }
      if (entry.groups?.includes(entry.group ?? name)) {
        check.addIssue({ code: "custom", path: [name, "groups"], message: `${entry.group ?? name} is the primary group: leave it out of groups` });
      }
    }
    refuseSameId(users, "uid", check);
  })
  .describe("Users by name");

export type UsersWant = z.output<typeof usersSchema>;
export type User = UsersWant[string];

export function sudoersPath(name: string): string {
  return `/etc/sudoers.d/evenkeel-${name}`;
}

/** The file for sudo, or undefined where the user gets no rights. Names and commands are such that the grammar holds. */
export function sudoersContent(name: string, user: User): Uint8Array | undefined {
  if (user.sudo === undefined || user.sudo === false) return undefined;
  const rights =
    user.sudo === "all" ? "ALL" : user.sudo === "all-nopasswd" ? "NOPASSWD: ALL" : `NOPASSWD: ${user.sudo.map((command) => command.replace(/[,:=]/g, "\\$&")).join(", ")}`;
  return new TextEncoder().encode(`# Kept by evenkeel (section users).\n${name} ALL=(ALL:ALL) ${rights}\n`);
}

export function keysContent(user: User): Uint8Array | undefined {
  if (user.authorizedKeys === undefined) return undefined;
  return new TextEncoder().encode(`# Kept by evenkeel (section users). What is written here by hand is overwritten.\n${user.authorizedKeys.map((line) => `${line}\n`).join("")}`);
}
