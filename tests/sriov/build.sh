#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Builds what a virtual machine with SR-IOV consists of, once, and prints the folder that holds it:
#   qemu/          a Debian root with QEMU: other releases' igb makes no usable VFs (10.0.2, bookworm's
#                  backport, maps their memory at wrong addresses)
#   disk.img       the machine's disk: kernel, container runtime, sshd; init is /init
#   vmlinuz, initrd
# Needs root, mmdebstrap and mkfs.ext4.
set -euo pipefail

here=$(cd "$(dirname "$0")" && pwd)
suite=trixie
cache=${HEADRACE_CACHE:-$HOME/.cache/headrace}/sriov
target=$cache/$(sha256sum <"$here/build.sh" | cut -c1-8)
node_packages=(
	linux-image-amd64 kmod udev busybox-static xz-utils
	iproute2 iptables nftables conntrack ethtool pciutils procps
	containerd runc containernetworking-plugins openssh-server
)
qemu_packages=(qemu-system-x86 qemu-utils seabios)
say() { printf '%s\n' "$*" >&2; }

[ -d "$target" ] && { echo "$target"; exit; }
mkdir -p "$cache"
exec 9>"$cache/lock"
flock -n 9 || { say "another process builds the machine: waiting for it"; flock 9; }
[ -d "$target" ] && { echo "$target"; exit; }

rm -rf "$cache"/partial.*
work=$(mktemp -d "$cache/partial.XXXXXX")
trap 'rm -rf "$work"' EXIT
say "building a machine with SR-IOV in $target, once: 2 minutes"

# How this machine reaches Debian's archive.
apt-config dump --format '%F "%v";%n' Acquire 2>/dev/null |
	grep -E '^Acquire::(http|https|Check|Retries)' >"$work/apt.conf" || true
for name in doc info locale man; do
	echo "path-exclude=/usr/share/$name/*"
done >"$work/dpkg.cfg"
root() { # VARIANT FOLDER PACKAGES...
	mmdebstrap --quiet --variant="$1" --include="${*:3}" --aptopt="$work/apt.conf" \
		--dpkgopt="$work/dpkg.cfg" "$suite" "$2" >&2
}

say "  QEMU"
root apt "$work/qemu" "${qemu_packages[@]}"
rm -rf "$work"/qemu/var/{cache,lib}/apt

say "  the machine's root (after ${SECONDS} s)"
node=$work/node
root minbase "$node" "${node_packages[@]}"
rm -rf "$node"/var/{cache,lib}/apt "$node"/etc/ssh/ssh_host_*

say "  its initial file system and its disk (after ${SECONDS} s)"
# Debian's own takes longer to unpack than all the rest of an emulated start.
kernel=$(basename "$node"/lib/modules/*)
first=$node/tmp/first
mkdir -p "$first"/{bin,dev,modules,root}
cp "$node/usr/bin/busybox" "$first/bin/"
ln -s busybox "$first/bin/sh"
number=10
for module in virtio_pci virtio_blk ext4; do
	chroot "$node" modprobe --set-version "$kernel" --show-depends "$module"
done | awk '$1 == "insmod" && !seen[$2]++ {print $2}' | while read -r file; do
	number=$((number + 1))
	chroot "$node" xz -dc "$file" >"$first/modules/$number-$(basename "$file" .xz)"
done
cat >"$first/init" <<'INIT'
#!/bin/sh
busybox mount -t devtmpfs dev /dev
for module in /modules/*; do busybox insmod "$module"; done
while ! busybox mount -t ext4 /dev/vda /root; do busybox usleep 10000; done
busybox mount --move /dev /root/dev
exec busybox switch_root /root /init
INIT
chmod +x "$first/init"
chroot "$node" sh -c 'cd /tmp/first && find . | cpio --quiet -o -H newc' >"$work/initrd"
mv "$node/boot/vmlinuz-$kernel" "$work/vmlinuz"
rm -rf "$first" "$node"/boot/*
# What the machine is to do is on its second disk.
mkdir "$node/node"
printf '#!/bin/bash\nmount /dev/vdb /node\nexec /node/init\n' >"$node/init"
chmod +x "$node/init"
truncate -s 8G "$work/disk.img"
mkfs.ext4 -q -d "$node" "$work/disk.img"

rm -rf "$node" "$work/apt.conf" "$work/dpkg.cfg"
chmod 755 "$work"
mv "$work" "$target"
say "built in ${SECONDS} s"
echo "$target"
