# SPDX-License-Identifier: Apache-2.0
"""DevicesReady: the devices are there, and have a link of the size that packets need."""

from collections.abc import Iterator

from headrace_api.node_facts import LinkState, NodeFacts
from headrace_api.node_state import NodeCheck, Subject
from headrace_dataplane.node.checks.check import About, Wanted
from headrace_dataplane.node.checks.placement import chosen, functions, no_device

_about = About(Subject.DEVICES)
#: What the overlay's IPv6 header adds.
_OVERLAY_BYTES = 40


def check(facts: NodeFacts, wanted: Wanted) -> Iterator[NodeCheck]:
    """Yield the checks."""
    if facts.nics is None:
        for name in ("devices", "link", "MTU"):
            yield _about.unknown(name, "/sys/bus/pci/devices")
        return
    yield _named(facts, wanted) if wanted.devices else _made(facts)
    yield _link(facts, wanted)
    yield _mtu(facts, wanted)


def _named(facts: NodeFacts, wanted: Wanted) -> NodeCheck:
    there = {each.address for each in functions(facts)}
    missing = [address for address in wanted.devices if address not in there]
    if not missing:
        return _about.passed("devices", f"{', '.join(wanted.devices)}: there")
    return _about.failed(
        "devices",
        f"no network device {', '.join(missing)}",
        "lspci -D -d ::0200   # all there are"
        + (_make(facts) if any(not card.vfs for card in facts.nics or ()) else ""),
    )


def _made(facts: NodeFacts) -> NodeCheck:
    """Whether VFs were made, where nobody says which devices are wanted."""
    able = [card for card in facts.nics or () if card.vfs_total]
    made = sum(len(card.vfs) for card in able)
    if made:
        texts = (f"{len(card.vfs)} of {card.vfs_total} VFs of {card.pci_address}" for card in able)
        return _about.passed("devices", ", ".join(texts))
    if chosen(facts, Wanted()):
        return _about.passed("devices", "whole cards, no VFs")
    if not able:
        return _about.skipped("devices", "no network card here has SR-IOV")
    return _about.warned(
        "devices",
        f"no VF was made of {', '.join(card.pci_address for card in able)}, which may have some",
        _make(facts).strip(),
    )


def _make(facts: NodeFacts) -> str:
    able = (card for card in facts.nics or () if card.vfs_total and not card.vfs)
    return "".join(
        f"\n  make VFs: echo {min(4, card.vfs_total or 0)} > "
        f"/sys/bus/pci/devices/{card.pci_address}/sriov_numvfs"
        for card in able
    )


def _link(facts: NodeFacts, wanted: Wanted) -> NodeCheck:
    devices = chosen(facts, wanted)
    cards = {each.card.pci_address: each.card for each in devices}
    if not cards:
        return _about.skipped("link", no_device(wanted))
    for address, card in cards.items():
        if card.link is LinkState.DOWN:
            say = _about.failed if wanted.devices else _about.warned
            return say(
                "link",
                f"{address} ({', '.join(card.device_names)}) has no carrier",
                f"ethtool {card.device_names[0] if card.device_names else address}   # then the "
                "cable, the optics, the switch's port",
            )
    silent = [address for address, card in cards.items() if card.link is None]
    if len(silent) == len(cards):
        return _about.skipped("link", f"{', '.join(silent)}: no kernel device that is up tells")
    speeds = (f"{a} {c.speed_mbits or '?'} Mbit/s" for a, c in cards.items() if c.link)
    return _about.passed("link", ", ".join(speeds))


def _mtu(facts: NodeFacts, wanted: Wanted) -> NodeCheck:
    need = wanted.mtu + _OVERLAY_BYTES
    devices = chosen(facts, wanted)
    if not devices:
        return _about.skipped("MTU", no_device(wanted))
    # A VF's frames are no longer than its card lets through.
    known = {each.card.pci_address: each.card for each in devices if each.card.mtu is not None}
    sizes = {f: f.mtu for each in devices for f in (each.card, each.function) if f.mtu is not None}
    for function, mtu in sizes.items():
        if mtu < need:
            device = function.device_names[0] if function.device_names else function.pci_address
            return _about.failed(
                "MTU",
                f"{function.pci_address} ({device}) has {mtu}, and packets of {wanted.mtu} bytes "
                f"need {need} with their outer header",
                f"ip link set {device} mtu {need}, and as much at the switches; or packets of "
                f"at most {mtu - _OVERLAY_BYTES} bytes (--mtu, mtu of the VirtualNetwork)",
            )
    if not known:
        return _about.skipped("MTU", "no kernel device tells; the engine sets it on its own")
    return _about.passed("MTU", f"at least {min(sizes.values())}, and {need} are needed")
