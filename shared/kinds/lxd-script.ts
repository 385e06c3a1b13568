/**
 * What takes more than one program: it stands on the node, and does nothing by itself. Seen with LXD 5.0.2: the client fails
 * when the member is in the wanted state already, and an evacuation now and then by a race of the daemon's own ("Instance is
 * busy running a \"stop\" operation"), while the same again succeeds.
 */
export const SCRIPT = "/usr/local/lib/evenkeel/lxd";

export const scriptText = `#!/bin/sh
# Kept by evenkeel (section lxd). What is written here by hand is overwritten.
#   evacuate CLIENT MEMBER   moves its instances to other members, if that is not done
#   restore CLIENT MEMBER    takes them back, if that is not done
set -u
export LC_ALL=C
do=$1 client=$2 member=$3
for round in 1 2 3; do
  said=$("$client" cluster "$do" "$member" --force --quiet 2>&1) && exit 0
  case $said in *"is already evacuated"* | *"is already restored"*) exit 0 ;; esac
  sleep 2
done
printf '%s\\n' "$said" >&2
exit 1
`;
