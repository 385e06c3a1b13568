import type * as z from "zod";

/**
 * What a subsystem must say to be managed: one kind is one section of a node's file and one file in this folder.
 *
 * A kind is pure. It reads the machine through a {@link Probe}, which cannot write, and answers with {@link Step}s,
 * which are data: the same code therefore serves `apply`, `plan`, previews of a branch, audits and tests, on the hub as
 * well as on the node. Only `agent/host/` carries steps out.
 *
 * ```text
 *   section ──schema──▶ want ─┐
 *   machine ──observe─▶ facts ├─▶ plan ──▶ steps ──▶ (engine applies) ──▶ observe ──▶ plan ──▶ [] = converged
 *   inventory ────────▶ owned ┘
 * ```
 */
export interface Kind<Schema extends z.ZodType = z.ZodType, Facts = unknown, DrainFacts = unknown, GateFacts = unknown> {
  /** The section's name in the repository, such as `packages`. */
  readonly name: string;
  /** One line for the reference: what this section is for. */
  readonly summary: string;
  /** The only truth about the section's input: types, validation, editors' completion and the reference come from it. */
  readonly schema: Schema;
  /**
   * Fills in what follows from the other nodes (peers by name, a priority by the place in a list), and says what does not
   * fit between them. What it answers is what all below see as `want`. It must do no harm to a want that it has seen already. Pure.
   */
  resolve?(want: z.output<Schema>, around: Around<z.output<Schema>>): Resolved<z.output<Schema>>;
  /** Reads what {@link Kind.plan} needs, in as few reads and processes as possible. Never changes anything. */
  observe(want: z.output<Schema>, probe: Probe, owned: Owned): Promise<Facts>;
  /** What to do to get from `facts` to `want`, in order; `[]` means converged. Pure. */
  plan(want: z.output<Schema>, facts: Facts, owned: Owned, given?: Given): readonly Step[];
  /**
   * Makes a value that another node asked for by an `ask` step: the program's standard output is the value, sealed to the
   * asking node and never seen by the hub. Null when this node cannot (it is no member itself), or must not. Pure.
   */
  make?(want: z.output<Schema>, facts: Facts, asked: Asked): Act | null;
  /** What in the machine tells early that something may have drifted. The engine sweeps besides, so it may be partial. */
  watch?(want: z.output<Schema>): Watch;
  /** How the node hands over its part of the subsystem before it goes down, and takes it back. */
  readonly drain?: Drain<z.output<Schema>, DrainFacts>;
  /** Whether the subsystem could stand losing a member now. */
  readonly gate?: Gate<z.output<Schema>, GateFacts>;
  /** The section makes nothing on the machine: `plan` is always `[]`, and its cases show its drain and its gate. */
  readonly drainsOnly?: true;
}

/** Keeps a kind's type parameters inferred while it is written, and forgotten where kinds are listed. */
export function defineKind<Schema extends z.ZodType, Facts, DrainFacts = unknown, GateFacts = unknown>(kind: Kind<Schema, Facts, DrainFacts, GateFacts>): Kind<Schema, Facts, DrainFacts, GateFacts> {
  return kind;
}

export interface Drain<Want, Facts> {
  /** Looks at once before a node goes, and not at every converge. Reads only. */
  observe(want: Want, probe: Probe): Promise<Facts>;
  /** What takes the node out, each step with what puts it back. Steps of all kinds run by {@link DrainStep.order}. Pure. */
  steps(want: Want, facts: Facts): readonly DrainStep[];
}

/**
 * One thing that a node does to become safe to lose. It carries its own way back as data, which is on disk before the
 * step runs: the node comes back the way it went, also when the repository says something else by then.
 */
export interface DrainStep {
  /** What it is about, unique within the kind: `units/nginx.service`. */
  readonly name: string;
  /** Lower goes first, and comes back last. Steps of the same order do not depend on each other. 0 to 1000. */
  readonly order: number;
  readonly drain: Act;
  /** Null when nothing has to be put back. It may run although the step did not come to its end, and twice. */
  readonly undo: Act | null;
  /**
   * True: somebody else has done it, so it is neither done nor undone. False: it is to be done. Null: the machine does not
   * tell; it is done, unless the node's own record says that it was done since the last boot.
   */
  readonly already: boolean | null;
  /** Units that this step stops: nothing starts them again before the undo. */
  readonly units?: readonly string[];
  /** It cannot be done on this machine, and nothing at all is drained: what is wrong, and what to do about it. */
  readonly cannot?: string;
}

/** A program to run, without a shell. It has succeeded with exit code 0. Running it a second time must do no harm. */
export interface Act {
  /** For people, while it runs: "stopping nginx.service". */
  readonly doing: string;
  readonly argv: readonly [string, ...string[]];
  readonly timeoutMs: number;
}

export interface Gate<Want, Facts> {
  /** Reads only. */
  observe(want: Want, probe: Probe): Promise<Facts>;
  /** Why nobody, or this node, must go now; `[]` when they may. What could not be looked at is a reason. Pure. */
  reasons(want: Want, facts: Facts): readonly Reason[];
}

