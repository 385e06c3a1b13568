import { editorFiles } from "../../shared/config/artefacts.ts";
import type { DocumentedKind } from "../../shared/config/json-schema.ts";
import type { SigningKey } from "./signing-key.ts";

/** Path → text of all files of a new cluster repository. */
export function newRepository(name: string, signer: string, key: SigningKey, kinds: readonly DocumentedKind[]): ReadonlyMap<string, string> {
  return new Map([
    ["cluster.yaml", clusterYaml(name, signer, key)],
    ["nodes/n1.yaml", nodeYaml],
    ["roles/base.yaml", roleYaml],
    ["files/motd.eta", motd],
    ["README.md", readme(name)],
    ...editorFiles(kinds),
  ]);
}

function clusterYaml(name: string, signer: string, key: SigningKey): string {
  const written = key.type === "ssh" ? `    ssh: ${key.publicKey}` : `    gpg: |\n${key.publicKey.split("\n").map((line) => (line === "" ? "" : `      ${line}`)).join("\n")}`;
  return `# yaml-language-server: $schema=.evenkeel/schema/cluster.json
#
# The cluster as a whole: what it is called, whose commits its nodes follow, and how careful they are.

name: ${name}

# Nodes apply only commits that one of these keys has signed. A change of this list is itself signed by a
# key that was on it before.
signers:
  - name: ${signer}
${written}

# Sets of nodes of which fewer than half may be down at once.
#groups:
#  quorum:
#    members: [n1, n2, n3]

# What the agent does not do without asking; these are the defaults.
#guard:
#  removalsMax: 10   # things that one commit may take away on one node
#  confirmSeconds: 60   # a change of the network is put back unless the node shows within this time that it was not cut off
#  repairsMax: 5     # repairs of one thing in a row, before that is reported instead

# Values for templates; roles and nodes may set them differently.
#vars:
#  contact: ada@example.org
`;
}

const nodeYaml = `# yaml-language-server: $schema=../.evenkeel/schema/node.json
#
# One machine. The file's name is the node's name: rename it to what yours is called, and copy it for the others.

# Where the others reach it: an IP address or a host name.
#address: 192.0.2.11

# Settings that it shares with others, from roles/.
roles: [base]

# What stands here is for this machine only, and wins over its roles. null takes away what a role brings.
#packages:
#  tree: null
`;

const roleYaml = `# yaml-language-server: $schema=../.evenkeel/schema/role.json
#
# What every machine has. Each section is a map; take away the # to use one.

#packages:
#  tree: present
#  nano: absent

files:
  /etc/motd:
    content: {template: motd.eta}   # files/motd.eta, filled in for each node

#services:
#  nginx: running

#sysctl:
#  vm.swappiness: 10

#users:
#  ada:
#    authorizedKeys: ["ssh-ed25519 AAAA… ada@laptop"]
#    sudo: all
`;

const motd = `
  <%= it.node.name %>, of the cluster <%= it.cluster.name %>.
  Kept by Evenkeel: change it in Git, not here.

`;

function readme(name: string): string {
  return `# ${name}

The machines of ${name}, as they shall be. Push a signed commit here, and they become it.

    cluster.yaml       the cluster as a whole
    roles/             settings that machines share
    nodes/             one file for each machine; what stands there wins over its roles
    files/             what the settings refer to; *.eta are templates

Look before you push:

    evenkeel validate          all mistakes, with file, line and what to write instead
    evenkeel render n1         what n1 will be, and which file each value came from
`;
}
