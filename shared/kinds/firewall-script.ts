/** What takes more than one program: it stands on the node, runs at boot, and does nothing else by itself. */
export const SCRIPT = "/usr/local/lib/evenkeel/firewall";
export const RULES = "/etc/nftables.d/60-evenkeel.nft";
export const UNIT = "evenkeel-firewall.service";
export const UNIT_PATH = `/etc/systemd/system/${UNIT}`;
export const ENABLED = `/etc/systemd/system/sysinit.target.wants/${UNIT}`;
/** What was put in place last, and what the kernel made of it: whatever is different later was changed by somebody else. */
export const LOADED = "/run/evenkeel-firewall/loaded";
export const LISTING = "/run/evenkeel-firewall/listing";
export const LIST_ARGV = ["nft", "-s", "list", "table", "inet", "evenkeel"] as const;

export const scriptText = `#!/bin/sh
# Kept by evenkeel (section firewall). What is written here by hand is overwritten.
#   load   puts the table of ${RULES} in place, and notes what the kernel made of it
#   back   the same if there is such a file, else takes the table away
set -eu
export LC_ALL=C PATH=/usr/sbin:/usr/bin:/sbin:/bin
umask 077

case \${1:-} in
  load) ;;
  back)
    if ! [ -e ${RULES} ]; then
      nft 'table inet evenkeel; delete table inet evenkeel'
      rm -rf /run/evenkeel-firewall
      exit 0
    fi ;;
  *) echo "usage: $0 load | back" >&2; exit 2 ;;
esac
mkdir -p /run/evenkeel-firewall
cat ${RULES} > ${LOADED}.new
nft -f ${LOADED}.new
${LIST_ARGV.join(" ")} > ${LISTING}.new
mv ${LISTING}.new ${LISTING}
mv ${LOADED}.new ${LOADED}
`;

/** Before any interface is up; after Debian's own nftables.service, which begins with throwing everything away. */
export const unitText = `# Kept by evenkeel (section firewall).
[Unit]
Description=Firewall of this node, kept by evenkeel
DefaultDependencies=no
Wants=network-pre.target
Before=network-pre.target shutdown.target
After=local-fs.target evenkeel-putback.service nftables.service
Conflicts=shutdown.target
ConditionPathExists=${RULES}

[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart=${SCRIPT} load
ExecReload=${SCRIPT} load

[Install]
WantedBy=sysinit.target
`;