/** A sentence alone keeps all others from going: the subsystem is not whole here, and could not stand losing another member. */
export type Reason = string | SpecialReason;

export interface SpecialReason {
  readonly text: string;
  /** `itself`: it would not survive this node's own going, as the last that serves something. `all`: nobody knows. Usual: `others`. */
  readonly holds?: "others" | "itself" | "all";
  /** Only for want of these nodes: while all of them are away, which is known and counted, it keeps nobody from going. */
  readonly missing?: readonly string[];
}

export function reasonText(reason: Reason): string {
  return typeof reason === "string" ? reason : reason.text;
}

/** The cluster as a section may refer to it. */
export interface Around<Want> {
  readonly cluster: string;
  /** The name of the node whose section it is; it is among the nodes as well. */
  readonly self: string;
  /** All nodes of the repository, in the order of their names. */
  readonly nodes: readonly Peer<Want>[];
}

export interface Peer<Want> {
  readonly name: string;
  readonly address?: string;
  /** Its section of this kind as its schema gives it, before `resolve`, without contents; null when it has none. */
  readonly section: Want | null;
}

export interface Resolved<Want> {
  readonly want: Want;
  readonly misfits: readonly Misfit[];
}

/** What is wrong in a section as seen next to the others; told at its line, and a push with it is refused. */
export interface Misfit {
  /** Where, from the section on: `["instances", "web", "routerId"]`. */
  readonly path: readonly (string | number)[];
  readonly message: string;
  readonly help?: string;
}

/** Values that other nodes have made for this one, by the key of the `ask` step that asked for them. Secret, and used once. */
export type Given = ReadonlyMap<string, string>;

/** A question by another node, as far as it can be believed: the hub has passed it on, the node stands in the repository. */
export interface Asked {
  /** The node that asks. */
  readonly node: string;
  /** The key of its `ask` step. */
  readonly key: string;
}

/** Names one thing on a node: the kind's name, a slash, its key: `packages/nginx`, `files//etc/motd`. */
export type ResourceId = `${string}/${string}`;

/**
 * What the agent itself has made in this section and not yet taken away again, by key. Whatever stands here and no
 * longer in the section is what gets pruned; what the agent found already there never is. The value is what the step
 * that first made it gave as {@link StepCommon.claim}, for the kind to put back.
 */
export type Owned = ReadonlyMap<string, Json>;

export type Json = null | boolean | number | string | readonly Json[] | { readonly [key: string]: Json };

/** How much a step disturbs: `disruptive` and `reboot` need a lease, `network` runs under a confirmed commit. */
export type Impact = "none" | "service" | "network" | "disruptive" | "reboot";

export interface StepCommon {
  /** What this step is part of. Steps of one resource run in order; after a failure the rest of them is skipped. */
  readonly resource: ResourceId;
  /** Why it is needed, for people: "is 1.22, should be 1.24", "mode is 0644, should be 0600". */
  readonly why: string;
  readonly impact: Impact;
  /** Resources that must not have failed in this run, else this step is blocked. */
  readonly needs?: readonly ResourceId[];
  /** Units to restart or reload once, after everything else, if this step did change something. Survives a crash. */
  readonly then?: readonly Trigger[];
  /** Takes something managed away (prune, uninstall, delete): counts for the removal guard, and runs in reverse order of kinds. */
  readonly removes?: true;
  /** Recorded in the inventory before the step runs, if nothing is recorded for the resource yet: "the agent made this". */
  readonly claim?: Json;
  /** Strikes the resource off the inventory once the step has succeeded. */
  readonly release?: true;
  /**
   * Of a `run`, `set` or `unit` step of impact `network`: what takes it back when the node turns out to be cut off. Files need none,
   * they are put back as they were; their triggers run again then.
   */
  readonly undo?: Act;
  /** It cannot be taken back, and why, for people; said before it starts. */
  readonly oneWay?: string;
  /** Neither the content nor a diff of it may be shown, reported or logged. */
  readonly sensitive?: true;
}

export interface Trigger {
  readonly unit: string;
  /** `reload` falls back to a restart where the unit cannot reload. A unit that is not running is left alone. */
  readonly action: "restart" | "reload";
  /** The unit is one that the cluster leans on: the step that asks for this waits for the node's turn. */
  readonly impact?: "disruptive";
}

