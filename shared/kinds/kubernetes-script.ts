/** What takes a server more than one program to make for another node. It stands on servers, and does nothing by itself. */
export const SCRIPT = "/usr/local/lib/evenkeel/kubernetes";

/**
 * TokenRequest is a part of the API since 1.22 and on by default since 1.20, while `kubectl create token` is one of kubectl's since
 * 1.24 (kubernetes.io, "Configure Service Accounts for Pods"). The token is never an argument: printf is the shell's own.
 */
export const scriptText = `#!/bin/sh
# Kept by evenkeel (section kubernetes). What is written here by hand is overwritten.
#   account NAMESPACE NAME SECONDS SERVER OBJECTS KUBECTL...
#     makes the account out of its objects (JSON), and prints a kubeconfig with a token of it that lasts so long;
#     without SERVER (an empty word), the API is reached as KUBECTL reaches it
set -eu
export LC_ALL=C
[ "$1" = account ] || { echo "usage: $0 account NAMESPACE NAME SECONDS SERVER OBJECTS KUBECTL..." >&2; exit 2; }
namespace=$2 name=$3 seconds=$4 server=$5 objects=$6
shift 6
printf '%s' "$objects" | "$@" --request-timeout=15s apply --server-side --force-conflicts --field-manager=evenkeel --filename=- >&2
request='{"apiVersion":"authentication.k8s.io/v1","kind":"TokenRequest","spec":{"expirationSeconds":'$seconds'}}'
answer=$(printf '%s' "$request" | "$@" --request-timeout=15s create --raw "/api/v1/namespaces/$namespace/serviceaccounts/$name/token" --filename=-)
token=$(printf '%s' "$answer" | sed -n 's/.*"token":[[:space:]]*"\\([^"]*\\)".*/\\1/p')
[ -n "$token" ] || { echo "the API has made no token for the account $name: does it run with --service-account-issuer?" >&2; exit 1; }
cluster() { "$@" config view --raw --minify --flatten "--output=jsonpath={.clusters[0].cluster.$field}"; }
field=certificate-authority-data
ca=$(cluster "$@")
field=server
[ -n "$server" ] || server=$(cluster "$@")
printf '{"apiVersion":"v1","kind":"Config","clusters":[{"name":"kubernetes","cluster":{"server":"%s"' "$server"
[ -z "$ca" ] || printf ',"certificate-authority-data":"%s"' "$ca"
printf '}}],"users":[{"name":"%s","user":{"token":"%s"}}],"contexts":[{"name":"evenkeel","context":{"cluster":"kubernetes","user":"%s"}}],"current-context":"evenkeel"}\\n' "$name" "$token" "$name"
`;
