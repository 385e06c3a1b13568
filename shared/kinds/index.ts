import { apt } from "./apt.ts";
import { disks } from "./disks.ts";
import { downloads } from "./downloads.ts";
import { drain } from "./drain.ts";
import { files } from "./files.ts";
import { firewall } from "./firewall.ts";
import { frr } from "./frr.ts";
import { groups } from "./groups.ts";
import { host } from "./host.ts";
import { keepalived } from "./keepalived.ts";
import type { Kind } from "./kind.ts";
import { kubernetes } from "./kubernetes.ts";
import { lxd } from "./lxd.ts";
import { modules } from "./modules.ts";
import { network } from "./network.ts";
import { packages } from "./packages.ts";
import { services } from "./services.ts";
import { sysctl } from "./sysctl.ts";
import { users } from "./users.ts";

/** Every kind, in the order in which a machine is brought up: what comes earlier is there when the later needs it. */
export const kinds: readonly Kind[] = [apt, packages, modules, sysctl, host, disks, groups, users, files, downloads, network, firewall, frr, keepalived, services, lxd, kubernetes, drain];
