#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Process 1 of the machine, /node/init: starts what systemd would on a node, and keeps it running.
# What it and the services say goes to a log of their own, by a virtual serial port: the console, which
# is the kernel's, is slow.
export PATH=/node/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t tmpfs -o mode=755 tmpfs /run
mount -t tmpfs tmpfs /tmp
modprobe virtio_console
until log=$(compgen -G '/dev/vport*p1'); do sleep 0.1; done
exec >"$log" 2>&1 </dev/null
say() { echo "init: $* after $(cut -d' ' -f1 /proc/uptime) s"; }
say "started"

mkdir -p /dev/{pts,shm,hugepages} /run/{lock,sshd,containerd} /var/lib/containerd /var/log
mount -t devpts devpts /dev/pts
mount -t tmpfs tmpfs /dev/shm
mount -t hugetlbfs hugetlbfs /dev/hugepages
mount -t cgroup2 cgroup2 /sys/fs/cgroup
mount /dev/vdc /var/lib/containerd
mount --make-rshared /
# NAME, ADDRESS, GATEWAY, and PAGES: hugepages of 2 MiB on each NUMA node.
. /node/settings
hostname "$NAME"
[ -s /etc/machine-id ] || tr -d - </proc/sys/kernel/random/uuid >/etc/machine-id
for file in /sys/devices/system/node/node*/hugepages/hugepages-2048kB/nr_hugepages; do
	echo "$PAGES" >"$file"
done
sysctl -qw net.ipv4.ip_forward=1 fs.inotify.max_user_instances=8192

# Drivers come by udev, as they do for VFs later; vfio-pci is what modules-load.d is for.
/usr/lib/systemd/systemd-udevd --daemon
udevadm trigger --action=add --subsystem-match=pci --subsystem-match=virtio
modprobe -a overlay br_netfilter vfio-pci tun
udevadm settle
say "has devices"
device=$(basename /sys/bus/virtio/drivers/virtio_net/virtio*/net/*)
ip link set lo up
ip address add "$ADDRESS/24" dev "$device"
ip link set "$device" up
ip route add default via "$GATEWAY"

# The first time: later the disk has them, and others may have changed them.
if [ ! -d /var/cni ]; then
	mkdir -p /var/cni/{bin,net.d}
	ln -s /usr/lib/cni/* /var/cni/bin/
	cp /node/pods.conflist /var/cni/net.d/10-pods.conflist
fi

service() {
	while :; do
		"$@"
		echo "init: $1 ended with status $?"
		sleep 1
	done
}
# What systemd gives to its services: a container gets no more.
ulimit -l 8192 -n 524288
# Threads of Go that look for work cost an emulated processor more than they bring.
export GOMAXPROCS=1 GOGC=400
service /usr/sbin/sshd -D -e -f /node/sshd_config &
service containerd --config /node/containerd.toml &
until [ -S /run/containerd/containerd.sock ]; do sleep 0.1; done
say "has containerd"
# A NUMA node has more memory or less with each start, by where the kernel has put itself, and a kubelet
# with a static memory manager does not start where it is not what it was.
rm -f /var/lib/kubelet/memory_manager_state
mapfile -t words </node/kubelet.words
service "${words[@]}" &
mapfile -t words </node/kube-proxy.words
service "${words[@]}" &
say "runs"
while :; do wait; done
