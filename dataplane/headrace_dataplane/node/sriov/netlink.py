# SPDX-License-Identifier: Apache-2.0
"""The kernel's netlink for SR-IOV: RTM_GETLINK with VFs, RTM_SETLINK of one, and devlink's mode."""

import errno
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from pyroute2 import IPRoute, NetlinkError
from pyroute2.netlink import NLM_F_ACK, NLM_F_REQUEST, genlmsg
from pyroute2.netlink.generic import GenericNetlinkSocket

from headrace_dataplane.node.sriov.desired import LinkState
from headrace_dataplane.node.sriov.observed import Link, VFState

_IFF_UP = 0x1
_RTEXT_FILTER_VF = 1
_RT_SCOPE_LINK = 253
_RTN_UNICAST = 1
# linux/if_link.h, IFLA_VF_LINK_STATE_…
_LINK_STATES = (LinkState.AUTO, LinkState.ENABLE, LinkState.DISABLE)
_UNSAID = 0xFFFFFFFF
_ESWITCH_GET = 29  # linux/devlink.h
_ESWITCH_MODES = ("legacy", "switchdev")


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
            default = message["dst_len"] == 0
            index = message.get_attr("RTA_OIF")
            if index is not None:
                yield index, default
            for hop in message.get_attr("RTA_MULTIPATH") or ():
                yield hop["oif"], default

    def addresses(self) -> Iterator[tuple[int, str]]:
        """Yield each address that is not link-local with its device."""
        with _errors(), IPRoute() as route:
            messages = list(route.get_addr())
        for message in messages:
            address = message.get_attr("IFA_LOCAL") or message.get_attr("IFA_ADDRESS")
            if address and message["scope"] < _RT_SCOPE_LINK:
                yield message["index"], address

    def set_link(self, index: int, *, up: bool | None = None, mtu: int | None = None) -> None:
        """Bring a device up or down, or change its MTU."""
        changes: dict[str, object] = {}
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
