import { compareVersions } from "../../shared/kinds/deb-version.ts";
import type { RebootNeed } from "../../shared/protocol/updates.ts";

/** Whether the kernel that runs is older than one that is installed and would be booted instead. Pure. */

export interface InstalledKernel {
  /** As `uname -r` would say: `6.1.0-18-amd64`. */
  readonly release: string;
  /** The package's version; null when only the file in /boot is known. */
  readonly version: string | null;
}

export interface KernelView {
  /** A container runs on the kernel of its host, which is not its own to replace. */
  readonly container: boolean;
  /** /proc/sys/kernel/osrelease; null when it cannot be read. */
  readonly running: string | null;
  /** The package's version of the running kernel, where the kernel says it. */
  readonly build: string | null;
  readonly installed: readonly InstalledKernel[];
}

/** `6.1.0-18-amd64` is 6.1.0-18 of the flavour amd64; `6.12.9+bpo-cloud-amd64` is 6.12.9+bpo of cloud-amd64. */
export function splitRelease(release: string): { readonly version: string; readonly flavour: string } {
  const found = /^(\d[\d.]*(?:[+~][A-Za-z0-9.+~]*)?(?:-\d[A-Za-z0-9.+~]*)*)-(.+)$/.exec(release);
  return found === null ? { version: release, flavour: "" } : { version: found[1]!, flavour: found[2]! };
}

/** The kernel that a package holds, or null: metapackages (`linux-image-amd64`) and debug symbols hold none. */
export function releaseOfPackage(name: string): string | null {
  const release = /^(?:linux-image(?:-unsigned)?|proxmox-kernel|pve-kernel)-(\d.*?)(?:-signed)?$/.exec(name)?.[1];
  if (release === undefined || /-dbg(sym)?$/.test(release)) return null;
  return splitRelease(release).flavour === "" ? null : release;
}

/** From /proc/version_signature (Ubuntu) or /proc/version (Debian: `… Debian 6.1.76-1 (2024-02-01)`). */
export function runningBuild(version: string | null, signature: string | null): string | null {
  const ubuntu = /^Ubuntu (\d\S*?)-[a-z][a-z0-9-]*(?: |$)/.exec(signature ?? "")?.[1];
  return ubuntu ?? / Debian (\d\S*) \(/.exec(version ?? "")?.[1] ?? null;
}

export function kernelNeed(view: KernelView): RebootNeed {
  const { container, running, build, installed } = view;
  if (container || installed.length === 0) return { needed: "no", why: [] };
  if (running === null) return { needed: "unknown", why: ["the running kernel's release cannot be read (/proc/sys/kernel/osrelease)"] };
  const now = splitRelease(running);
  const alike = installed.filter(({ release }) => splitRelease(release).flavour === now.flavour).toSorted((a, b) => compareVersions(splitRelease(b.release).version, splitRelease(a.release).version));
  const newest = alike[0];
  if (newest === undefined) {
    const others = installed.map(({ release }) => release).slice(0, 5).join(", ");
    return { needed: "unknown", why: [`the running kernel ${running} is of another kind than the installed (${others}), so that it does not show which of them would be booted`] };
  }
  if (compareVersions(splitRelease(newest.release).version, now.version) > 0) {
    return { needed: "yes", why: [`the running kernel ${running} is older than the installed ${newest.release}`] };
  }
  const same = alike.find(({ release, version }) => release === running && version !== null);
  if (build !== null && same?.version != null && compareVersions(same.version, build) > 0) {
    return { needed: "yes", why: [`the running kernel ${running} was built as ${build}, and ${same.version} is installed`] };
  }
  return { needed: "no", why: [] };
}
