/**
 * Cron expressions of five fields, as in crontab(5): minute, hour, day of the month, month, day of the week. They only
 * say which minutes of the calendar match; what that means in a time zone is window.ts's business.
 */

/** Values that a cron expression matches, each list in ascending order. */
export interface Cron {
  /** Minutes since midnight. */
  readonly minutesOfDay: readonly number[];
  readonly days: ReadonlySet<number>;
  /** 1 to 12. */
  readonly months: ReadonlySet<number>;
  /** 0 to 6 from Sunday. */
  readonly weekdays: ReadonlySet<number>;
  /** Day of the month and day of the week are both restricted: a day matches when either does (crontab(5), NOTES). */
  readonly eitherDay: boolean;
}

export type ParsedCron = { readonly ok: true; readonly cron: Cron } | { readonly ok: false; readonly reason: string; readonly help: string };

interface Field {
  readonly title: string;
  readonly min: number;
  readonly max: number;
  /** Three letters each, the first for `min`. */
  readonly names: readonly string[];
}

const minute: Field = { title: "the minute", min: 0, max: 59, names: [] };
const hour: Field = { title: "the hour", min: 0, max: 23, names: [] };
const dayOfMonth: Field = { title: "the day of the month", min: 1, max: 31, names: [] };
const month: Field = { title: "the month", min: 1, max: 12, names: ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"] };
/** 7 is Sunday as well, which makes `fri-sun` a range that goes upward. */
const dayOfWeek: Field = { title: "the day of the week", min: 0, max: 7, names: ["sun", "mon", "tue", "wed", "thu", "fri", "sat"] };

const EXAMPLE = 'write minute, hour, day of the month, month and day of the week, such as "0 2 * * sun"';
/** The longest that each month gets; 29 February comes in time. */
const DAYS_MAX = [31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31];

export function parseCron(text: string): ParsedCron {
  const words = text.trim().split(/\s+/);
  const [minuteWord, hourWord, dayWord, monthWord, weekdayWord] = words;
  if (words.length !== 5 || minuteWord === undefined || hourWord === undefined || dayWord === undefined || monthWord === undefined || weekdayWord === undefined) {
    return { ok: false, reason: `a cron expression has five fields, not ${text.trim() === "" ? 0 : words.length}`, help: words.length === 6 ? `${EXAMPLE}: there is no field for seconds` : EXAMPLE };
  }
  try {
    const minutes = parseField(minute, minuteWord);
    const hours = parseField(hour, hourWord);
    const cron: Cron = {
      minutesOfDay: hours.flatMap((each) => minutes.map((past) => each * 60 + past)),
      days: new Set(parseField(dayOfMonth, dayWord)),
      months: new Set(parseField(month, monthWord)),
      weekdays: new Set(parseField(dayOfWeek, weekdayWord).map((each) => each % 7)),
      // cron(8) looks at the first character only, so `*/2` is not a restriction in this sense.
      eitherDay: !dayWord.startsWith("*") && !weekdayWord.startsWith("*"),
    };
    if (!everMatches(cron)) return { ok: false, reason: "no such day exists in any year", help: `the months named in ${JSON.stringify(monthWord)} have no day ${dayWord}` };
    return { ok: true, cron };
  } catch (problem) {
    if (problem instanceof FieldProblem) return { ok: false, reason: problem.message, help: problem.help };
    throw problem;
  }
}

export function matchesDay(cron: Cron, month: number, day: number, weekday: number): boolean {
  if (!cron.months.has(month)) return false;
  return cron.eitherDay ? cron.days.has(day) || cron.weekdays.has(weekday) : cron.days.has(day) && cron.weekdays.has(weekday);
}

function everMatches(cron: Cron): boolean {
  if (cron.eitherDay) return true;
  return [...cron.months].some((each) => [...cron.days].some((day) => day <= (DAYS_MAX[each - 1] ?? 0)));
}

class FieldProblem extends Error {
  readonly help: string;
  constructor(message: string, help: string) {
    super(message);
    this.help = help;
  }
}

/** Ascending, without doubles. */
function parseField(field: Field, word: string): readonly number[] {
  const values = new Set<number>();
  for (const part of word.split(",")) for (const value of parsePart(field, part, word)) values.add(value);
  return [...values].sort((a, b) => a - b);
}

function parsePart(field: Field, part: string, word: string): readonly number[] {
  const match = /^(?:(\*)|([a-z0-9]+)(?:-([a-z0-9]+))?)(?:\/(\d{1,2}))?$/i.exec(part);
  const where = `${field.title} is ${JSON.stringify(word.slice(0, 60))}`;
  if (match === null) throw new FieldProblem(`${where}: ${JSON.stringify(part.slice(0, 60))} is neither *, a value, a range nor a step`, `write values such as ${field.max > 7 && field.names.length === 0 ? `${field.min},${field.min + 5}` : `${field.names[1]},${field.names[3]}`}, ranges such as ${range(field)}, or steps such as */2`);
  const [, star, first, last, stepText] = match;
  const step = stepText === undefined ? 1 : Number(stepText);
  if (step < 1) throw new FieldProblem(`${where}: a step of 0 never ends`, "write a step of 1 or more, such as */2");
  if (star === undefined && last === undefined && stepText !== undefined) throw new FieldProblem(`${where}: a step needs a range or *`, `write ${first}-${highest(field)}/${step}`);
  const from = star === undefined ? valueOf(field, first ?? "", where) : field.min;
  let to = star === undefined ? (last === undefined ? from : valueOf(field, last, where)) : highest(field);
  if (field === dayOfWeek && to === 0 && from > 0) to = 7;
  if (to < from) throw new FieldProblem(`${where}: a range goes upward, and ${first}-${last} does not`, `write ${first}-${highest(field)},${field.min}-${last}`);
  const values: number[] = [];
  for (let value = from; value <= to; value += step) values.push(value);
  return values;
}

function valueOf(field: Field, text: string, where: string): number {
  const named = field.names.indexOf(text.toLowerCase());
  const value = named === -1 ? (/^\d{1,2}$/.test(text) ? Number(text) : Number.NaN) : named + field.min;
  if (value >= field.min && value <= field.max) return value;
  const names = field.names.length === 0 ? "" : ` or ${field.names[0]} to ${field.names.at(-1)}`;
  throw new FieldProblem(`${where}: ${JSON.stringify(text.slice(0, 60))} is not ${field.min} to ${field.max}${names}`, `${field.title} is ${field.min} to ${field.max}${names}`);
}

/** Of the whole week, Sunday counts once: as its first day. */
function highest(field: Field): number {
  return field === dayOfWeek ? 6 : field.max;
}

function range(field: Field): string {
  return field.names.length === 0 ? `${field.min + 1}-${field.min + 5}` : `${field.names[1]}-${field.names[4]}`;
}
