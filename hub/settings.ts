import { isIP } from "node:net";
import { resolve } from "node:path";
import { parse } from "yaml";
import * as z from "zod";
import { PATIENCE } from "./coordinator/state.ts";

/**
 * The hub's settings: as written (YAML or JSON file, then EVENKEEL_HUB_* variables, then flags, the later one wins), and
 * valid, with every default filled in.
 */

const listen = z
  .string()
  .regex(/^(\[[0-9a-fA-F:]+\]|[0-9.]+|[a-zA-Z][a-zA-Z0-9.-]*):\d{1,5}$/, "an address and a port, like 0.0.0.0:7443 or [::]:7443")
  .transform((text) => {
    const colon = text.lastIndexOf(":");
    return { host: text.slice(0, colon).replace(/^\[|\]$/g, ""), port: Number(text.slice(colon + 1)) };
  })
  .refine(({ port }) => port <= 65_535, "a port is at most 65535");
export type Listen = z.output<typeof listen>;

const host = z
  .string()
  .max(253)
  .refine((text) => isIP(text) !== 0 || /^[a-zA-Z0-9]([a-zA-Z0-9.-]*[a-zA-Z0-9])?$/.test(text), "a host name or an IP address");

const patienceMs = (standard: number) => z.number().int().min(500).max(24 * 3_600_000).default(standard);
const days = (standard: number) => z.number().positive().max(3_650).default(standard);

export const SettingsSchema = z
  .strictObject({
    dataDir: z.string().min(1).default("/var/lib/evenkeel-hub").describe("Database, repository, keys. Mode 0700"),
    cluster: z
      .string()
      .regex(/^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$/, "lower-case letters, digits and hyphens, at most 63")
      .default("cluster")
      .describe("The cluster's name, in topics; cluster.yaml must say the same"),
    branch: z.string().min(1).max(128).default("main"),
    publicHosts: z.array(host).min(1).max(32).describe("Names and addresses under which nodes and people reach the hub; the first is the one that nodes are told"),
    httpsListen: listen.prefault("0.0.0.0:7443").describe("API, Git and enrolment, TLS with the hub's own authority"),
    pageListen: listen.prefault("127.0.0.1:7480").describe("Page and API over plain HTTP"),
    mqttListen: listen.prefault("0.0.0.0:8883").describe("MQTT over TLS, for nodes"),
    behindProxy: z.boolean().default(false).describe("A reverse proxy with TLS of its own stands before pageListen and sets X-Forwarded-For"),
    certificates: z.strictObject({ nodeDays: days(90), serverDays: days(90) }).prefault({}),
    enrolmentTokenHours: z.number().positive().max(24 * 30).default(24),
    planTimeoutMs: z.number().int().min(100).max(600_000).default(60_000),
    retention: z
      .strictObject({
        convergesPerNode: z.number().int().min(1).max(100_000).default(500),
        convergesPerNodeBytes: z.number().int().min(1_000_000).max(10_000_000_000).default(64 * 1024 * 1024),
        commits: z.number().int().min(10).max(100_000).default(1_000),
        audit: z.number().int().min(100).max(1_000_000).default(10_000),
      })
      .prefault({}),
    patience: z
      .strictObject({
        staleMs: patienceMs(PATIENCE.staleMs).describe("A node that has not been heard of for so long counts as down"),
        pingEveryMs: patienceMs(PATIENCE.pingEveryMs).describe("How often nodes are asked where they stand"),
        confirmMs: patienceMs(PATIENCE.confirmMs).describe("How long a drained node waits for all else to be well, before it is told to put everything back"),
        checkMs: patienceMs(PATIENCE.checkMs).describe("How long a node that is back may take to be well, before somebody is told"),
        orderVoidMs: z.number().int().min(PATIENCE.orderVoidMs).default(PATIENCE.orderVoidMs).describe("After so long no order that was sent can be acted upon; it may only be longer"),
      })
      .prefault({})
      .describe("What the coordinator waits for, in milliseconds"),
    logLevel: z.enum(["debug", "info", "warn", "error", "silent"]).default("info"),
  })
  .superRefine((settings, context) => {
    if (!settings.behindProxy && !isLoopback(settings.pageListen.host)) {
      context.addIssue({
        code: "custom",
        path: ["pageListen"],
        message: `${settings.pageListen.host} is not a loopback address, and the page there would carry tokens in plain text: keep 127.0.0.1 and use the page on httpsListen, or set behindProxy: true if a reverse proxy adds TLS`,
      });
    }
  });

/** As a file, a test or the demo writes them. */
export type WrittenSettings = z.input<typeof SettingsSchema>;
export type Settings = z.output<typeof SettingsSchema>;

export type SettingsVerdict = { readonly ok: true; readonly settings: Settings } | { readonly ok: false; readonly message: string };

export interface SettingsSources {
  /** The settings file's name and text, if there is one. */
  readonly file?: { readonly path: string; readonly text: string };
  readonly env: Readonly<Record<string, string | undefined>>;
  /** Flags from the command line, already named as the settings are. */
  readonly flags: Readonly<Record<string, unknown>>;
  /** What to call the machine if nobody said: its host name. */
  readonly hostname: string;
}

const variables = {
  EVENKEEL_HUB_DATA_DIR: "dataDir",
  EVENKEEL_HUB_CLUSTER: "cluster",
  EVENKEEL_HUB_PUBLIC_HOSTS: "publicHosts",
  EVENKEEL_HUB_HTTPS_LISTEN: "httpsListen",
  EVENKEEL_HUB_PAGE_LISTEN: "pageListen",
  EVENKEEL_HUB_MQTT_LISTEN: "mqttListen",
  EVENKEEL_HUB_LOG_LEVEL: "logLevel",
} as const;

/** Merges file, environment and flags, and checks the result. The message names what is wrong and where it was written. */
export function readSettings({ file, env, flags, hostname }: SettingsSources): SettingsVerdict {
  let written: Record<string, unknown> = {};
  if (file !== undefined) {
    let parsed: unknown;
    try {
      parsed = parse(file.text, { maxAliasCount: 0 });
    } catch (error) {
      return { ok: false, message: `${file.path} is neither YAML nor JSON: ${(error as Error).message}` };
    }
    if (parsed !== null && (typeof parsed !== "object" || Array.isArray(parsed))) {
      return { ok: false, message: `${file.path} must be a map of settings, such as \`dataDir: /var/lib/evenkeel-hub\`` };
    }
    written = { ...(parsed as Record<string, unknown> | null) };
  }
  for (const [variable, name] of Object.entries(variables)) {
    const value = env[variable];
    if (value !== undefined && value !== "") written[name] = name === "publicHosts" ? splitHosts(value) : value;
  }
  for (const [name, value] of Object.entries(flags)) if (value !== undefined) written[name] = value;
  if (written["publicHosts"] === undefined) written["publicHosts"] = [hostname];
  const result = SettingsSchema.safeParse(written);
  if (!result.success) {
    const where = file === undefined ? "the hub's settings" : `the hub's settings (${file.path}, environment, flags)`;
    const lines = result.error.issues.map((issue) => `  ${issue.path.join(".") || "(top)"}: ${issue.message}`);
    return { ok: false, message: `${where} are not valid:\n${lines.join("\n")}` };
  }
  return { ok: true, settings: { ...result.data, dataDir: resolve(result.data.dataDir) } };
}

export function splitHosts(text: string): string[] {
  return text.split(/[,\s]+/).filter((part) => part !== "");
}

function isLoopback(address: string): boolean {
  return address === "localhost" || address === "::1" || (isIP(address) === 4 && address.startsWith("127."));
}
