/**
 * What the cluster's own programs need, by the words of `allow`. Ports and protocols as the programs' own pages give them:
 * VRRP RFC 9568, BGP RFC 4271, BFD RFC 5881 and 5883, OSPF RFC 2328, VXLAN RFC 7348; the rest from their manuals.
 */

export interface Service {
  /** Statements of nftables that match it, without a source. */
  readonly matches: readonly string[];
  /** Who may, where the section does not say. */
  readonly from: "any" | "nodes" | "none";
  /** Neighbours speak it from link-local addresses, which no list of nodes holds. */
  readonly linkLocal?: readonly string[];
  /** Interfaces that containers and pods are behind: from there everything is accepted, because names and addresses come from this node. */
  readonly guests?: readonly string[];
  /** For people. */
  readonly about: string;
}

const tcp = (...ports: readonly string[]): string => `tcp dport { ${ports.join(", ")} }`;
const udp = (...ports: readonly string[]): string => `udp dport { ${ports.join(", ")} }`;

/** `ssh` and `hub` have ports of the section's; see firewall-rules.ts. */
export const SERVICES = {
  ssh: { from: "any", matches: [], about: "SSH, on `sshPorts`" },
  ping: { from: "any", matches: ["icmp type echo-request", "icmpv6 type echo-request"], about: "ping" },
  hub: { from: "any", matches: [], about: "the hub, on `hubPorts`, on the node that it runs on" },
  vrrp: { from: "nodes", matches: ["meta l4proto vrrp"], linkLocal: ["meta l4proto vrrp"], about: "VRRP (keepalived, FRR)" },
  bgp: { from: "nodes", matches: [tcp("179")], linkLocal: [tcp("179")], about: "BGP" },
  bfd: { from: "nodes", matches: [udp("3784", "3785", "4784")], linkLocal: [udp("3784", "3785")], about: "BFD" },
  ospf: { from: "nodes", matches: ["meta l4proto 89"], linkLocal: ["meta l4proto 89"], about: "OSPF" },
  vxlan: { from: "nodes", matches: [udp("4789", "8472")], about: "VXLAN" },
  wireguard: { from: "any", matches: [udp("51820", "51821")], about: "WireGuard" },
  lxd: { from: "nodes", matches: [tcp("8443")], guests: ["lxdbr*", "incusbr*", "lxdfan*"], about: "LXD and Incus: API and cluster, and their bridges" },
  ovn: { from: "nodes", matches: [tcp("6640-6645"), udp("6081")], about: "OVN and Geneve" },
  kubernetes: {
    from: "nodes",
    matches: [tcp("6443", "16443", "9345", "10250", "10255", "10257", "10259", "25000", "5473", "4240"), udp("8472", "4789", "51820", "51821")],
    guests: ["cni*", "flannel*", "cali*", "vxlan.calico", "cilium*", "lxc*", "kube-bridge"],
    about: "Kubernetes, k3s and microk8s between nodes, and their pods",
  },
  etcd: { from: "nodes", matches: [tcp("2379-2380", "12379")], about: "etcd" },
  ceph: { from: "nodes", matches: [tcp("3300", "6789", "6800-7568")], about: "Ceph" },
  glusterfs: { from: "nodes", matches: [tcp("24007-24008", "49152-60999")], about: "GlusterFS" },
  corosync: { from: "nodes", matches: [udp("5404-5412"), tcp("2224", "3121", "5403", "21064")], about: "Pacemaker, corosync and DLM" },
  nodeports: { from: "none", matches: [tcp("30000-32767"), udp("30000-32767")], about: "Kubernetes' node ports" },
  http: { from: "none", matches: [tcp("80", "443"), udp("443")], about: "HTTP and HTTPS" },
  dns: { from: "none", matches: [tcp("53"), udp("53")], about: "DNS" },
  dhcp: { from: "none", matches: [udp("67", "547")], about: "a DHCP server on this node" },
  ntp: { from: "none", matches: [udp("123")], about: "a time server on this node" },
  nfs: { from: "none", matches: [tcp("111", "2049", "20048"), udp("111", "2049", "20048")], about: "NFS" },
  mdns: { from: "none", matches: [udp("5353")], about: "mDNS" },
} as const satisfies Readonly<Record<string, Service>>;

export type ServiceName = keyof typeof SERVICES;
export const SERVICE_NAMES = Object.keys(SERVICES) as readonly ServiceName[];
