/** Names that follow from others, by other programs' rules. All pure. */

/** systemd.unit(5): "unit names … up to 255 characters". */
export const UNIT_NAME_MAX = 255;

/**
 * A path as it stands in a unit's name, as `systemd-escape --path` gives it: slashes become dashes, and every byte but
 * letters, digits, `:`, `_` and `.` becomes `\xNN`, also a dot at the beginning (systemd.unit(5), "String escaping").
 */
export function escapePath(path: string): string {
  const plain = path.split("/").filter((part) => part !== "").join("/");
  if (plain === "") return "-";
  return [...new TextEncoder().encode(plain)]
    .map((byte, at) => {
      const character = String.fromCharCode(byte);
      if (character === "/") return "-";
      return /[A-Za-z0-9:_.]/.test(character) && !(at === 0 && character === ".") ? character : `\\x${byte.toString(16).padStart(2, "0")}`;
    })
    .join("");
}

export function mountUnit(at: string): string {
  return `${escapePath(at)}.mount`;
}

export function swapUnit(device: string): string {
  return `${escapePath(device)}.swap`;
}

export function deviceUnit(device: string): string {
  return `${escapePath(device)}.device`;
}

export function byIdPath(name: string): string {
  return `/dev/disk/by-id/${name}`;
}

/**
 * A UUID (version 8, RFC 9562) that follows from words: what is made after a wipe carries it, so that the same wipe is known
 * to be done also by an agent that remembers nothing, on the same disk in a freshly installed machine. FNV-1a, 128 bits.
 */
export function uuidOf(...words: readonly string[]): string {
  let hash = 0x6c62272e07bb014262b821756295c58dn;
  for (const byte of new TextEncoder().encode(words.join("\0"))) hash = BigInt.asUintN(128, (hash ^ BigInt(byte)) * 0x1000000000000000000013bn);
  const hex = hash.toString(16).padStart(32, "0");
  return [hex.slice(0, 8), hex.slice(8, 12), `8${hex.slice(13, 16)}`, `8${hex.slice(17, 20)}`, hex.slice(20)].join("-");
}

/** The GUIDs of partition types (UEFI specification; uapi-group.org, Discoverable Partitions). */
export const GPT_TYPES: Readonly<Record<string, string>> = {
  linux: "0fc63daf-8483-4772-8e79-3d69d8477de4",
  swap: "0657fd6d-a4ab-43c4-84e5-0933c84b4f4f",
  uefi: "c12a7328-f81f-11d2-ba4b-00a0c93ec93b",
  bios: "21686148-6449-6e6f-744e-656564454649",
  raid: "a19d880f-05fc-4d3b-a006-743f0f84911e",
  lvm: "e6d6d379-f507-44c2-a23c-238f2a3df928",
  zfs: "6a898cc3-1dd2-11b2-99a6-080020736631",
  home: "933ac7e1-2eb4-4f13-b844-0e14e2aef915",
};
