import { MARKER } from "./keepalived-conf.ts";

/** What takes more than one program: it stands on the node, and does nothing by itself. */
export const SCRIPT = "/usr/local/lib/evenkeel/keepalived";
/** Drops new connections while the addresses are on their way. */
export const TABLE = "inet evenkeel_vip_quiet";

/**
 * `check` reads a configuration and answers as `keepalived -t` does, which takes only a regular file: from a pipe it skips
 * everything and answers 0 (2.2.7). `quiet` and `step-down` are a drain's, `ask` and `state` a gate's: `state` has keepalived write its state, and prints that.
 */
export const scriptText = `#!/bin/sh
# Kept by evenkeel (section keepalived). What is written here by hand is overwritten.
#   check < FILE             would keepalived take this configuration?
#   quiet SECONDS ADDRESS@INTERFACE…      no new connections to these, if they are here; waits for those under way
#   step-down SECONDS ADDRESS@INTERFACE…  gives them up, until ${MARKER} is removed; fails if nobody takes them
#   ask ADDRESS@INTERFACE…                prints those at which somebody else answers
#   state                                 what keepalived says about its instances, as JSON
set -eu
export LC_ALL=C

is_here() { ip -o address show to "$1" | grep -q .; }

# By ping, or else by what every holder of an address answers to: who has it (ARP, neighbour solicitation), which needs no
# route to it and passes a firewall. What was learned while the address was elsewhere is forgotten first.
is_elsewhere() {
  address=\${1%@*} interface=\${1#*@}
  ip neighbour del "$address" dev "$interface" 2>/dev/null || true
  ping -n -q -c 1 -W 1 "$address" >/dev/null 2>&1 && return 0
  ip neighbour replace "$address" dev "$interface" use 2>/dev/null || true
  for round in 1 2 3 4 5 6 7 8 9 10; do
    ip neighbour show to "$address" dev "$interface" | grep -q lladdr && return 0
    sleep 0.1
  done
  return 1
}

quiet_off() {
  ! command -v nft >/dev/null || nft 'add table ${TABLE}; delete table ${TABLE}' 2>/dev/null || true
}

# A quarter of what TCP waits before it asks again (RFC 6298): so long a request that was just let in needs to show up.
tick=0.25

main_pid() { systemctl show --property=MainPID --value keepalived.service; }

do=$1
shift
case $do in
  check)
    umask 077
    file=$(mktemp /run/evenkeel-keepalived.XXXXXX)
    trap 'rm -f "$file" "$file.said"' EXIT
    cat > "$file"
    # With a script of another user than root, the check of 2.2.7 ends itself by SIGTERM, although the daemon takes it.
    for user in $(sed -n 's/^  user //p' "$file"); do
      id -u "$user" >/dev/null 2>&1 || { echo "there is no user $user, as whom a script shall run" >&2; exit 5; }
    done
    sed -i 's/^  user .*/  user root/' "$file"
    code=0
    keepalived -t -f "$file" > "$file.said" 2>&1 || code=$?
    sed "s|$file|keepalived.conf|g; s/auth_pass .*/auth_pass (secret)/" "$file.said" >&2
    exit $code ;;

  quiet)
    rounds=$(($1 * 4)); shift
    rules= held=
    for each in "$@"; do
      address=\${each%@*}
      is_here "$address" || continue
      case $address in *:*) family=ip6 host="[$address]" ;; *) family=ip host=$address ;; esac
      rules="$rules
    $family daddr $address tcp flags syn / fin,syn,rst,ack drop"
      held="$held $host"
    done
    [ -n "$held" ] || exit 0
    quiet_off
    # Before any address is translated: what goes on to a container comes by here as well.
    if ! echo "table ${TABLE} {
  chain arriving {
    type filter hook prerouting priority -300$rules
  }
}" | nft -f -; then
      echo "nft does not take the rule, so requests under way while the addresses move are lost" >&2
      exit 0
    fi
    while [ "$rounds" -gt 0 ]; do
      sleep $tick
      rounds=$((rounds - 1))
      open=
      for host in $held; do open=$open$(ss -Htn state connected exclude time-wait exclude fin-wait-2 src "$host"); done
      [ -n "$open" ] || break
    done ;;

  step-down)
    seconds=$1; shift
    trap quiet_off EXIT
    echo 1 > ${MARKER}
    ends=$(($(cut -d. -f1 /proc/uptime) + seconds))
    while :; do
      left=
      for each in "$@"; do
        if is_here "\${each%@*}"; then left="$left \${each%@*} (still on this node)"
        elif ! is_elsewhere "$each"; then left="$left \${each%@*} (nobody answers)"; fi
      done
      [ -n "$left" ] || exit 0
      [ "$(cut -d. -f1 /proc/uptime)" -lt "$ends" ] || break
      sleep 0.1
    done
    rm -f ${MARKER}
    echo "within $seconds s no other node has taken:$left. This node takes them again. Does keepalived run on the others (evenkeel status), and do they reach this one?" >&2
    exit 1 ;;

  ask)
    for each in "$@"; do
      { ! is_elsewhere "$each" || echo "\${each%@*}"; } &
    done
    wait ;;

  state)
    pid=$(main_pid)
    [ "\${pid:-0}" != 0 ] || { echo "keepalived does not run" >&2; exit 3; }
    exec 9> /run/evenkeel-keepalived.lock
    flock -w 5 9
    rm -f /tmp/keepalived.json
    kill -"$(keepalived --signum=JSON)" "$pid"
    for round in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20; do
      sleep 0.1
      case $(tail -c 2 /tmp/keepalived.json 2>/dev/null) in *']') cat /tmp/keepalived.json; rm -f /tmp/keepalived.json; exit 0 ;; esac
    done
    echo "keepalived did not write its state within 2 s" >&2
    exit 4 ;;

  *) echo "usage: $0 check | quiet | step-down | ask | state (see its first lines)" >&2; exit 2 ;;
esac
`;
