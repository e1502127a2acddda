# SPDX-License-Identifier: Apache-2.0
"""Makes VFs of the one NIC that can have some: runs in a machine, with the dataplane's image.

Its argument is JSON: how many VFs there are to be, and of those that are given to DPDK the MAC
addresses. Says, as JSON, what came of it.
"""

import json
import sys

from headrace_api.device_policy import VfDriver
from headrace_dataplane.node import pci
from headrace_dataplane.node.netlink import KernelNetlink
from headrace_dataplane.node.sriov.apply import Reconciler
from headrace_dataplane.node.sriov.desired import VF, VFRange, Wish, merge
from headrace_dataplane.node.sriov.observed import FileSysfs, identities
from headrace_dataplane.node.users import VFIOHolders

asked = json.loads(sys.argv[1])
sysfs = FileSysfs()
netlink = KernelNetlink()
(address,) = (
    each.address for each in identities(sysfs, netlink) if pci.total_vfs(sysfs, each.address)
)
ranges = tuple(
    VFRange(index, index, VF(driver=VfDriver.VFIO, mac=mac))
    for index, mac in enumerate(asked["macs"])
)
wish = Wish("test", address, asked["count"], ranges=ranges)
reconciler = Reconciler(sysfs, netlink, VFIOHolders(sysfs))
(found,) = reconciler.reconcile_all(merge([wish]).desired.values()).values()
print(json.dumps({"outcome": type(found).__name__, "found": str(found)}))
