#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# sandbox.sh HUGEPAGES: network, mount and pid namespaces that last until standard input closes,
# which it does however its owner ends. Says "ready" when they are there.
#
# All that runs inside ends with them, and all that is written under /run is in memory; so only
# control groups (headrace-cluster-PID-...) and hugepages are left, which are put back here.
set -euo pipefail

pages=/proc/sys/vm/nr_hugepages
pages_before=$(<$pages)
hugetlb=/sys/fs/cgroup/hugetlb
mounted=

groups() { find /sys/fs/cgroup -mindepth 1 -maxdepth 2 -type d -name 'headrace-cluster-*'; }

# Of this sandbox, and of those that were killed before they could.
remove_groups() {
	local group pid
	for group in $(groups); do
		pid=${group##*headrace-cluster-}
		pid=${pid%%-*}
		[ "$pid" != $$ ] && [ -d "/proc/$pid" ] && continue
		find "$group" -depth -type d -exec rmdir {} + 2>/dev/null || return
	done
}

end() {
	kill -KILL "$sandbox" 2>/dev/null || true
	wait "$sandbox" 2>/dev/null || true
	for _ in {1..50}; do
		remove_groups && break
		read -rt 0.1 <> <(:) || true
	done
	# Another cluster may have come to rely on them.
	[ -z "$(groups)" ] || return 0
	if [ -n "$mounted" ]; then
		umount $hugetlb
		rmdir $hugetlb
	fi
	[ "$(<$pages)" = "$pages_before" ] || echo "$pages_before" >$pages
}

remove_groups || true
if [ "$pages_before" -lt "$1" ]; then
	echo "$1" >$pages
	if [ "$(<$pages)" -lt "$1" ]; then
		echo "$pages_before" >$pages
		echo "not enough memory for $1 hugepages of 2 MiB: set HUGEPAGES" >&2
		exit 1
	fi
fi
# With control groups of version 1 hugepages have a hierarchy that few systems mount.
if [ "$1" -gt 0 ] && [ ! -e /sys/fs/cgroup/cgroup.controllers ] && ! mountpoint -q $hugetlb; then
	mkdir -p $hugetlb
	mount -t cgroup -o hugetlb hugetlb $hugetlb
	mounted=1
fi

trap end EXIT
trap exit TERM INT HUP
setpriv --pdeathsig KILL \
	unshare --net --mount --pid --fork --kill-child --mount-proc bash -euc '
		mount -t tmpfs -o mode=755 tmpfs /run
		mkdir -p /run/cluster /run/lock /run/netns
		ip link set lo up
		echo ready
		exec env --ignore-signal=CHLD sleep infinity >/dev/null' </dev/null &
sandbox=$!
read -r || true
