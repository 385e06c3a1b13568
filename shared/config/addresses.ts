import { parseIp, parsePrefix } from "../kinds/keepalived-address.ts";
import type { KeepalivedWant } from "../kinds/keepalived-section.ts";
import { devicesOf } from "../kinds/network-section.ts";
import type { NetworkWant } from "../kinds/network-section.ts";
import { errorAt } from "./diagnostic.ts";
import type { Diagnostic } from "./diagnostic.ts";
import type { Path } from "./located.ts";
import type { SettingsFile } from "./settings-file.ts";

/**
 * Addresses that stand twice in a cluster: two machines would answer at one of them, now this and now that. A kind sees the
 * other nodes' sections of its own; what is here lies between sections, and between nodes.
 */

/** One place in a node's sections that gives an address to something. */
interface Holding {
  readonly node: string;
  readonly kind: "network" | "keepalived";
  readonly address: string;
  /** From the section's name on. */
  readonly path: Path;
  /** For people: "an address of eth0". */
  readonly what: string;
}

export interface AddressClash {
  readonly path: Path;
  readonly message: string;
  readonly help: string;
}

type Sections = ReadonlyMap<string, unknown>;

/** The nodes' own `address:`, of which none may be another's. */
export function sharedAddresses(files: Iterable<SettingsFile>): readonly Diagnostic[] {
  const first = new Map<string, string>();
  const diagnostics: Diagnostic[] = [];
  for (const { name, address } of files) {
    if (address === undefined) continue;
    const one = parseIp(address.value)?.address ?? address.value.toLowerCase();
    const other = first.get(one);
    if (other === undefined) first.set(one, name);
    else diagnostics.push(errorAt(address.located.span, `${address.value} is the address of ${other} as well`, "each node has an address of its own; one that moves between them belongs under keepalived"));
  }
  return diagnostics;
}

/** What of this node's network is an address that moves, somewhere in the cluster, and the other way round. */
export function addressClashes(self: string, nodes: Iterable<{ readonly name: string; readonly sections: Sections }>): readonly AddressClash[] {
  const all = [...nodes].flatMap(({ name, sections }) => holdingsOf(name, sections));
  return all.flatMap((mine) => {
    const other = mine.node === self ? all.find((each) => each.kind !== mine.kind && each.address === mine.address) : undefined;
    if (other === undefined) return [];
    return [{ path: mine.path, message: `${mine.address} is ${other.what} on ${other.node === self ? "this node" : other.node} as well`, help: "an address that moves stands under keepalived alone: there it is added to the interface, and taken away" }];
  });
}

function holdingsOf(node: string, sections: Sections): readonly Holding[] {
  const network = sections.get("network") as NetworkWant | undefined;
  const keepalived = sections.get("keepalived") as KeepalivedWant | undefined;
  const one = (kind: Holding["kind"], written: string, path: Path, what: string): Holding[] => {
    const address = parsePrefix(written)?.address;
    return address === undefined ? [] : [{ node, kind, address, path: [kind, ...path], what }];
  };
  return [
    ...(network === undefined ? [] : devicesOf(network).flatMap(({ sort, name, it }) => it.addresses.flatMap((address, at) => one("network", address, [sort, name, "addresses", at], `an address of ${name}`)))),
    ...Object.entries(keepalived?.instances ?? {}).flatMap(([name, { addresses }]) => addresses.flatMap((address, at) => one("keepalived", address, ["instances", name, "addresses", at], `an address that moves, of ${name},`))),
  ];
}
