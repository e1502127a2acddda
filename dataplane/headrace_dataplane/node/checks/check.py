# SPDX-License-Identifier: Apache-2.0
"""What is wanted of a machine, and how a check is said."""

from dataclasses import dataclass

from headrace_api import HugepageSize
from headrace_api.node_state import NodeCheck, Subject, Verdict

# The API's bounds of either text, which a node of very many devices might pass.
_CHARACTERS = 4096


@dataclass(frozen=True)
class Memory:
    """Memory in hugepages."""

    mebibytes: int = 256
    """What the engine takes, on the NUMA node of the workers."""
    page_size: HugepageSize | None = None
    """None: any."""


@dataclass(frozen=True)
class Threads:
    """The threads of a dataplane."""

    workers: int = 1
    share_control: bool = False
    """Whether the control thread runs on a worker's CPU."""

    @property
    def cpus(self) -> int:
        """How many CPUs they have."""
        return self.workers if self.share_control else self.workers + 1


@dataclass(frozen=True)
class Wanted:
    """What the machine is to do."""

    threads: tuple[Threads, ...] = (Threads(),)
    """Of each dataplane, one at least."""
    hugepages: tuple[Memory, ...] = (Memory(),)
    """Of all dataplanes, by size; none: they want none."""
    devices: tuple[str, ...] = ()
    """PCI addresses of the devices that the dataplanes are to take."""
    pool: bool = False
    """Whether they take some of these devices, and not all."""
    mtu: int = 1460
    """Largest IP packet of the machines in the networks, in bytes."""

    @property
    def largest(self) -> Threads:
        """Those of the largest dataplane, which are all on one NUMA node."""
        # Of as many CPUs those with more workers: the control thread may have one elsewhere.
        return max(self.threads, key=lambda each: (each.cpus, each.workers))


class About:
    """Makes the checks of one subject."""

    def __init__(self, subject: Subject) -> None:
        """Each check is about this."""
        self._subject = subject

    def passed(self, name: str, message: str) -> NodeCheck:
        """It is as it should be."""
        return self._check(name, Verdict.PASS, message)

    def warned(self, name: str, message: str, remedy: str) -> NodeCheck:
        """It works, but not as well as it could."""
        return self._check(name, Verdict.WARN, message, remedy)

    def failed(self, name: str, message: str, remedy: str) -> NodeCheck:
        """It does not work."""
        return self._check(name, Verdict.FAIL, message, remedy)

    def skipped(self, name: str, message: str, remedy: str = "") -> NodeCheck:
        """It was not looked at, for this reason."""
        return self._check(name, Verdict.SKIP, message, remedy)

    def unknown(self, name: str, path: str) -> NodeCheck:
        """It was not looked at, for this file is missing, unreadable or not as expected."""
        return self.skipped(name, f"{path} is missing, or cannot be read")

    def _check(self, name: str, verdict: Verdict, message: str, remedy: str = "") -> NodeCheck:
        return NodeCheck(
            subject=self._subject,
            name=name,
            verdict=verdict,
            message=message[:_CHARACTERS],
            remedy=remedy[:_CHARACTERS],
        )


def kernel_arguments(arguments: str) -> str:
    """The remedy that takes a reboot."""
    return (
        f"add to the kernel's command line, and reboot: {arguments}\n"
        "  Debian, Ubuntu: to GRUB_CMDLINE_LINUX in /etc/default/grub, then: update-grub\n"
        f"  Fedora, RHEL: grubby --update-kernel=ALL --args='{arguments}'"
    )


def kubelet_settings(settings: str, *state: str) -> str:
    """The remedy that takes a new kubelet; `state` are files that hold the policy before."""
    remove = "".join(f" rm -f /var/lib/kubelet/{name};" for name in state)
    return (
        f"in the kubelet's configuration (/var/lib/kubelet/config.yaml): {settings}\n"
        f"  then: kubectl drain NODE --ignore-daemonsets; systemctl stop kubelet;{remove} "
        "systemctl start kubelet; kubectl uncordon NODE"
    )
