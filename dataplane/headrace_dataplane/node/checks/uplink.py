# SPDX-License-Identifier: Apache-2.0
"""UplinkSafe: the dataplane takes nothing that the node itself needs."""

from collections.abc import Iterator

from headrace_api.node_facts import Nic, NodeFacts, NodeTraffic
from headrace_api.node_state import NodeCheck, Subject
from headrace_dataplane.node.checks.check import About, Wanted

_about = About(Subject.UPLINK)
_NAME = "the node's own traffic"
_TEXTS = {
    NodeTraffic.DEFAULT_ROUTE: "its default route",
    NodeTraffic.KUBELET_ADDRESS: "the kubelet's address",
    NodeTraffic.API_SERVER: "the API server",
}


def check(facts: NodeFacts, wanted: Wanted) -> Iterator[NodeCheck]:
    """Yield the checks."""
    cards = [card for card in facts.nics or () if card.node_traffic]
    if not cards:
        yield _about.skipped(_NAME, "it goes by no network card on PCI, or routes cannot be seen")
        return
    # VFs are taken without harm to their card.
    for card in cards:
        if card.pci_address in wanted.devices:
            yield _taken(card)
            return
    texts = "; ".join(map(_text, cards))
    yield _about.passed(_NAME, f"the kernel keeps what it goes by: {texts}")


def _taken(card: Nic) -> NodeCheck:
    others = "other cards of the machine, or VFs of this one, which stays with the kernel"
    able = f" (it may have {card.vfs_total})" if card.vfs_total else ""
    if card.only_uplink:
        return _about.failed(
            _NAME,
            f"goes by no other card than {_text(card)}. Who takes it cuts the node off",
            f"name {others}{able}",
        )
    return _about.warned(
        _NAME,
        f"goes by several cards, and {_text(card)}. Who takes it leaves the node without a spare",
        f"name {others}{able}",
    )


def _text(card: Nic) -> str:
    names = ", ".join(card.device_names)
    texts = ", ".join(_TEXTS[kind] for kind in card.node_traffic)
    return f"{card.pci_address} ({names}) with {texts}"
