#!/bin/sh
# keep-node.sh DIRECTORY KEEPER_CGROUP NODE_CGROUP LINK BRIDGE NSPAWN_ARGV...
#
# Runs one node, again after each reboot, until it is powered off or crashes. A shell of 1 MB, detached from the process
# that started the lab, because nodes must live on (and come back from a reboot) when `npm run lab -- up` has returned.
# Its cgroups are made by the lab: if `down` took them away in the meantime, it ends at once.
directory=$1 keeper_cgroup=$2 node_cgroup=$3 link=$4 bridge=$5
shift 5
echo $$ >"$keeper_cgroup/cgroup.procs" || exit 1
export SYSTEMD_NSPAWN_API_VFS_WRITABLE=1 SYSTEMD_NSPAWN_UNIFIED_HIERARCHY=1

while :; do
  # PID 1 looks for udev's control socket when it starts: seeing one, it believes in udev, and .device units work.
  rm -rf "$directory/udev"
  mkdir "$directory/udev"
  : >"$directory/udev/control"

  sh -c 'echo $$ >"$0/cgroup.procs" || exit 1; exec "$@"' "$node_cgroup" "$@" >>"$directory/console.log" 2>&1 &
  nspawn=$!

  # nspawn makes the link down and in no bridge. So a node that reboots while unplugged or isolated stays so.
  until [ -e "/sys/class/net/$link" ] || ! kill -0 $nspawn 2>/dev/null; do sleep 0.01; done
  [ -e "$directory/isolated" ] || ip link set "$link" master "$bridge"
  [ -e "$directory/unplugged" ] || ip link set "$link" up

  wait $nspawn
  code=$?
  # 133: "systemctl reboot" inside. 0: powered off. Anything else: crashed. (Seen with systemd 252.)
  [ $code = 133 ] || exit 0
done
