#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# qemu.sh BUILT CLUSTER NAME IMAGES WORDS...: runs QEMU from the root BUILT/qemu, which sees BUILT as
# /srv and the cluster's folder as /mnt. In /mnt/NAME are root.disk and images.disk, which keep what
# changes of BUILT/disk.img and IMAGES; both are made the first time.
set -euo pipefail
built=$1 cluster=$2 name=$3 images=$4
shift 4
[ -n "${HEADRACE_QEMU_INSIDE:-}" ] ||
	HEADRACE_QEMU_INSIDE=1 exec unshare --mount "$0" "$built" "$cluster" "$name" "$images" "$@"
cd "$built/qemu"
mount --rbind /dev dev
mount --bind "$cluster" mnt
mount --bind "$built" srv
mount --bind "${images%/*}" media
disk() {
	[ -e "mnt/$name/$1" ] || chroot . qemu-img create -q -f qcow2 -b "$2" -F raw "/mnt/$name/$1"
}
disk root.disk /srv/disk.img
disk images.disk "/media/${images##*/}"
exec chroot . qemu-system-x86_64 "$@"
