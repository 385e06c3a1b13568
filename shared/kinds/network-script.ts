/** What takes more than one program: it stands on the node, and does nothing by itself. */
export const SCRIPT = "/usr/local/lib/evenkeel/network";

/** networkd answers a reload before it has done anything; so long it may take until addresses and devices are there. */
export const LOAD_SECONDS = 20;

/**
 * `load` has networkd (or netplan) read its files, and waits until they have taken effect: what comes after finds its
 * addresses. What was made by hand on top of networkd's work does not go by itself, because KeepConfiguration=static keeps
 * what others add: so what the section had made before is named, and taken away here.
 */
export const scriptText = `#!/bin/sh
# Kept by evenkeel (section network). What is written here by hand is overwritten.
#   load SECONDS WORD…     networkd reads its files, and it is waited until they have taken effect
#     netplan                                    netplan makes networkd's files first
#     drop=IF=ADDRESS  unroute=IF=NETWORK[=ROUTER]  delete=DEVICE  release=IF=MASTER   taken away before
#     again=IF  set=BRIDGE=SETTING=VALUE         gone through anew, told to the kernel
#     device=DEVICE  address=IF=ADDRESS  route=IF=NETWORK[=ROUTER]  mtu=IF=BYTES  master=IF=MASTER    waited for
#   check-netplan < FILE   would netplan take this as /etc/netplan/60-evenkeel.yaml?
set -u
export LC_ALL=C

exists() { [ -e "/sys/class/net/$1" ]; }
master() { basename "$(readlink "/sys/class/net/$1/master")" 2>/dev/null; }
carrier() { [ "$(cat "/sys/class/net/$1/carrier" 2>/dev/null)" = 1 ]; }
uptime() { cut -d. -f1 /proc/uptime; }
family() { case $1 in *:*) echo -6 ;; *) echo -4 ;; esac; }

# Says what is still missing, a line each. A link without a cable gets no address, and is not waited for longer than 5 s.
missing() {
  for word in "$@"; do
    rest=\${word#*=} name=\${rest%%=*}; rest=\${rest#*=}
    case $word in
      device=*) exists "$name" || echo "$name was not made" ;;
      address=*)
        carrier "$name" || [ "$waited" -lt 5 ] || continue
        ip -o address show dev "$name" to "\${rest%/*}" 2>/dev/null | grep -F " $rest " | { ! carrier "$name" && cat || grep -v tentative; } | grep -q . || echo "$rest is not on $name" ;;
      route=*)
        carrier "$name" || [ "$waited" -lt 5 ] || continue
        to=\${rest%%=*}
        ip "$(family "$to")" route show "$to" dev "$name" 2>/dev/null | { case $rest in *=*) grep -F "via \${rest#*=} " ;; *) cat ;; esac; } | grep -q . || echo "the route to $to is not on $name" ;;
      mtu=*) [ "$(cat "/sys/class/net/$name/mtu" 2>/dev/null)" = "$rest" ] || echo "the MTU of $name is not $rest" ;;
      master=*) [ "$(master "$name")" = "$rest" ] || echo "$name is not part of $rest" ;;
      release=*) [ "$(master "$name")" != "$rest" ] || echo "$name is still part of $rest" ;;
    esac
  done
}

do=\${1:-}
[ $# -eq 0 ] || shift
case $do in
  load)
    seconds=$1; shift
    reload="networkctl reload"
    for word in "$@"; do
      rest=\${word#*=} name=\${rest%%=*}; rest=\${rest#*=}
      case $word in
        netplan) reload="netplan apply" ;;
        drop=*) ip address delete "$rest" dev "$name" 2>/dev/null ;;
        unroute=*) case $rest in *=*) ip "$(family "$rest")" route delete "\${rest%%=*}" via "\${rest#*=}" dev "$name" ;; *) ip "$(family "$rest")" route delete "$rest" dev "$name" ;; esac 2>/dev/null ;;
        delete=*) if exists "$name"; then networkctl delete "$name" || ip link delete "$name"; fi ;;
        release=*) if [ "$(master "$name")" = "$rest" ]; then ip link set dev "$name" nomaster; fi ;;
        set=*) ip link set dev "$name" type bridge "\${rest%%=*}" "\${rest#*=}" || exit 1 ;;
      esac
    done
    $reload || exit 1
    for word in "$@"; do
      case $word in again=*) if exists "\${word#*=}"; then networkctl reconfigure "\${word#*=}" || exit 1; fi ;; esac
    done
    began=$(uptime) waited=0 restarted=
    while :; do
      left=$(missing "$@")
      [ -n "$left" ] || exit 0
      waited=$(($(uptime) - began))
      [ "$waited" -lt "$seconds" ] || break
      # networkd 252 does not put a link back into a bridge that was made anew until it starts anew itself.
      if [ -z "$restarted" ] && [ "$waited" -ge $((seconds / 2)) ]; then restarted=1; systemctl restart systemd-networkd.service; fi
      sleep 0.2
    done
    echo "$left" >&2
    for name in $(echo "$@" | tr ' ' '\\n' | sed -n 's/^[a-z]*=\\([^=]*\\).*/\\1/p' | sort -u); do
      journalctl -q --no-pager -o cat -u systemd-networkd.service -n 50 2>/dev/null | grep "^$name:" | tail -n 1 >&2
    done
    exit 1 ;;

  check-netplan)
    root=$(mktemp -d /run/evenkeel-netplan.XXXXXX) || exit 1
    trap 'rm -rf "$root"' EXIT
    umask 077
    mkdir -p "$root/etc/netplan"
    cp /etc/netplan/*.yaml "$root/etc/netplan/" 2>/dev/null
    for gone in "$@"; do rm -f "$root$gone"; done
    cat > "$root/etc/netplan/60-evenkeel.yaml" || exit 1
    netplan generate --root-dir "$root" 2>"$root/said"
    code=$?
    sed "s|$root||g" "$root/said" >&2
    exit $code ;;

  *) echo "usage: $0 load SECONDS WORD… | check-netplan" >&2; exit 2 ;;
esac
`;
