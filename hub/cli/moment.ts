/** Points of time as people write and read them, in their own zone. */

const minuteMs = 60_000;
const untilMaxMs = 366 * 24 * 60 * minuteMs;

export type Moment = { readonly ok: true; readonly atMs: number } | { readonly ok: false; readonly message: string };

/**
 * `2h`, `3d`, `90m`, `1d12h`: from now on; `06:00`: the next time that clocks show it; `2026-05-04`, `2026-05-04T06:00`:
 * in the zone of whoever writes it, unless it ends in one of its own, as in `2026-05-04T06:00Z`.
 */
export function parseUntil(text: string, nowMs: number, zone: string): Moment {
  const atMs = momentOf(text.trim(), nowMs, zone);
  if (atMs === null) return { ok: false, message: `"${text}" is no time: write 2h, 3d, 06:00, 2026-05-04 or 2026-05-04T06:00` };
  if (atMs <= nowMs) return { ok: false, message: `"${text}" is over already` };
  if (atMs - nowMs > untilMaxMs) return { ok: false, message: `"${text}" is more than a year away: leave it out to hold until somebody lifts it` };
  return { ok: true, atMs };
}

/** `2h`, `3d`, `90m`, `45s`, `1d12h` in milliseconds; null when it is nothing like it. */
export function parseSpan(text: string): number | null {
  const parts = /^(?=\d)(?:(\d{1,4})d)?(?:(\d{1,4})h)?(?:(\d{1,5})m(?:in)?)?(?:(\d{1,6})s)?$/.exec(text.trim());
  if (parts === null) return null;
  const [days, hours, minutes, seconds] = parts.slice(1).map((part) => Number(part ?? 0));
  return (((days ?? 0) * 24 + (hours ?? 0)) * 60 + (minutes ?? 0)) * minuteMs + (seconds ?? 0) * 1_000;
}

function momentOf(text: string, nowMs: number, zone: string): number | null {
  const forMs = parseSpan(text);
  if (forMs !== null) return nowMs + forMs;
  try {
    if (/^\d{1,2}:\d{2}$/.test(text)) return nextTimeOfDay(text.padStart(5, "0"), nowMs, zone);
    if (/(Z|[+-]\d{2}:?\d{2})$/i.test(text)) return Temporal.Instant.from(text).epochMilliseconds;
    if (/^\d{4}-\d{2}-\d{2}/.test(text)) return Temporal.PlainDateTime.from(text.replace(" ", "T")).toZonedDateTime(zone).epochMilliseconds;
  } catch {
    // Such as 25:00, or the 30th of February.
  }
  return null;
}

function nextTimeOfDay(text: string, nowMs: number, zone: string): number {
  const now = Temporal.Instant.fromEpochMilliseconds(nowMs).toZonedDateTimeISO(zone);
  const today = now.withPlainTime(text);
  return (Temporal.ZonedDateTime.compare(today, now) > 0 ? today : now.add({ days: 1 }).withPlainTime(text)).epochMilliseconds;
}

/** `06:00` today, `Tue 5 May 06:00` on another day, by the clock on the reader's wall. */
export function wallClock(iso: string, nowMs: number, zone: string = Temporal.Now.timeZoneId()): string {
  const at = Temporal.Instant.from(iso).toZonedDateTimeISO(zone);
  const time = at.toPlainTime().toString({ smallestUnit: "minute" });
  if (at.toPlainDate().equals(Temporal.Instant.fromEpochMilliseconds(nowMs).toZonedDateTimeISO(zone).toPlainDate())) return time;
  return `${at.toLocaleString("en-GB", { weekday: "short", day: "numeric", month: "short" }).replace(",", "")} ${time}`;
}

/** How long, in one unit: `45 s`, `12 min`, `5 h`, `3 d`. */
export function span(fromIso: string, toMs: number): string {
  const seconds = Math.max(0, Math.round((toMs - Date.parse(fromIso)) / 1_000));
  if (seconds < 90) return `${seconds} s`;
  if (seconds < 5_400) return `${Math.round(seconds / 60)} min`;
  return seconds < 129_600 ? `${Math.round(seconds / 3_600)} h` : `${Math.round(seconds / 86_400)} d`;
}
