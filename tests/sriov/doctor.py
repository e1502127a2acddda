# SPDX-License-Identifier: Apache-2.0
"""What `headrace doctor` says of the machine."""

import json
from collections.abc import Mapping, Sequence

from tests.cluster.images import Images
from tests.sriov.machine import Machine

WRONG = {
    # A user's limits are those of a service of systemd.
    ("IOMMUReady", "memory lock"): "Warn",
    ("TopologyReady", "isolation of workers"): "Warn",
    ("TopologyReady", "transparent hugepages"): "Warn",
}
"""What is wrong with the machine."""
_BY_CHANCE = ("TopologyReady", "interrupts on workers' CPUs")
"""Wrong, too, once an interrupt has come."""


def findings(machine: Machine, images: Images, *devices: str) -> dict[tuple[str, str], str]:
    """What does not pass, for a dataplane with these devices: (subject, check) -> verdict."""
    words = ["headrace", "doctor", "--no-self-test", "-o", "json"]
    for device in devices:
        words += ["--device", device]
    return not_passed(json.loads(machine.run_image(images.dataplane.name, *words))["checks"])


def not_passed(checks: Sequence[Mapping[str, str]]) -> dict[tuple[str, str], str]:
    """What does not pass: (subject, check) -> verdict."""
    return {
        key: each["verdict"]
        for each in checks
        if each["verdict"] not in ("Pass", "Skip")
        and (key := (each["subject"], each["name"])) != _BY_CHANCE
    }
