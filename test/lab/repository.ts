import { createHash } from "node:crypto";
import { chmod, copyFile, link, mkdir, mkdtemp, readFile, readdir, rename, rm, stat, writeFile } from "node:fs/promises";
import { basename, dirname, join } from "node:path";
import { exists } from "./base.ts";
import { LabError, must } from "./command.ts";
import { withLock } from "./lock.ts";

export interface PublishOptions {
  /** Marks the node as in need of a reboot, as Debian's kernel and libc packages do. */
  readonly reboot?: boolean;
  /** Shell lines, run when the package is configured. A failing line makes the installation fail. */
  readonly postinst?: string;
  /** As `postinst`, run before the package is unpacked. */
  readonly preinst?: string;
  readonly depends?: readonly string[];
  readonly breaks?: readonly string[];
  /** Path to content; dpkg treats them as configuration files. */
  readonly conffiles?: Readonly<Record<string, string>>;
  /** Path to content, ordinary files. */
  readonly files?: Readonly<Record<string, string>>;
}

// apt does not copy an index, it links to it: a node that has not updated for so many publications loses its lists.
const indexGenerations = 50;

/** What the Release file says of the archive; apt shows label and suite with every version. */
export interface ReleaseNames {
  readonly origin: string;
  readonly label: string;
  readonly suite: string;
  readonly codename: string;
}

const labRelease: ReleaseNames = { origin: "Lab", label: "Lab", suite: "stable", codename: "lab" };
/** As Debian's security archive calls itself. */
export const securityRelease: ReleaseNames = { origin: "Debian", label: "Debian-Security", suite: "oldstable-security", codename: "bookworm-security" };

/**
 * The lab's flat apt repository, seen by the nodes as `deb [trusted=yes] file:/srv/repo ./`. A second one in a directory
 * below it is seen by them too: `deb [trusted=yes] file:/srv/repo/security ./`.
 */
export class LabRepository {
  readonly directory: string;
  readonly #release: ReleaseNames;
  /** One file per package with its lines of the index, so that publishing reads only what is new. */
  readonly #stanzas: string;
  readonly #lock: string;

  constructor(directory: string, release: ReleaseNames = labRelease) {
    this.directory = directory;
    this.#release = release;
    this.#stanzas = `${directory}.stanzas`;
    this.#lock = `${directory}.lock`;
  }

  async create(): Promise<void> {
    await mkdir(this.directory, { recursive: true });
    if (!(await exists(join(this.directory, "Release")))) await this.#locked(() => this.#index());
  }

  /** Builds a toy package with a service of its own and puts it into the repository. */
  async publish(name: string, version: string, options: PublishOptions): Promise<void> {
    if (!/^[a-z0-9][a-z0-9+.-]+$/.test(name)) throw new LabError("bad-request", `not a package name: "${name}"`);
    if (!/^[0-9][A-Za-z0-9.+~:-]*$/.test(version)) throw new LabError("bad-request", `not a version: "${version}"`);
    await mkdir(this.directory, { recursive: true });
    const work = await mkdtemp(`${this.directory}.build-`);
    try {
      const tree = join(work, "tree");
      await writePackageTree(tree, name, version, options);
      const deb = join(work, `${name}_${version.replace(":", "%3a")}_all.deb`);
      await must(["dpkg-deb", "--root-owner-group", "-Zgzip", "-z1", "--build", tree, deb]);
      await this.add([deb]);
    } finally {
      await rm(work, { recursive: true, force: true });
    }
  }

  /** Adds .deb files, all of them in one step for whoever reads the index. */
  async add(debs: readonly string[]): Promise<void> {
    await this.#locked(async () => {
      await Promise.all(
        debs.map(async (deb) => {
          const target = join(this.directory, basename(deb));
          await rm(join(this.#stanzas, basename(deb)), { force: true });
          await rm(`${target}.new`, { force: true });
          await link(deb, `${target}.new`).catch(() => copyFile(deb, `${target}.new`));
          await rename(`${target}.new`, target);
        }),
      );
      await this.#index();
    });
  }

  /** Takes one version out again, as an archive does that keeps only the newest. */
  async retire(name: string, version: string): Promise<void> {
    const deb = `${name}_${version.replace(":", "%3a")}_all.deb`;
    await this.#locked(async () => {
      await rm(join(this.directory, deb));
      await rm(join(this.#stanzas, deb), { force: true });
      await this.#index();
    });
  }

  #locked<T>(work: () => Promise<T>): Promise<T> {
    return withLock(this.#lock, 60_000, work);
  }