export type Step = StepCommon &
  (
    | {
        /** Runs one program, without a shell. Fails on an exit code other than 0. */
        readonly do: "run";
        readonly argv: readonly [string, ...string[]];
        readonly timeoutMs: number;
        readonly input?: string;
      }
    | {
        /** Replaces a regular file's content, mode and owner at once (temporary file, fsync, rename); makes missing parent directories. The earlier content, mode and owner are kept in the backup store at the first time. */
        readonly do: "write";
        readonly path: string;
        readonly content: Uint8Array;
        readonly mode: number;
        readonly owner: string;
        readonly group: string;
        /** Follows where `content` came from, for people: `files/motd`. */
        readonly source?: string;
      }
    | {
        /** Changes mode and owner of what is there, and nothing else. */
        readonly do: "attributes";
        readonly path: string;
        readonly mode: number;
        readonly owner: string;
        readonly group: string;
      }
    | { readonly do: "directory"; readonly path: string; readonly mode: number; readonly owner: string; readonly group: string }
    | { readonly do: "link"; readonly path: string; readonly target: string }
    | {
        /** Removes a file, a link or an empty directory; what it was is kept in the backup store. */
        readonly do: "remove";
        readonly path: string;
      }
    | {
        /** Puts back what stood at `path` before the agent first touched it, from the backup store; removes it if there was nothing. */
        readonly do: "restore";
        readonly path: string;
      }
    | {
        /** Writes a value into a file of the kernel's (/proc/sys, /sys), in place. */
        readonly do: "set";
        readonly path: string;
        readonly value: string;
      }
    | {
        /** One package's part of the transaction: the engine hands all of them to apt at once, after `apt-get -s` has been checked. */
        readonly do: "package";
        readonly action: "install" | "remove" | "purge" | "hold" | "unhold";
        readonly name: string;
        /** Exactly this version; without it, apt's candidate. */
        readonly version?: string;
      }
    | {
        /** Starts, stops, enables … units with systemctl; runs of the same action over neighbouring steps become one call. */
        readonly do: "unit";
        readonly action: "start" | "stop" | "enable" | "disable" | "mask" | "unmask" | "daemon-reload";
        readonly unit: string;
      }
    | {
        /** Fetches a file whose sum is known, from the first address that has it, and puts it in place at once. Goes on where an earlier try stopped. */
        readonly do: "download";
        readonly path: string;
        readonly urls: readonly string[];
        /** Of what is fetched, in lower-case hexadecimal. */
        readonly sha256: string;
        /** What is fetched is a tar archive, and this member of it is the file. */
        readonly member?: string;
        readonly mode: number;
        readonly owner: string;
        readonly group: string;
        readonly timeoutMs: number;
        readonly sizeMaxBytes: number;
        /** Whether a file that stands there with another sum may be replaced: the agent put it there. */
        readonly replace: boolean;
      }
    | {
        /**
         * Something is needed that only a member can make, such as a token to join by. The resource waits; the value comes with
         * {@link Given} in a later run. The first of `from` that can, makes it (see {@link Kind.make}).
         */
        readonly do: "ask";
        /** Unique within the kind: `join/n2`. Lower-case letters, digits, `.`, `/` and `-`. */
        readonly key: string;
        /** Names of nodes, in the order in which they are to be asked. */
        readonly from: readonly string[];
        /** For people: "a token to join the LXD cluster". */
        readonly what: string;
        /** How long the value can be used once it has been made. */
        readonly lastsMs: number;
      }
    | {
        /** What is wanted cannot be had on this machine: the resource fails with this message, which says what to do. */
        readonly do: "fail";
        readonly message: string;
      }
  );

/** What a kind can ask of a machine. Reads only; the twin in tests answers from a recording. */
export interface Probe {
  /** What is at the path itself (a link is not followed), or null. */
  stat(path: string): Promise<Stat | null>;
  /** The bytes of a regular file (links are followed), or null when there is none. Fails over `sizeMaxBytes` (default 16 MiB). */
  read(path: string, sizeMaxBytes?: number): Promise<Uint8Array | null>;
  /** As {@link Probe.read}, as UTF-8 text. */
  readText(path: string): Promise<string | null>;
  /** A text file parsed, remembered until the file's identity, size or time changes. `parse` must be a constant function. */
  parsed<T>(path: string, parse: (text: string) => T): Promise<T | null>;
  readLink(path: string): Promise<string | null>;
  /** Names in a directory, sorted, or null when there is none. */
  list(path: string): Promise<readonly string[] | null>;
  /** Runs a program that only reads. An exit code is an answer, not a failure; a missing program answers 127. */
  run(argv: readonly [string, ...string[]], options?: { readonly timeoutMs?: number; readonly input?: string }): Promise<Output>;
}

export interface Stat {
  readonly type: "file" | "directory" | "link" | "other";
  /** Permission bits with setuid, setgid and sticky: 0o0000 to 0o7777. */
  readonly mode: number;
  readonly uid: number;
  readonly gid: number;
  readonly sizeBytes: number;
  /** Of a regular file: changes when it is written to or replaced (inode, size and time of its content). */
  readonly stamp?: string;
}

export interface Output {
  readonly code: number;
  readonly stdout: string;
  readonly stderr: string;
}

/** Where drift of a section would show at once. */
export interface Watch {
  /** Files and directories whose change, creation or removal is of interest. */
  readonly paths?: readonly string[];
  /** systemd units whose state is of interest. */
  readonly units?: readonly string[];
}
