#!/bin/sh
# Builds a Kubernetes API server, controller manager and kubectl out of Debian's source package, into the directory $1. Takes
# 6 to 9 minutes on two idle cores, and the rest of them when they are busy; once. Needs root for the build's own packages.
set -eu
target=$1
[ -e "$target/kube-apiserver" ] && exit 0
work="$target.building"
mkdir -p "$work/lists/partial"
cd "$work"
export DEBIAN_FRONTEND=noninteractive
missing=
for pair in go:golang-go rsync:rsync make:make patch:patch; do
  command -v "${pair%%:*}" >/dev/null 2>&1 || missing="$missing ${pair##*:}"
done
[ -d /usr/share/gocode/src/github.com/modern-go/reflect2 ] || missing="$missing golang-github-modern-go-reflect2-dev"
[ -z "$missing" ] || apt-get -q -y -o DPkg::Lock::Timeout=600 install --no-install-recommends $missing
# etcd as Debian has it, unpacked and not installed: installed, it would start as a service.
apt-get -q -o APT::Sandbox::User=root download etcd-server
dpkg-deb --extract etcd-server_*.deb etcd
# Sources are in no list of a usual machine: one of our own, beside the machine's.
keyring=/usr/share/keyrings/debian-archive-keyring.gpg
echo "deb-src [signed-by=$keyring] http://deb.debian.org/debian bookworm main" >sources.list
apt() { apt-get -q -o Dir::Etc::sourcelist="$work/sources.list" -o Dir::Etc::sourceparts=/dev/null -o Dir::State::lists="$work/lists" -o APT::Sandbox::User=root "$@"; }
apt update
rm -rf kubernetes-*
apt source --download-only kubernetes
tar xzf kubernetes_*.orig.tar.gz
cd kubernetes-*/
tar xJf ../kubernetes_*.debian.tar.xz
while read -r patch; do patch -p1 -s <"debian/patches/$patch"; done <debian/patches/series
# The vendored reflect2 does not run with this Go.
rm -rf vendor/github.com/modern-go/reflect2
cp -rL /usr/share/gocode/src/github.com/modern-go/reflect2 vendor/github.com/modern-go/reflect2
rm -rf _output
GOCACHE="$work/go-cache" make WHAT="cmd/kube-apiserver cmd/kube-controller-manager cmd/kubectl"
mkdir -p "$work/ready"
cp "$work/etcd/usr/bin/etcd" "$work/ready"
cp _output/local/bin/linux/*/kube-apiserver _output/local/bin/linux/*/kube-controller-manager _output/local/bin/linux/*/kubectl "$work/ready"
mv "$work/ready" "$target"
cd /
rm -rf "$work"
