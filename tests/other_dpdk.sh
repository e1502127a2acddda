#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Builds the engine on another Debian release, with the DPDK and the compiler that it has, and runs
# the engine's own tests there. Needs root and mmdebstrap (make setup-cluster).
#
#   tests/other_dpdk.sh SUITE...      such as trixie, sid
#
# The release's root stays in $HEADRACE_CACHE/dpdk-SUITE (default: ~/.cache/headrace): remove it to
# have it made anew.
set -euo pipefail
cd "$(dirname "$0")/.."

cache=${HEADRACE_CACHE:-$HOME/.cache/headrace}
packages=gcc,iproute2,libc6-dev,libdpdk-dev,libjansson-dev,libpcap-dev,meson,ninja-build,pkg-config

say() { printf '\033[1m==> %s\033[0m\n' "$*"; }

if [ -z "${HEADRACE_DPDK_INSIDE:-}" ]; then
	# In a mount namespace that ends with us: nothing stays mounted.
	HEADRACE_DPDK_INSIDE=1 exec unshare --mount "$0" "$@"
fi
for suite in "$@"; do
	root=$cache/dpdk-$suite
	if [ ! -d "$root" ]; then
		say "Debian $suite"
		work=$(mktemp -d)
		# How this machine reaches Debian's archive.
		apt-config dump --format '%F "%v";%n' Acquire |
			grep -E '^Acquire::(http|https|Retries)' >"$work/apt.conf" || true
		mkdir -p "$cache"
		mmdebstrap --quiet --variant=minbase --include="$packages" --aptopt="$work/apt.conf" \
			--aptopt='Acquire::Check-Valid-Until "false"' "$suite" "$work/root"
		mv "$work/root" "$root"
		rm -r "$work"
	fi
	rm -rf "$root/src"
	mkdir "$root/src"
	git ls-files -z dataplane/engine | xargs -0 tar -c | tar -x -C "$root/src"
	for folder in dev proc sys; do
		mount --rbind "/$folder" "$root/$folder"
	done
	unshare --net chroot "$root" sh -euc '
		printf "\033[1m==> DPDK %s, %s\033[0m\n" "$(pkg-config --modversion libdpdk)" "$(gcc --version | head -1)"
		cd /src
		[ -d /build ] || meson setup /build dataplane/engine >/dev/null
		ninja --quiet -C /build
		meson test -C /build --no-rebuild --print-errorlogs'
done
