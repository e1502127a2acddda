#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# sandbox.sh HUGEPAGES: network, mount and pid namespaces that last until standard input closes,
# which it does however its owner ends. Says "ready" when they are there.
#
# All that runs inside ends with them, and all that is written under /run is in memory; so only
# control groups (headrace-cluster-PID-...) and hugepages are left, which are put back here: hugepages
# by the last sandbox of those that share them.
set -euo pipefail

pages=/proc/sys/vm/nr_hugepages
hugetlb=/sys/fs/cgroup/hugetlb
# Locked by every sandbox with hugepages; says how many pages there were before the first of them,
# and whether that one mounted hugetlb.
shared=/run/headrace-cluster.lock

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

# Hugepages are the machine's: sandboxes side by side share them.
share_pages() {
	local mounted=
	exec 9>>$shared
	if flock --exclusive --nonblock 9 && [ ! -s $shared ]; then
		# With control groups of version 1 hugepages have a hierarchy that few systems mount.
		if [ ! -e /sys/fs/cgroup/cgroup.controllers ] && ! mountpoint -q $hugetlb; then
			mkdir -p $hugetlb
			mount -t cgroup -o hugetlb hugetlb $hugetlb
			mounted=yes
		fi
		echo "$(<$pages) $mounted" >$shared
	fi
	flock --shared 9
	if [ "$(<$pages)" -lt "$1" ]; then
		echo "$1" >$pages
		if [ "$(<$pages)" -lt "$1" ]; then
			echo "not enough memory for $1 hugepages of 2 MiB: set HUGEPAGES" >&2
			return 1
		fi
	fi
}

leave_pages() {
	local before mounted
	flock --unlock 9
	flock --exclusive --nonblock 9 || return 0
	# Another that was the last has done it.
	[ -s $shared ] || return 0
	read -r before mounted <$shared
	if [ -n "$mounted" ]; then
		umount $hugetlb
		rmdir $hugetlb
	fi
	echo "$before" >$pages
	: >$shared
}

end() {
	if [ -n "$sandbox" ]; then
		kill -KILL "$sandbox" 2>/dev/null || true
		wait "$sandbox" 2>/dev/null || true
	fi
	for _ in {1..50}; do
		remove_groups && break
		read -rt 0.1 <> <(:) || true
	done
	[ "$hugepages" = 0 ] || leave_pages
}

hugepages=$1
sandbox=
remove_groups || true
trap end EXIT
trap exit TERM INT HUP
[ "$hugepages" = 0 ] || share_pages "$hugepages"
setpriv --pdeathsig KILL \
	unshare --net --mount --pid --fork --kill-child --mount-proc bash -euc '
		mount -t tmpfs -o mode=755 tmpfs /run
		mkdir -p /run/cluster /run/lock /run/netns
		ip link set lo up
		echo ready
		exec env --ignore-signal=CHLD sleep infinity >/dev/null' </dev/null 9>&- &
sandbox=$!
read -r || true
