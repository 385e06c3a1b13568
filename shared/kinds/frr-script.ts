/** What checks and reloads FRR's configuration, as a file on the node: vtysh wants files, and tells passwords. */
export const SCRIPT = "/usr/local/lib/evenkeel/frr";
export const UNIT = "frr.service";
export const CONF = "/etc/frr/frr.conf";
export const RELOADER = "/usr/lib/frr/frr-reload.py";

/** vtysh reads a file, and standard input that is a socket cannot be opened as one. */
export const scriptText = `#!/bin/sh
# Kept by evenkeel (section frr). What is written here by hand is overwritten.
#   check < FILE   would FRR take this configuration?
#   reload         makes FRR run with what its file says
#   restart        the same, also with other daemons, and ends all sessions
set -eu
umask 077
file=$(mktemp /run/evenkeel-frr.XXXXXX)
trap 'rm -f "$file" "$file.said"' EXIT

# What FRR says holds the lines that it does not like, and in them a password.
telling() {
  code=0
  "$@" > "$file.said" 2>&1 || code=$?
  [ "$code" = 0 ] || sed 's/ password .*/ password (secret)/; s/ md5 .*/ md5 (secret)/' "$file.said" >&2
  return "$code"
}

case $1 in
  check)
    cat > "$file"
    telling vtysh -C -f "$file" ;;
  reload)
    # A router that is taken away closes its sessions without a word (8.4), which neighbours take for a restart: they go on sending
    # here for two minutes (RFC 4724). One that says that it shuts down is believed at once.
    vtysh -c 'show running-config' | sed -n 's/^router bgp //p' | while read -r router; do
      grep -qx "router bgp $router" ${CONF} || vtysh -c 'configure terminal' -c "router bgp $router" -c 'bgp shutdown message leaving' >&2 || true
    done
    # It takes things away that went with others, or were replaced by others of their number, and stumbles over it (a neighbour by
    # interface, an entry of a community-list). A second time it finds what is left, which is nothing.
    ${RELOADER} --reload ${CONF} >/dev/null 2>&1 || telling ${RELOADER} --reload ${CONF} ;;
  restart)
    # Its unit may be started three times in three minutes.
    systemctl reset-failed ${UNIT} 2>/dev/null || true
    systemctl restart ${UNIT} ;;
  *) echo "usage: $0 check | reload | restart" >&2; exit 2 ;;
esac
`;
