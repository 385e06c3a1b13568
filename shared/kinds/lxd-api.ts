import * as z from "zod";
import type { Probe, StepCommon, Step } from "./kind.ts";
import type { LxdWant } from "./lxd-section.ts";

/**
 * LXD's and Incus' REST API on the unix socket, by curl: one process asks as many questions as there are, and what is sent
 * goes by standard input, so that no setting is seen in a list of processes. What the API does in the background and
 * reports later (instances, images, evacuation) goes by the client, which waits for it.
 * https://documentation.ubuntu.com/lxd/en/latest/rest-api/
 */

export interface Product {
  readonly name: "lxd" | "incus";
  readonly socket: string;
  /** The client. */
  readonly client: string;
  /** What takes a preseed by standard input. */
  readonly init: readonly [string, ...string[]];
}

const PRODUCTS: readonly Product[] = [
  { name: "lxd", socket: "/var/snap/lxd/common/lxd/unix.socket", client: "/snap/bin/lxc", init: ["/snap/bin/lxd", "init", "--preseed"] },
  { name: "lxd", socket: "/var/lib/lxd/unix.socket", client: "lxc", init: ["lxd", "init", "--preseed"] },
  { name: "incus", socket: "/var/lib/incus/unix.socket", client: "incus", init: ["incus", "admin", "init", "--preseed"] },
];

/** A member that has lost the majority of the database's voters takes the question, and does not answer. */
const ASK_TIMEOUT_SECONDS = 15;
const CHANGE_TIMEOUT_SECONDS = 120;

export type Answer = { readonly ok: true; readonly metadata: unknown } | { readonly ok: false; readonly code: number; readonly error: string };

const Body = z.object({ type: z.string(), error_code: z.number().default(0), error: z.string().default(""), metadata: z.unknown() });

/** The socket's place tells which product it is; null when there is none. */
export async function findProduct(want: Pick<LxdWant, "product">, probe: Probe): Promise<Product | null> {
  const candidates = PRODUCTS.filter(({ name }) => want.product === "auto" || want.product === name);
  const there = await Promise.all(candidates.map(async (product) => (await probe.stat(product.socket)) !== null));
  return candidates.find((_, index) => there[index]) ?? null;
}

/** Asks all at once, in one process; the answers come in the same order. @throws when there is no answer at all */
export async function ask(product: Product, paths: readonly string[], probe: Probe): Promise<readonly Answer[]> {
  const urls = paths.map((path) => `http://lxd${path}`);
  const output = await probe.run(["curl", "-gsS", "--max-time", String(ASK_TIMEOUT_SECONDS), "--unix-socket", product.socket, ...urls], { timeoutMs: (ASK_TIMEOUT_SECONDS + 5) * 1_000 });
  const title = titleOf(product);
  if (output.code === 127) throw new Error(`${title} is talked to by curl, and there is none: add curl to packages`);
  if (output.code === 7) throw new Error(`${title} takes no connection at ${product.socket}: see "systemctl status ${product.name}" and its journal`);
  if (output.code === 28 || output.code === 124) throw new Error(`${title} took the question and did not answer within ${ASK_TIMEOUT_SECONDS} s, as it does when its database is without a majority of its voters: start the other members; "${product.name === "incus" ? "incus admin" : "lxd"} cluster list-database" on this node names them`);
  if (output.code !== 0) throw new Error(`${title} could not be asked: curl ended with code ${output.code}: ${output.stderr.trim().slice(0, 500)}`);
  const lines = output.stdout.split("\n").filter((line) => line.trim() !== "");
  if (lines.length !== paths.length) throw new Error(`${title} answered ${lines.length} of ${paths.length} questions: ${output.stderr.trim().slice(0, 500)}`);
  return lines.map(parseAnswer);
}

function parseAnswer(line: string): Answer {
  const body = Body.parse(JSON.parse(line));
  return body.type === "error" ? { ok: false, code: body.error_code, error: body.error } : { ok: true, metadata: body.metadata };
}

export function titleOf({ name }: Pick<Product, "name">): string {
  return name === "lxd" ? "LXD" : "Incus";
}

/** A step that changes something at once, with a body by standard input. */
export function change(product: Product, method: "POST" | "PUT" | "PATCH" | "DELETE", path: string, body: unknown, common: StepCommon): Step {
  return {
    ...common,
    do: "run",
    argv: ["curl", "-gsS", "--fail-with-body", "--max-time", String(CHANGE_TIMEOUT_SECONDS), "--unix-socket", product.socket, "-X", method, "-H", "Content-Type: application/json", "-d", "@-", `http://lxd${path}`],
    input: `${JSON.stringify(body)}\n`,
    timeoutMs: (CHANGE_TIMEOUT_SECONDS + 10) * 1_000,
  };
}

/** `/1.0/profiles/web?project=p1`, with every part escaped. */
export function apiPath(parts: readonly string[], query: Readonly<Record<string, string>> = {}): string {
  const asked = Object.entries(query).map(([name, value]) => `${name}=${encodeURIComponent(value)}`);
  return `/1.0${parts.map((part) => `/${encodeURIComponent(part)}`).join("")}${asked.length === 0 ? "" : `?${asked.join("&")}`}`;
}

/** What is wanted and not so; a text that is empty wants the key away. Keys that nobody wants are left alone. */
export function differing(want: Readonly<Record<string, string>>, have: Readonly<Record<string, string>>): Record<string, string> {
  return Object.fromEntries(Object.entries(want).filter(([key, value]) => (have[key] ?? "") !== value));
}

/** Keys only, for people: a value may be a secret. */
export function namesOf(values: Readonly<Record<string, unknown>>): string {
  const names = Object.keys(values).toSorted();
  return names.length <= 6 ? names.join(", ") : `${names.slice(0, 6).join(", ")} and ${names.length - 6} more`;
}
