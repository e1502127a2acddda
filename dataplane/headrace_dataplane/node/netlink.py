# SPDX-License-Identifier: Apache-2.0
"""The kernel's network devices, routes and addresses, and what PFs say of their VFs, by netlink."""

import array
import errno
import fcntl
import socket
import struct
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from pyroute2 import IPRoute, NetlinkError
from pyroute2.netlink import NLM_F_ACK, NLM_F_REQUEST, genlmsg
from pyroute2.netlink.generic import GenericNetlinkSocket

from headrace_api.device_policy import VfLinkState

_IFF_UP = 0x1
_RTEXT_FILTER_VF = 1
_RT_SCOPE_LINK = 253
_RTN_UNICAST = 1
# linux/if_link.h, IFLA_VF_LINK_STATE_…
_LINK_STATES = (VfLinkState.AUTO, VfLinkState.ENABLE, VfLinkState.DISABLE)
_UNSAID = 0xFFFFFFFF
_ESWITCH_GET = 29  # linux/devlink.h
_ESWITCH_MODES = ("legacy", "switchdev")
_ARPHRD_INFINIBAND = 32  # linux/if_arp.h
_SIOCETHTOOL = 0x8946
# linux/ethtool.h: struct ethtool_drvinfo, and where its fw_version is.
_GET_DRIVER_INFO, _DRIVER_INFO_BYTES, _FIRMWARE = 0x3, 196, slice(68, 100)


@dataclass(frozen=True)
class VFState:
    """What the PF's driver says of a VF. None: it does not say."""

    mac: str
    vlan: int
    spoof_check: bool | None
    trust: bool | None
    min_rate: int
    max_rate: int
    link_state: VfLinkState


@dataclass(frozen=True)
class Link:
    """A network device."""

    name: str
    index: int
    mac: str = ""
    mtu: int = 0
    up: bool = False
    carrier: bool = False
    master: int = 0
    """Index of the bond or bridge that it is in."""
    lower: int = 0
    """Index of the device that it is upon."""
    permanent_mac: str = ""
    infiniband: bool = False
    """Whether it speaks InfiniBand, and not Ethernet."""
    vfs: Mapping[int, VFState] = field(default_factory=dict)
    """Only where it was asked for; VFs that are being reset are missing."""


class Netlink(Protocol):
    """The kernel's network devices. All raise OSError."""

    def links(self) -> Mapping[str, Link]:
        """Return the devices of this network namespace by name, without VFs."""

    def link(self, name: str) -> Link:
        """Return one device with what its driver says of its VFs."""

    def routes(self) -> Iterable[tuple[int, bool]]:
        """Yield each unicast route's device, and whether the route is a default one."""

    def addresses(self) -> Iterable[tuple[int, str]]:
        """Yield each address that is not link-local with its device."""

    def outputs(self, address: str) -> Iterable[int]:
        """Return the devices by which an address is reached; none where there is no way."""

    def firmware(self, name: str) -> str | None:
        """Return the version of a device's firmware, None where its driver does not say."""

    def set_link(self, index: int, *, up: bool | None = None, mtu: int | None = None) -> None:
        """Bring a device up or down, or change its MTU."""

    def set_vf(self, index: int, vf: int, state: Mapping[str, object]) -> None:
        """Set one property of a VF through its PF."""

    def eswitch_mode(self, address: str) -> str | None:
        """Return `legacy` or `switchdev`, None where the driver has no such modes."""


_IPV6 = Path("/proc/sys/net/ipv6/conf")