  async #index(): Promise<void> {
    await mkdir(this.#stanzas, { recursive: true });
    const debs = (await readdir(this.directory)).filter((name) => name.endsWith(".deb")).sort();
    const stanzas: string[] = [];
    // A few at a time: a mirrored closure is some hundred packages.
    for (let at = 0; at < debs.length; at += 8) {
      stanzas.push(...(await Promise.all(debs.slice(at, at + 8).map((deb) => this.#stanza(deb)))));
    }
    const packages = stanzas.join("\n");
    const hash = sha256(packages);
    const byHash = join(this.directory, "by-hash", "SHA256");
    await mkdir(byHash, { recursive: true });
    // In this order, and by hash, because apt reads Release first: it then finds the Packages that belongs to it.
    await replaceFile(join(byHash, hash), packages);
    await replaceFile(join(this.directory, "Packages"), packages);
    await replaceFile(join(this.directory, "Release"), releaseText(this.#release, hash, Buffer.byteLength(packages)));
    await dropOldIndexes(byHash);
  }

  async #stanza(deb: string): Promise<string> {
    const kept = join(this.#stanzas, deb);
    const known = await readFile(kept, "utf8").catch(() => undefined);
    if (known !== undefined) return known;
    const path = join(this.directory, deb);
    const content = await readFile(path);
    const control = (await must(["dpkg-deb", "--field", path])).trimEnd();
    const stanza = `${control}\nFilename: ./${deb}\nSize: ${content.length}\nSHA256: ${sha256(content)}\n`;
    await replaceFile(kept, stanza);
    return stanza;
  }
}

async function writePackageTree(tree: string, name: string, version: string, options: PublishOptions): Promise<void> {
  const conffiles = options.conffiles ?? {};
  const depends = options.depends ?? [];
  const control = [
    `Package: ${name}`,
    `Version: ${version}`,
    "Architecture: all",
    "Maintainer: Evenkeel lab <lab@invalid>",
    ...(depends.length === 0 ? [] : [`Depends: ${depends.join(", ")}`]),
    ...(options.breaks === undefined || options.breaks.length === 0 ? [] : [`Breaks: ${options.breaks.join(", ")}`]),
    "Description: toy package of the lab",
    "",
  ];
  const unit = [
    "[Unit]",
    `Description=${name} ${version}, a toy service`,
    "[Service]",
    "ExecStart=/bin/sleep infinity",
    "[Install]",
    "WantedBy=multi-user.target",
    "",
  ];
  const whenSystemdRuns = "if [ -d /run/systemd/system ]; then";
  const mark = `touch /run/reboot-required\ngrep -qxs ${name} /run/reboot-required.pkgs || echo ${name} >>/run/reboot-required.pkgs`;
  const start = `systemctl daemon-reload; systemctl enable -q ${name}; systemctl restart ${name}`;
  const content: Record<string, string> = {
    ...options.files,
    ...conffiles,
    "/DEBIAN/control": control.join("\n"),
    "/DEBIAN/postinst": `#!/bin/sh\nset -e\n${options.postinst ?? ""}\n${whenSystemdRuns} ${start}; fi\n${options.reboot === true ? mark : ""}\n`,
    "/DEBIAN/prerm": `#!/bin/sh\nset -e\n${whenSystemdRuns} [ "$1" != remove ] || systemctl disable -q --now ${name}; fi\n`,
    [`/usr/share/${name}/version`]: `${version}\n`,
    [`/lib/systemd/system/${name}.service`]: unit.join("\n"),
  };
  if (options.preinst !== undefined) content["/DEBIAN/preinst"] = `#!/bin/sh\nset -e\n${options.preinst}\n`;
  const listed = Object.keys(conffiles);
  if (listed.length > 0) content["/DEBIAN/conffiles"] = `${listed.join("\n")}\n`;
  for (const [path, text] of Object.entries(content)) {
    if (!path.startsWith("/") || path.split("/").includes("..")) {
      throw new LabError("bad-request", `not an absolute path for a package's file: "${path}"`);
    }
    await mkdir(dirname(tree + path), { recursive: true, mode: 0o755 });
    await writeFile(tree + path, text);
    await chmod(tree + path, /^\/DEBIAN\/(preinst|postinst|prerm)$/.test(path) ? 0o755 : 0o644);
  }
}

function releaseText({ origin, label, suite, codename }: ReleaseNames, packagesHash: string, sizeBytes: number): string {
  return [
    `Origin: ${origin}`,
    `Label: ${label}`,
    `Suite: ${suite}`,
    `Codename: ${codename}`,
    `Date: ${new Date().toUTCString().replace("GMT", "+0000")}`,
    `Architectures: ${{ x64: "amd64", arm64: "arm64" }[process.arch as string] ?? process.arch} all`,
    "Components: main",
    "Acquire-By-Hash: yes",
    "SHA256:",
    ` ${packagesHash} ${sizeBytes} Packages`,
    "",
  ].join("\n");
}

async function dropOldIndexes(directory: string): Promise<void> {
  const names = await readdir(directory);
  const aged = await Promise.all(
    names.map(async (name) => ({ name, changedMs: (await stat(join(directory, name))).mtimeMs })),
  );
  aged.sort((a, b) => b.changedMs - a.changedMs);
  for (const { name } of aged.slice(indexGenerations)) await rm(join(directory, name), { force: true });
}

async function replaceFile(path: string, content: string): Promise<void> {
  await writeFile(`${path}.new`, content);
  await rename(`${path}.new`, path);
}

function sha256(content: string | Buffer): string {
  return createHash("sha256").update(content).digest("hex");
}
