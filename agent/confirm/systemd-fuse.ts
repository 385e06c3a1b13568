import { mkdir, symlink, unlink } from "node:fs/promises";
import { dirname, join } from "node:path";
import { syncDirectory, writeDurably } from "../host/durable.ts";
import { done, failedRun } from "../host/host.ts";
import type { Run } from "../host/process.ts";
import type { Fuse } from "./fuse.ts";

/** Where systemd looks for what the machine's owner, or a program of his, has added (systemd.unit(5)). */
const UNIT_DIR = "/etc/systemd/system";
const BOOT_UNIT = "evenkeel-putback.service";
const SYSTEMD_TIMEOUT_MS = 10_000;
/** The program is started so long before its time, as it takes most of that to start on a busy machine; it waits for the rest. */
const EARLY_MS = 2_000;

export interface SystemdFuseParts {
  readonly run: Run;
  /** The program that puts back: what is running now, with `putback` as its first argument. */
  readonly command: readonly string[];
  /** Environment that it needs. */
  readonly env: Readonly<Record<string, string>>;
  /** The record, without which there is nothing to do at boot. */
  readonly recordPath: string;
  readonly unitDir?: string;
}

/**
 * A transient timer for this boot, which needs no agent, and a unit for the next one, which runs before anything reads the
 * network's files. The unit is there only while a change is unconfirmed: it starts the very program that armed it.
 */
export function systemdFuse(parts: SystemdFuseParts): Fuse {
  const { run, command, env, recordPath, unitDir = UNIT_DIR } = parts;
  const unitPath = join(unitDir, BOOT_UNIT);
  const linkPath = join(unitDir, "sysinit.target.wants", BOOT_UNIT);
  return {
    async arm(id, limitMs) {
      await mkdir(dirname(linkPath), { recursive: true });
      await writeDurably(unitPath, bootUnit(command, env, recordPath), { mode: 0o644 });
      await symlink(`../${BOOT_UNIT}`, linkPath).catch(ignore("EEXIST"));
      await syncDirectory(dirname(linkPath));
      const inMs = Math.max(0, limitMs - EARLY_MS);
      const sinceStartMs = await sinceSystemdStarted(run);
      const argv: [string, ...string[]] = [
        "systemd-run", "--quiet", "--collect", `--unit=${timerName(id)}`, "--description=Evenkeel: puts back a change of the network that is not confirmed in time",
        // Not by OnActiveSec=, if it can be had: that begins anew at every `daemon-reload` (measured with systemd 252).
        sinceStartMs === null ? `--on-active=${inMs}ms` : `--on-startup=${sinceStartMs + inMs}ms`,
        // A timer may be late by a minute otherwise (systemd.timer(5), AccuracySec=).
        "--timer-property=AccuracySec=50ms",
        // The agent may be what ends this process's group, or what has used up the memory.
        "--property=OOMScoreAdjust=-900", "--property=Restart=on-failure", "--property=RestartSec=1s",
        ...Object.entries(env).map(([name, value]) => `--setenv=${name}=${value}`),
        "--", ...command, "putback", "--id", id, "--early", String(Math.min(EARLY_MS, limitMs)),
      ];
      const output = await run(argv, { timeoutMs: SYSTEMD_TIMEOUT_MS });
      return output.code === 0 ? done : failedRun(argv, output);
    },
    async disarm(id) {
      await unlink(linkPath).catch(ignore("ENOENT"));
      await unlink(unitPath).catch(ignore("ENOENT"));
      // One that is running by now finds nothing to do: the record is gone.
      await run(["systemctl", "stop", "--no-block", "--", `${timerName(id)}.timer`], { timeoutMs: SYSTEMD_TIMEOUT_MS });
    },
  };
}

/** systemd and this process read the same monotonic clock (org.freedesktop.systemd1(5), UserspaceTimestampMonotonic). */
async function sinceSystemdStarted(run: Run): Promise<number | null> {
  const output = await run(["systemctl", "show", "--property=UserspaceTimestampMonotonic", "--value"], { timeoutMs: SYSTEMD_TIMEOUT_MS });
  const startedMicros = Number(output.stdout.trim());
  if (output.code !== 0 || !(startedMicros > 0)) return null;
  return Math.floor(Number(process.hrtime.bigint() / 1_000n - BigInt(startedMicros)) / 1_000);
}

function timerName(id: string): string {
  return `evenkeel-putback-${id.slice(0, 8)}`;
}

/** Before everything that configures the network, whichever of these a machine has (systemd.special(7), network-pre.target). */
function bootUnit(command: readonly string[], env: Readonly<Record<string, string>>, recordPath: string): string {
  return `# Written by Evenkeel while a change of the network is not confirmed, and removed afterwards.
[Unit]
Description=Evenkeel: puts back a change of the network that was never confirmed
DefaultDependencies=no
ConditionPathExists=${recordPath}
RequiresMountsFor=${[dirname(recordPath), ...command.filter((word) => word.startsWith("/"))].map(quoted).join(" ")}
After=local-fs.target systemd-remount-fs.service
Before=sysinit.target network-pre.target systemd-networkd.service systemd-sysctl.service networking.service NetworkManager.service nftables.service shutdown.target
Wants=network-pre.target
Conflicts=shutdown.target

[Service]
Type=oneshot
${Object.entries(env).map(([name, value]) => `Environment=${quoted(`${name}=${value}`)}\n`).join("")}ExecStart=${[...command, "putback", "--boot"].map(quoted).join(" ")}
TimeoutStartSec=60
`;
}

/** As systemd reads it back: systemd.syntax(7), and specifiers of systemd.unit(5). */
function quoted(word: string): string {
  return `"${word.replace(/[\\"]/g, "\\$&").replaceAll("%", "%%").replaceAll("$", "$$$$")}"`;
}

function ignore(code: string): (error: NodeJS.ErrnoException) => void {
  return (error) => {
    if (error.code !== code) throw error;
  };
}
