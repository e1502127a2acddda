#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Builds the images: ghcr.io/headrace/NAME:TAG for the names operator, dataplane, connectivity and
# toolbox, each as OUT/NAME.tar (docker-archive: `ctr -n k8s.io images import` and `docker load` read it).
#
#   BASE      image to build on (default: docker.io/library/debian:trixie-slim; a digest pins it),
#             or mmdebstrap:SUITE: no registry needed, the base is made from Debian's archive
#   TAG       default: the version in pyproject.toml
#   REGISTRY  default: ghcr.io/headrace
#   OUT       default: build/images
#   BUILDER   buildah (default), podman or docker
#
# Nothing changed: nothing is done. Layers are kept in $HEADRACE_CACHE/images (default:
# ~/.cache/headrace/images; docker and podman keep them themselves): remove it to build all anew,
# with Debian's latest updates.
set -euo pipefail
cd "$(dirname "$0")/../.."

BASE=${BASE:-docker.io/library/debian:trixie-slim}
TAG=${TAG:-$(sed -nE 's/^version = "(.*)"/\1/p' pyproject.toml)}
REGISTRY=${REGISTRY:-ghcr.io/headrace}
OUT=$(realpath -m "${OUT:-build/images}")
BUILDER=${BUILDER:-buildah}
cache=${HEADRACE_CACHE:-$HOME/.cache/headrace}/images
images=deploy/images
names=(operator dataplane connectivity toolbox)
inputs=(LICENSE README.md pyproject.toml crds common operator dataplane cli deploy/lock "$images")

say() { printf '\033[1m==> %s\033[0m\n' "$*"; }
die() { echo "build.sh: $*" >&2; exit 1; }

# One build at a time: the layers are shared, and who waited may find everything built.
mkdir -p "$cache" "$OUT"
exec 9>"$cache/lock"
flock 9

revision=$(git rev-parse HEAD 2>/dev/null || echo unknown)
[ -z "$(git status --porcelain -- "${inputs[@]}" 2>/dev/null)" ] || revision+=-modified
state=$({
	echo "$BASE" "$TAG" "$REGISTRY" "$revision"
	find "${inputs[@]}" -type f -not -path '*/__pycache__/*' -print0 | sort -z | xargs -0 sha256sum
} | sha256sum)
if [ "$(cd "$OUT" 2>/dev/null && ls "${names[@]/%/.tar}" 2>/dev/null | wc -l)" = ${#names[@]} ] &&
	[ "$(cat "$OUT/inputs" 2>/dev/null)" = "$state" ]; then
	say "images: nothing changed"
	exit
fi

command -v "$BUILDER" >/dev/null || die "no $BUILDER here: install it, or set BUILDER=docker|podman"
if [ "$BUILDER" = buildah ] && [ "$(id -u)" = 0 ] && [ -z "${HEADRACE_IMAGES_INSIDE:-}" ]; then
	# In a mount namespace that ends with us: a build that fails leaves its file systems mounted.
	HEADRACE_IMAGES_INSIDE=1 exec unshare --mount "$images/build.sh"
fi
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

case $BUILDER in
buildah) engine=(buildah --root "$cache/layers" --runroot "$work/run") ;;
*) engine=("$BUILDER") ;;
esac
cp "$images/Containerfile.dockerignore" "$work"
options=(--file "$work/Containerfile")
# chroot: no network namespace, no cgroup, so that it works inside a container, too.
[ "$BUILDER" = docker ] || options+=(--isolation chroot --layers
	--ignorefile "$images/Containerfile.dockerignore")
label=org.opencontainers.image
options+=(--label "$label.source=https://github.com/headrace/headrace"
	--label "$label.licenses=Apache-2.0"
	--label "$label.version=$TAG" --label "$label.revision=$revision")
for name in http_proxy https_proxy no_proxy HTTP_PROXY HTTPS_PROXY NO_PROXY; do
	[ -z "${!name:-}" ] || options+=(--build-arg "$name")
done

# How this machine reaches Debian's archive and PyPI, for the build alone.
ca=${SSL_CERT_FILE:-/etc/ssl/certs/ca-certificates.crt}
apt-config dump --format '%F "%v";%n' Acquire 2>/dev/null |
	grep -E '^Acquire::(http|Check|Retries)' >"$work/apt.conf" || true
{
	echo '[global]'
	[ ! -f "$ca" ] || echo 'cert = /run/secrets/ca.pem'
	python=.venv/bin/python
	[ -x $python ] || python=python3
	$python -m pip config list 2>/dev/null |
		sed -nE "s/\\\\n/ /g; s/^(global|:env:)\.((extra-)?index-url|trusted-host|proxy|retries)='(.*)'$/\2 = \4/p" |
		awk -F ' = ' '{ last[$1] = $0 } END { for (name in last) print last[name] }'
} >"$work/pip.conf"

if [ "${BASE#mmdebstrap:}" != "$BASE" ]; then
	suite=${BASE#mmdebstrap:}
	BASE=localhost/headrace-base:$suite
	if ! "${engine[@]}" inspect --type image "$BASE" >/dev/null 2>&1; then
		say "base: Debian $suite from its archive"
		command -v mmdebstrap >/dev/null || die "no mmdebstrap here: install it, or set BASE to an image"
		for name in doc info locale man; do
			echo "path-exclude=/usr/share/$name/*"
		done >"$work/dpkg.cfg"
		mmdebstrap --quiet --variant=minbase --aptopt="$work/apt.conf" \
			--dpkgopt="$work/dpkg.cfg" \
			--customize-hook='cd "$1/etc" && rm apt/apt.conf.d/99mmdebstrap' \
			--customize-hook='cd "$1/etc" && rm -f hostname resolv.conf' \
			"$suite" "$work/root.tar"
		printf 'FROM scratch\nADD root.tar /\nCMD ["bash"]\n' >"$work/base"
		"${engine[@]}" build --file "$work/base" --tag "$BASE" "$work" >/dev/null
	fi
fi
options+=(--build-arg "BASE=$BASE")

[ ! -f "$ca" ] || echo 'Acquire::https::CAInfo "/run/secrets/ca.pem";' >>"$work/apt.conf"
[ ! -f "$ca" ] || options+=(--secret "id=ca.pem,src=$ca")
options+=(--secret "id=apt.conf,src=$work/apt.conf" --secret "id=pip.conf,src=$work/pip.conf")

for name in "${names[@]}"; do
	image=$REGISTRY/$name:$TAG
	say "$image on $BASE"
	# A stage of its own, the last: of others whose layers are kept, buildah keeps the old labels, too.
	{ cat "$images/Containerfile"; echo "FROM $name"; } >"$work/Containerfile"
	if ! "${engine[@]}" build "${options[@]}" --label "$label.title=Headrace $name" \
		--tag "$image" . 2>&1 |
		tee "$OUT/$name.log" | sed -unE '/^\[[0-9]+\/[0-9]+\] STEP|^#[0-9]+ \[/s/^(.{,98}).*/\1/p'; then
		tail -n 30 "$OUT/$name.log" >&2
		[ "$BUILDER" != buildah ] || "${engine[@]}" rm --all >/dev/null
		die "$image is not built; all of it: $OUT/$name.log"
	fi
	rm -f "$OUT/$name.tar"
	if [ "$BUILDER" = docker ]; then
		docker save --output "$OUT/$name.tar" "$image"
	else
		"${engine[@]}" push --quiet "$image" "docker-archive:$OUT/$name.tar:$image"
	fi
	say "$OUT/$name.tar: $(du -h --apparent-size "$OUT/$name.tar" | cut -f1)"
done
echo "$state" >"$OUT/inputs"
