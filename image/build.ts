import { execFileSync } from "node:child_process";
import { chmod, cp, mkdir, readFile, rm, symlink, writeFile } from "node:fs/promises";
import { basename, join } from "node:path";
import { bundleAgent, root } from "./bundle.ts";

/** `npm run package`: the agent as a Debian package, with Node in it. */
const { version, description } = JSON.parse(await readFile(join(root, "package.json"), "utf8")) as { version: string; description: string };
const architecture = { x64: "amd64", arm64: "arm64" }[process.arch as "x64" | "arm64"];
if (architecture === undefined) throw new Error(`there is no Node for ${process.arch} among the npm packages`);

const bundle = await bundleAgent();
const tree = join(root, "dist", "package");
await rm(tree, { recursive: true, force: true });
for (const directory of ["DEBIAN", "usr/bin", "lib/systemd/system"]) await mkdir(join(tree, directory), { recursive: true });
// What another that bundles is still writing begins with a dot.
await cp(bundle, join(tree, "usr/lib/evenkeel"), { recursive: true, filter: (path) => !basename(path).startsWith(".") });
await cp(join(bundle, "evenkeel-agent.service"), join(tree, "lib/systemd/system/evenkeel-agent.service"));
await rm(join(tree, "usr/lib/evenkeel/evenkeel-agent.service"));
await symlink("../lib/evenkeel/evenkeel-agent", join(tree, "usr/bin/evenkeel-agent"));
await writeFile(
  join(tree, "DEBIAN/control"),
  [
    "Package: evenkeel-agent",
    `Version: ${version}`,
    `Architecture: ${architecture}`,
    "Maintainer: Evenkeel <evenkeel@example.invalid>",
    // Node is linked to libatomic; signatures are checked by git with ssh-keygen or gpg.
    "Depends: git, ca-certificates, openssh-client, libatomic1, systemd",
    "Recommends: gpg",
    "Section: admin",
    "Priority: optional",
    `Description: ${description}`,
    " The agent: makes this machine what the cluster's repository says.",
    "",
  ].join("\n"),
);
// An upgrade restarts an agent that runs; a first installation has nothing to run before it is enrolled. Without waiting: the
// agent may be the one whose apt runs this, and it stops only when its apt has ended.
await writeFile(join(tree, "DEBIAN/postinst"), "#!/bin/sh\nset -e\nif [ -d /run/systemd/system ]; then systemctl daemon-reload; systemctl --no-block try-restart evenkeel-agent.service || true; fi\n");
await writeFile(join(tree, "DEBIAN/prerm"), '#!/bin/sh\nset -e\nif [ "$1" = remove ] && [ -d /run/systemd/system ]; then systemctl disable evenkeel-agent.service; systemctl --no-block stop evenkeel-agent.service || true; fi\n');
for (const script of ["postinst", "prerm"]) await chmod(join(tree, "DEBIAN", script), 0o755);
const file = join(root, "dist", `evenkeel-agent_${version}_${architecture}.deb`);
console.log("packing (Node is 120 MB) …");
execFileSync("dpkg-deb", ["--root-owner-group", "-Zxz", "-z1", "-b", tree, file], { stdio: "inherit" });
await rm(tree, { recursive: true, force: true });
