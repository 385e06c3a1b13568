import { apt } from "./apt.ts";
import { downloads } from "./downloads.ts";
import { drain } from "./drain.ts";
import { files } from "./files.ts";
import { groups } from "./groups.ts";
import { host } from "./host.ts";
import type { Kind } from "./kind.ts";
import { modules } from "./modules.ts";
import { packages } from "./packages.ts";
import { services } from "./services.ts";
import { sysctl } from "./sysctl.ts";
import { users } from "./users.ts";

/** Every kind, in the order in which a machine is brought up: what comes earlier is there when the later needs it. */
export const kinds: readonly Kind[] = [apt, packages, modules, sysctl, host, groups, users, files, downloads, services, drain];