class KernelNetlink:
    """The devices of this network namespace. Everything raises OSError."""

    def links(self) -> Mapping[str, Link]:
        """Return the devices by name, without VFs."""
        with _errors(), IPRoute() as route:
            return {link.name: link for link in map(to_link, route.get_links())}

    def link(self, name: str) -> Link:
        """Return one device with what its driver says of its VFs."""
        with _errors(), IPRoute() as route:
            (message,) = route.link("get", ifname=name, ext_mask=_RTEXT_FILTER_VF)
            return to_link(message)

    def routes(self) -> Iterator[tuple[int, bool]]:
        """Yield each unicast route's device, and whether the route is a default one."""
        with _errors(), IPRoute() as route:
            messages = [each for each in route.get_routes() if each["type"] == _RTN_UNICAST]
        for message in messages:
            for index in _outputs(message):
                yield index, message["dst_len"] == 0

    def addresses(self) -> Iterator[tuple[int, str]]:
        """Yield each address that is not link-local with its device."""
        with _errors(), IPRoute() as route:
            messages = list(route.get_addr())
        for message in messages:
            address = message.get_attr("IFA_LOCAL") or message.get_attr("IFA_ADDRESS")
            if address and message["scope"] < _RT_SCOPE_LINK:
                yield message["index"], address

    def outputs(self, address: str) -> Iterator[int]:
        """Yield the devices by which an address is reached."""
        messages = []
        # Also what is no address.
        with suppress(NetlinkError, OSError), IPRoute() as route:
            messages = list(route.route("get", dst=address))
        for message in messages:
            yield from _outputs(message)

    def firmware(self, name: str) -> str | None:
        """Return the version of a device's firmware, None where its driver does not say."""
        answer = array.array(
            "B", struct.pack("I", _GET_DRIVER_INFO).ljust(_DRIVER_INFO_BYTES, b"\0")
        )
        request = struct.pack("16sP16x", name.encode(), answer.buffer_info()[0])
        with suppress(OSError), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
            fcntl.ioctl(any_socket, _SIOCETHTOOL, request)
            text = answer.tobytes()[_FIRMWARE].split(b"\0", 1)[0].decode(errors="replace").strip()
            return text if text not in ("", "N/A") else None
        return None

    def set_link(self, index: int, *, up: bool | None = None, mtu: int | None = None) -> None:
        """Bring a device up or down, or change its MTU; one that comes up hears no router."""
        changes: dict[str, object] = {}
        if up:
            # Those on its wire are tenants' gateways: the node would send its own traffic there.
            with suppress(FileNotFoundError):
                (_IPV6 / socket.if_indextoname(index) / "accept_ra").write_text("0")
        if up is not None:
            changes["state"] = "up" if up else "down"
        if mtu is not None:
            changes["mtu"] = mtu
        with _errors(), IPRoute() as route:
            route.link("set", index=index, **changes)

    def set_vf(self, index: int, vf: int, state: Mapping[str, object]) -> None:
        """Set one property of a VF through its PF."""
        with _errors(), IPRoute() as route:
            route.link("set", index=index, vf={"vf": vf, **state})

    def eswitch_mode(self, address: str) -> str | None:
        """Return `legacy` or `switchdev`, None where the driver has no such modes."""
        try:
            with GenericNetlinkSocket() as devlink:
                devlink.bind("devlink", _Devlink)
                request = _Devlink()
                request["cmd"] = _ESWITCH_GET
                request["version"] = 1
                request["attrs"] = [("BUS_NAME", "pci"), ("DEV_NAME", address)]
                for answer in devlink.nlm_request(
                    request, msg_type=devlink.prid, msg_flags=NLM_F_REQUEST | NLM_F_ACK
                ):
                    mode = answer.get_attr("ESWITCH_MODE")
                    if mode is not None:
                        return _ESWITCH_MODES[mode]
        except (NetlinkError, OSError):
            # The kernel has no devlink, the driver has none, or no modes.
            return None
        return None


class _Devlink(genlmsg):  # type: ignore[misc]
    # linux/devlink.h, as far as an e-switch goes.
    nla_map = (
        (1, "BUS_NAME", "asciiz"),
        (2, "DEV_NAME", "asciiz"),
        (25, "ESWITCH_MODE", "uint16"),
    )


def to_link(message: Any) -> Link:
    """Return what an RTM_NEWLINK says."""
    permanent = message.get_attr("IFLA_PERM_ADDRESS")
    return Link(
        name=message.get_attr("IFLA_IFNAME"),
        index=message["index"],
        mac=message.get_attr("IFLA_ADDRESS") or "",
        mtu=message.get_attr("IFLA_MTU") or 0,
        up=bool(message["flags"] & _IFF_UP),
        carrier=bool(message.get_attr("IFLA_CARRIER")),
        master=message.get_attr("IFLA_MASTER") or 0,
        # Of another namespace's device only the number is known, which is somebody else's here.
        lower=(message.get_attr("IFLA_LINK") or 0)
        if message.get_attr("IFLA_LINK_NETNSID") is None
        else 0,
        permanent_mac=permanent or "",
        infiniband=message["ifi_type"] == _ARPHRD_INFINIBAND,
        vfs=dict(_vf_states(message)),
    )


def _vf_states(message: Any) -> Iterator[tuple[int, VFState]]:
    listed = message.get_attr("IFLA_VFINFO_LIST")
    for info in listed.get_attrs("IFLA_VF_INFO") if listed is not None else ():
        mac, vlan = info.get_attr("IFLA_VF_MAC"), info.get_attr("IFLA_VF_VLAN")
        rate, link = info.get_attr("IFLA_VF_RATE"), info.get_attr("IFLA_VF_LINK_STATE")
        yield (
            mac["vf"],
            VFState(
                mac=mac["mac"],
                vlan=vlan["vlan"],
                spoof_check=_said(info.get_attr("IFLA_VF_SPOOFCHK"), "spoofchk"),
                trust=_said(info.get_attr("IFLA_VF_TRUST"), "trust"),
                min_rate=rate["min_tx_rate"],
                max_rate=rate["max_tx_rate"],
                link_state=_LINK_STATES[link["link_state"]],
            ),
        )


def _outputs(route: Any) -> Iterator[int]:
    for index in (
        route.get_attr("RTA_OIF"),
        *(hop["oif"] for hop in route.get_attr("RTA_MULTIPATH") or ()),
    ):
        if index:
            yield int(index)


def _said(attribute: Any, name: str) -> bool | None:
    if attribute is None or attribute[name] == _UNSAID:
        return None
    return bool(attribute[name])


@contextmanager
def _errors() -> Iterator[None]:
    try:
        yield
    except NetlinkError as error:
        code = error.code or errno.EIO
        raise OSError(code, str(error)) from error
