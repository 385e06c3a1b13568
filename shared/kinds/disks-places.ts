import { byIdPath } from "./disks-names.ts";
import type { DisksWant, Held, Luks, Mount } from "./disks-section.ts";
import type { Around, Misfit } from "./kind.ts";

/** Somewhere that something can stand: a disk, a partition, what is behind a LUKS header, a volume, an array. */
export interface Place {
  /** Its resource, without the kind: `ata-X`, `ata-X/data`, `luks/secret`, `lvm/vg0/data`, `md/r1`. */
  readonly key: string;
  readonly held: Held;
  /** Where it is in the section. */
  readonly at: readonly (string | number)[];
  /** Its device, but for partitions, whose number has to be looked up. */
  readonly path: string | null;
}

export function diskPlace(name: string, want: DisksWant): Place {
  return { key: name, held: want.devices[name]!, at: ["devices", name], path: byIdPath(name) };
}

export function luksPlace(luks: Luks, within: Place): Place {
  return { key: `luks/${luks.name}`, held: luks, at: [...within.at, "luks"], path: `/dev/mapper/${luks.name}` };
}

export function arrayPlace(name: string, want: DisksWant): Place {
  return { key: `md/${name}`, held: want.arrays[name]!, at: ["arrays", name], path: `/dev/md/${name}` };
}

/** All places of a section, what contains before what is contained. */
export function placesOf(want: DisksWant): readonly Place[] {
  const plain: Place[] = [];
  for (const [name, disk] of Object.entries(want.devices)) {
    plain.push(diskPlace(name, want));
    for (const [partition, held] of Object.entries(disk.partitions ?? {})) plain.push({ key: `${name}/${partition}`, held, at: ["devices", name, "partitions", partition], path: null });
  }
  for (const name of Object.keys(want.arrays)) plain.push(arrayPlace(name, want));
  for (const [group, { volumes }] of Object.entries(want.volumeGroups)) {
    for (const [volume, held] of Object.entries(volumes)) {
      const at = ["volumeGroups", group, "volumes", volume];
      plain.push({ key: `lvm/${group}/${volume}`, held, at, path: `/dev/${group}/${volume}` });
      for (const [name, thin] of Object.entries(held.thin ?? {})) plain.push({ key: `lvm/${group}/${name}`, held: thin, at: [...at, "thin", name], path: `/dev/${group}/${name}` });
    }
  }
  return plain.flatMap((place) => (place.held.luks === undefined ? [place] : [place, luksPlace(place.held.luks, place)]));
}

/** Mount points of the section, with where they stand in it. */
export function mountsOf(want: DisksWant): readonly { readonly mount: Pick<Mount, "at">; readonly path: readonly (string | number)[] }[] {
  return [
    ...placesOf(want).flatMap(({ held, at }) => (held.mount === undefined ? [] : [{ mount: held.mount, path: [...at, "mount"] }])),
    ...Object.keys(want.mounts).map((at) => ({ mount: { at }, path: ["mounts", at] })),
  ];
}

/** QEMU names disks by their place, or by what the host's owner wrote: disks of several virtual machines may have the same name. */
const NAMED_BY_HOST = /^(virtio-|(scsi|ata|usb|nvme)-0?QEMU_)/;

/** Serial numbers are unique: one that belongs to a disk of another node was written at the wrong one. */
function foreignWipes(want: DisksWant, around: Around<DisksWant>): readonly Misfit[] {
  const others = around.nodes.flatMap((node) => (node.name === around.self ? [] : Object.entries(node.section?.devices ?? {}).map(([name, { wipe }]) => ({ node: node.name, name, wipe }))));
  return Object.entries(want.devices).flatMap(([name, { wipe }]): Misfit[] => {
    if (wipe === undefined || NAMED_BY_HOST.test(name)) return [];
    const owner = others.find((other) => other.name !== name && !NAMED_BY_HOST.test(other.name) && (other.wipe?.serial === wipe.serial || namesSerial(other.name, wipe.serial)));
    return owner === undefined ? [] : [{ path: ["devices", name, "wipe", "serial"], message: `the serial ${wipe.serial} is that of ${owner.name}, a disk of ${owner.node}`, help: "a wipe names the serial number of the disk that it stands at: see lsblk -o NAME,SERIAL on this node" }];
  });
}

