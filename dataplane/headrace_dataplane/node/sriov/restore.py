# SPDX-License-Identifier: Apache-2.0
"""What was found of a PF before it was first touched, as data, and the way back to it."""

import json
import logging
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

from headrace_api.device_policy import VfDriver, VfLinkState
from headrace_dataplane.node.files import write_whole
from headrace_dataplane.node.sriov.desired import VF, Desired, Identity
from headrace_dataplane.node.sriov.observed import NOT_NETWORK_DRIVERS, ObservedPF, ObservedVF

log = logging.getLogger(__name__)

RESTORE = "what was found"
"""Whose wish it is to put back what was found."""


@dataclass(frozen=True)
class Found:
    """What was found of a PF."""

    identity: Identity
    mtu: int | None
    up: bool | None
    autoprobe: bool | None
    vfs: tuple[VF, ...]

    def to_json(self) -> str:
        """Return it as text to be kept."""
        return json.dumps(asdict(self), sort_keys=True)


def found(pf: ObservedPF) -> Found:
    """Return what a PF was found as."""
    netdev = pf.netdev
    by_index = {vf.index: vf for vf in pf.vfs}
    count = pf.num_vfs or 0
    return Found(
        identity=pf.identity,
        mtu=None if netdev is None else netdev.mtu,
        up=None if netdev is None else netdev.up,
        autoprobe=pf.autoprobe,
        vfs=tuple(_vf(by_index.get(index)) for index in range(count)),
    )


def from_json(text: str) -> Found:
    """Return what was kept. Raises ValueError."""
    try:
        data = json.loads(text)
        vfs = []
        for vf in data["vfs"]:
            driver, state = vf.pop("driver"), vf.pop("link_state")
            vfs.append(
                VF(
                    driver=None if driver is None else VfDriver(driver),
                    link_state=None if state is None else VfLinkState(state),
                    **vf,
                )
            )
        return Found(
            Identity(**data["identity"]), data["mtu"], data["up"], data["autoprobe"], tuple(vfs)
        )
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"no state of a PF: {error!r}") from error


def wanted_back(kept: Found, address: str | None = None) -> Desired:
    """Return the wish to have it so again, of a PF that may have another address meanwhile."""
    return Desired(
        address=kept.identity.address if address is None else address,
        policies=(RESTORE,),
        vfs=kept.vfs,
        mtu=kept.mtu,
        exact_mtu=True,
        up=kept.up,
        autoprobe=kept.autoprobe,
    )


class Kept:
    """What PFs were found as, a file each: it outlives the agent, its pod and the node's reboot."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def keep(self, pf: ObservedPF) -> None:
        """Keep what a PF was found as, unless it was before. Raises OSError."""
        path = self._path(pf.identity)
        if path.exists():
            return
        self._folder.mkdir(parents=True, exist_ok=True)
        write_whole(path, found(pf).to_json().encode(), 0o600)

    def all(self) -> Iterator[Found]:
        """Yield what was kept; what is not understood is left where it is."""
        for path in sorted(self._folder.glob("*.json")):
            try:
                yield from_json(path.read_text())
            except (OSError, ValueError) as error:
                log.warning("%s is left aside: %s", path, error)

    def forget(self, kept: Found) -> None:
        """It is so again. Raises OSError."""
        self._path(kept.identity).unlink(missing_ok=True)

    def _path(self, identity: Identity) -> Path:
        # An address changes when cards are added.
        return self._folder / f"{(identity.mac or identity.address).replace(':', '-')}.json"


def _vf(vf: ObservedVF | None) -> VF:
    if vf is None:
        return VF()
    driver = None
    if vf.driver == VfDriver.VFIO:
        driver = VfDriver.VFIO
    elif vf.driver and vf.driver not in NOT_NETWORK_DRIVERS:
        driver = VfDriver.KERNEL
    mtu = None if vf.netdev is None else vf.netdev.mtu
    if vf.state is None:
        return VF(driver=driver, mtu=mtu)
    return VF(
        driver=driver,
        mtu=mtu,
        mac=vf.state.mac,
        vlan=vf.state.vlan,
        spoof_check=vf.state.spoof_check,
        trust=vf.state.trust,
        min_rate=vf.state.min_rate,
        max_rate=vf.state.max_rate,
        link_state=vf.state.link_state,
    )
