const UNITS: Readonly<Record<string, number>> = { kB: 1e3, MB: 1e6, GB: 1e9, TB: 1e12, PB: 1e15, KiB: 2 ** 10, MiB: 2 ** 20, GiB: 2 ** 30, TiB: 2 ** 40, PiB: 2 ** 50 };

/** `1.5TiB` → bytes, or null. The units are those of IEC 80000-13: a disk's sticker says GB and means powers of 1000. */
export function bytesOf(text: string): number | null {
  const [, digits, unit] = /^(\d{1,6}(?:\.\d{1,3})?) ?([kKMGTP]i?B)$/.exec(text) ?? [];
  const factor = UNITS[unit ?? ""];
  if (digits === undefined || factor === undefined) return null;
  const bytes = Math.round(Number(digits) * factor);
  return bytes >= 1e6 && Number.isSafeInteger(bytes) ? bytes : null;
}

/** As a person would say it: `4.0 TB`, `536.9 MB`. */
export function sizeText(bytes: number): string {
  const unit = (["PB", "TB", "GB", "MB", "kB"] as const).find((name) => bytes >= UNITS[name]!);
  return unit === undefined ? `${bytes} bytes` : `${(bytes / UNITS[unit]!).toFixed(1)} ${unit}`;
}
