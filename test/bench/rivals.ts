import type { LoneNode } from "./lone-node.ts";
import { asAnsible, asCfengine, asPuppet } from "./state.ts";
import type { State } from "./state.ts";

export interface Rival {
  readonly name: string;
  /** Debian packages that bring it. */
  readonly packages: readonly string[];
  readonly file: string;
  readonly text: (state: State) => string;
  readonly command: string;
  /** Its own words for "nothing was to be done". */
  readonly idle: (output: string, code: number) => boolean;
}

/** As Debian 12 has them, each told the same state in its own language. */
export const rivals: readonly Rival[] = [
  { name: "puppet apply", packages: ["puppet-agent"], file: "/root/bench.pp", text: asPuppet, command: "puppet apply --detailed-exitcodes /root/bench.pp", idle: (_output, code) => code === 0 },
  { name: "cf-agent (cfengine3)", packages: ["cfengine3"], file: "/root/bench.cf", text: asCfengine, command: "cf-agent -K -I -f /root/bench.cf", idle: (output) => !/error|repaired|installed|created/i.test(output) },
  { name: "ansible-playbook", packages: ["ansible-core"], file: "/root/bench.yml", text: asAnsible, command: "ansible-playbook -i localhost, /root/bench.yml", idle: (output) => /changed=0 /.test(output) && /failed=0/.test(output) },
];

/** Installs a rival, brings the node to the state by it, and makes sure that it finds nothing to do then. Answers why not, or null. */
export async function prepareRival(node: LoneNode, rival: Rival, state: State): Promise<string | null> {
  try {
    await node.lab.mirror(rival.packages);
    await node.sh(`apt-get -q update && DEBIAN_FRONTEND=noninteractive apt-get -y -q install --no-install-recommends ${rival.packages.join(" ")}`);
    await node.lab.writeFile("n1", rival.file, rival.text(state), 0o600);
    await node.lab.shell("n1", rival.command, { timeoutMs: 600_000 });
    const second = await node.lab.shell("n1", rival.command, { timeoutMs: 600_000 });
    return rival.idle(`${second.stdout}${second.stderr}`, second.code) ? null : `does not settle: ${`${second.stdout}${second.stderr}`.trim().slice(-300)}`;
  } catch (error) {
    return error instanceof Error ? error.message.slice(-300) : String(error);
  }
}
