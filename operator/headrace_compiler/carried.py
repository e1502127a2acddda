# SPDX-License-Identifier: Apache-2.0
"""What was compiled of objects that cannot be read now, so that it goes on as it was.

A running operator knows what an object was before a mistake was made in it. One that starts finds
only what came of it.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping

from headrace_api import Json, network_of, slice_name

from .accepted import Accepted
from .addresses import host_prefix
from .claims import Owner
from .core import Core
from .resolve import Hop
from .routes import route_slice

#: Whether the object of this kind and key exists and cannot be read.
Unread = Callable[[str, str], bool]


class Carried:
    """Entries of DataplaneConfigs, and Slices, of what cannot be read."""

    def __init__(self, core: Core) -> None:
        self.interfaces: dict[str, Accepted] = {}
        """Interfaces that cannot be read, or whose network or Pipeline cannot."""
        self.networks: defaultdict[str, dict[Owner, Json]] = defaultdict(dict)
        """Network -> Pipeline on a node -> its entry there."""
        self.slices: defaultdict[str, dict[str, Json]] = defaultdict(dict)
        """Network -> name -> Slice, as the compiler writes it."""

    def take(
        self,
        configs: Iterable[Json],
        slices: Iterable[Json],
        unread: Unread,
        vnis: Mapping[str, int],
    ) -> None:
        """Take what is of objects that cannot be read from raw compiled objects.

        `vnis` are those that networks have: what has another is of a network that is gone.
        """
        for config in configs:
            self._config(_part(config, "spec"), unread, vnis)
        for item in slices:
            spec, metadata = _part(item, "spec"), _part(item, "metadata")
            network, number = network_of(spec), str(metadata["name"]).rpartition(".")[2]
            if (
                unread("VirtualNetwork", network)
                and (vni := vnis.get(network)) is not None
                and vni == spec.get("vni")
                and number.isdecimal()
                and metadata["name"] == slice_name(network, int(number))
            ):
                self.slices[network][str(metadata["name"])] = route_slice(
                    network,
                    int(number),
                    vni,
                    str(metadata["namespace"]),
                    [*_items(spec, "entries")],
                )

    def _config(self, spec: Json, unread: Unread, vnis: Mapping[str, int]) -> None:
        pipeline = str(spec["pipelineName"])
        served_by = Owner("Pipeline", pipeline, str(spec["nodeName"]))
        for entry in _items(spec, "networks"):
            key = f"{entry['namespace']}/{entry['name']}"
            if unread("VirtualNetwork", key) and vnis.get(key) == entry["vni"]:
                self.networks[key][served_by] = entry
        for entry in _items(spec, "interfaces"):
            key, network = f"{entry['namespace']}/{entry['name']}", str(entry["network"])
            if (
                unread("Interface", key)
                or unread("VirtualNetwork", network)
                or unread("Pipeline", pipeline)
            ):
                underlay = str(entry["underlayAddress"])
                here = (Hop(underlay, 1),)
                addresses = [str(each) for each in _list(entry, "addresses")]
                prefixes = [str(each) for each in _list(entry, "prefixes")]
                self.interfaces[key] = Accepted(
                    network=network,
                    served_by=served_by,
                    underlay=underlay,
                    compiled=entry,
                    addresses=dict.fromkeys(map(host_prefix, addresses), here),
                    prefixes=dict.fromkeys(prefixes, here),
                )

    def drop(self, kind: str, key: str) -> None:
        """The object can be read again, or is gone."""
        if kind == "Interface":
            self.interfaces.pop(key, None)
        elif kind == "VirtualNetwork":
            self.networks.pop(key, None)
            self.slices.pop(key, None)


def _part(item: Json, name: str) -> Json:
    found = item[name]
    if not isinstance(found, dict):
        raise TypeError(f"{name} is no mapping")
    return found


def _list(item: Json, name: str) -> list[object]:
    found = item.get(name, [])
    if not isinstance(found, list):
        raise TypeError(f"{name} is no list")
    return [*found]


def _items(item: Json, name: str) -> list[Json]:
    return [each for each in _list(item, name) if isinstance(each, dict)]