/** udev puts the serial number after the model, and what is after it is a number of a part: ata-MODEL_SERIAL, usb-MODEL_SERIAL-0:0, nvme-MODEL_SERIAL_1. */
function namesSerial(name: string, serial: string): boolean {
  return [name, name.replace(/(-\d+:\d+|_\d+)$/, "")].some((each) => each.endsWith(`_${serial}`) || each.endsWith(`-${serial}`));
}

/** What does not fit within the section, or between it and those of the other nodes. */
export function misfitsOf(want: DisksWant, around: Around<DisksWant>): readonly Misfit[] {
  const misfits: Misfit[] = [];
  for (const name of Object.keys(want.devices)) {
    const other = NAMED_BY_HOST.test(name) ? undefined : around.nodes.find((node) => node.name !== around.self && node.section?.devices[name] !== undefined);
    if (other !== undefined) misfits.push({ path: ["devices", name], message: `the disk ${name} is a disk of ${other.name} as well, and can be in one machine only`, help: "name the disk in the file of the node that it is in, and nowhere else (not in a role)" });
  }
  const places = placesOf(want);
  const twice = (what: string, entries: readonly (readonly [string, readonly (string | number)[]])[], help: string): void => {
    const seen = new Set<string>();
    for (const [value, path] of entries) {
      if (seen.has(value)) misfits.push({ path, message: `${what} ${value} is used twice on this node`, help });
      seen.add(value);
    }
  };
  twice("the mount point", mountsOf(want).map(({ mount, path }) => [mount.at, path]), "one thing can be mounted there: choose another path for one of the two");
  twice("the label", places.flatMap(({ held, at }) => (held.label === undefined ? [] : [[held.label, [...at, "label"]] as const])), "a label should tell which of them is meant: choose another one");
  twice("the LUKS name", places.flatMap(({ held, at }) => (held.luks === undefined ? [] : [[held.luks.name, [...at, "luks", "name"]] as const])), "choose another name");
  twice("the wipe id", Object.entries(want.devices).flatMap(([name, { wipe }]) => (wipe === undefined ? [] : [[wipe.id, ["devices", name, "wipe", "id"]] as const])), "an id is good for one wipe of one disk: make up another one");
  twice("the volume", places.filter(({ key }) => key.startsWith("lvm/")).map(({ key, at }) => [key.slice("lvm/".length), at]), "a name stands for one volume of a group, thin or not");
  for (const { held, at } of places) misfits.push(...unknownGroups(want, held, at));
  misfits.push(...foreignWipes(want, around));
  for (const [name, { wipe }] of Object.entries(want.devices)) {
    // The name says the serial number for these; those of WWNs and EUIs do not.
    if (wipe === undefined || !/^(ata|virtio|usb|nvme|mmc)-(?!eui\.|nvme\.)/.test(name) || name.includes(wipe.serial)) continue;
    misfits.push({ path: ["devices", name, "wipe", "serial"], message: `the serial ${wipe.serial} is not that of the disk ${name}`, help: "a wipe names the serial number of the disk that it stands at" });
  }
  return misfits;
}

function unknownGroups(want: DisksWant, held: Held, at: readonly (string | number)[]): Misfit[] {
  const known = { lvm: [want.volumeGroups, "volumeGroups"], md: [want.arrays, "arrays"], zfs: [want.zpools, "zpools"] } as const;
  return (["lvm", "md", "zfs"] as const).flatMap((sort) => {
    const name = held[sort];
    if (name === undefined || known[sort][0][name] !== undefined) return [];
    return [{ path: [...at, sort], message: `there is no ${name} under ${known[sort][1]}`, help: `declare it: disks: ${known[sort][1]}: ${name}: …` }];
  });
}
