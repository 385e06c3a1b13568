import { cp, mkdtemp, readFile, readdir, writeFile } from "node:fs/promises";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { root } from "../../image/bundle.ts";

/** The example cluster without its daemons (keepalived, FRR, LXD), for nodes of the plain flavour; a copy that the caller removes. */
export async function plainExample(): Promise<string> {
  const directory = await mkdtemp(join(tmpdir(), "plain-"));
  await cp(join(root, "git-config"), directory, { recursive: true });
  for (const name of await readdir(join(directory, "nodes"))) {
    const path = join(directory, "nodes", name);
    const text = await readFile(path, "utf8");
    await writeFile(path, text.replace(/^roles: .*$/m, "roles: [base, web]").replace(/# The network behind this node[^]*$/, ""));
  }
  const cluster = join(directory, "cluster.yaml");
  await writeFile(cluster, (await readFile(cluster, "utf8")).replace("gates: true ", "gates: false"));
  return directory;
}
