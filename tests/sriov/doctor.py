# SPDX-License-Identifier: Apache-2.0
"""What `headrace doctor` says of the machine."""

import json

from tests.cluster.images import Images
from tests.sriov.machine import Machine

WRONG = {
    # A user's limits are those of a service of systemd.
    ("IOMMUReady", "memory lock"): "warn",
    ("TopologyReady", "isolation of workers"): "warn",
    ("TopologyReady", "transparent hugepages"): "warn",
}
"""What is wrong with the machine."""
_BY_CHANCE = ("TopologyReady", "interrupts on workers' CPUs")
"""Wrong, too, once an interrupt has come."""


def findings(machine: Machine, images: Images, *devices: str) -> dict[tuple[str, str], str]:
    """What does not pass, for a dataplane with these devices: (subject, check) -> verdict."""
    words = ["headrace", "doctor", "--no-self-test", "-o", "json"]
    for device in devices:
        words += ["--device", device]
    found = json.loads(machine.run_image(images.dataplane.name, *words))
    return {
        key: each["verdict"]
        for each in found["checks"]
        if each["verdict"] not in ("pass", "skip")
        and (key := (each["subject"], each["name"])) != _BY_CHANCE
    }
