import { LabError } from "./command.ts";
import type { Lab } from "./lab.ts";

export const TINY_IMAGE = "/srv/tiny.tar.gz";

/** The smallest thing that boots: a shell that waits, out of the node's own files. The same bytes on every node. */
const script = `set -e
d=$(mktemp -d); trap 'rm -rf "$d"' EXIT; cd "$d"
mkdir -p rootfs/bin rootfs/sbin rootfs/lib64 rootfs/lib/x86_64-linux-gnu rootfs/etc rootfs/proc rootfs/sys rootfs/dev rootfs/tmp rootfs/root rootfs/run rootfs/var
cp -L /bin/dash rootfs/bin/sh; cp -L /bin/sleep rootfs/bin/; cp -L /lib64/ld-linux-x86-64.so.2 rootfs/lib64/; cp -L /lib/x86_64-linux-gnu/libc.so.6 rootfs/lib/x86_64-linux-gnu/
printf '#!/bin/sh\\ntrap "exit 0" PWR TERM INT\\nwhile :; do sleep 1000000 & wait $!; done\\n' >rootfs/sbin/init; chmod 755 rootfs/sbin/init
printf 'architecture: x86_64\\ncreation_date: 1700000000\\nproperties: {os: lab, description: tiny}\\n' >metadata.yaml
tar --sort=name --mtime=@1700000000 --owner=0 --group=0 --numeric-owner -cf - metadata.yaml rootfs | gzip -n >${TINY_IMAGE}
sha256sum ${TINY_IMAGE} | cut -d' ' -f1
`;

/** Puts the image on every node, where LXD can import it from. Answers its fingerprint. */
export async function makeTinyImage(lab: Lab): Promise<string> {
  const sums = await Promise.all(
    lab.nodes.map(async (node) => {
      const { code, stdout, stderr } = await lab.shell(node, script, { timeoutMs: 60_000 });
      if (code !== 0) throw new LabError("command-failed", `no image could be made on ${node}: ${stderr}`);
      return stdout.trim();
    }),
  );
  const [fingerprint = ""] = sums;
  if (sums.some((sum) => sum !== fingerprint)) throw new LabError("command-failed", `the nodes made different images: ${sums.join(", ")}`);
  return fingerprint;
}
