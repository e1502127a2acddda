# SPDX-License-Identifier: Apache-2.0
"""UnderlayEndpoints: which networks may route to which, and hear from them."""

import ipaddress
from collections.abc import Iterable, Mapping

from headrace_api import UnderlayEndpointSpec
from headrace_api.dataplane_config import NETWORK_ENDPOINTS

from .outcome import Fault
from .store import Entry, Store, namespace_of

_NONE: Mapping[str, str] = {}


class Endpoints:
    """Who is admitted to what. Look at networks, then flush."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._admitted: dict[str, dict[str, str]] = {}
        self._to_look_at: set[str] = set()
        self._turned = False

    def put(self, name: str, entry: Entry[UnderlayEndpointSpec] | None) -> None:
        """Put the endpoint, or remove it (None)."""
        if self._store.endpoints.get(name) == entry:
            return
        if entry is None:
            del self._store.endpoints[name]
        else:
            self._store.endpoints[name] = entry
        self.pipelines_changed()

    def pipelines_changed(self) -> None:
        """A Pipeline came, went or changed: an endpoint must not be in its underlayPrefixes."""
        self._turned = True
        self._to_look_at.update(self._store.networks, self._admitted)

    def namespace_changed(self, name: str) -> None:
        """The namespace has other labels."""
        if self._store.endpoints:
            self.look_at(key for key in self._store.networks if namespace_of(key) == name)

    def look_at(self, networks: Iterable[str]) -> None:
        """Have it looked at who is admitted to these networks."""
        self._to_look_at.update(networks)

    def flush(self) -> tuple[set[str], dict[str, tuple[Fault, ...]]]:
        """The networks to which others are admitted than before, and faults by endpoint.

        Every endpoint is among the faults where an endpoint or a Pipeline changed, and none else.
        """
        wrong = {name: self._faults(entry.spec) for name, entry in self._store.endpoints.items()}
        usable = {
            name: entry for name, entry in sorted(self._store.endpoints.items()) if not wrong[name]
        }
        changed = set()
        for network in self._to_look_at:
            found = {
                name: entry.spec.address
                for name, entry in usable.items()
                if self._selects(entry.spec, network)
            }
            if found != self._admitted.get(network, _NONE):
                changed.add(network)
            if found:
                self._admitted[network] = found
            else:
                self._admitted.pop(network, None)
        turned, self._turned = self._turned, False
        self._to_look_at.clear()
        return changed, wrong if turned else {}

    def admitted(self, network: str) -> Mapping[str, str]:
        """Name -> address of the endpoints that the network may use, as of the last flush."""
        return self._admitted.get(network, _NONE)

    def addresses(self, network: str) -> list[str]:
        """Addresses that may send into the network, sorted; at most NETWORK_ENDPOINTS."""
        return sorted({*self.admitted(network).values()})[:NETWORK_ENDPOINTS]

    def faults(self, network: str) -> tuple[Fault, ...]:
        """Whether more are admitted to the network than it can have."""
        found = len({*self.admitted(network).values()})
        if found <= NETWORK_ENDPOINTS:
            return ()
        message = (
            f"{found} UnderlayEndpoints admit the network, and {NETWORK_ENDPOINTS} are the most:"
            " the rest is not heard; narrow their selectors"
        )
        return (Fault("", "TooManyEndpoints", message),)

    def _selects(self, spec: UnderlayEndpointSpec, network: str) -> bool:
        entry = self._store.networks.get(network)
        return (
            entry is not None
            and spec.namespace_selector is not None
            and spec.namespace_selector.matches(self._store.namespace_labels(network))
            and spec.network_selector is not None
            and spec.network_selector.matches(entry.labels)
        )

    def _faults(self, spec: UnderlayEndpointSpec) -> tuple[Fault, ...]:
        address = ipaddress.IPv6Address(spec.address)
        for name, pipeline in sorted(self._store.pipelines.items()):
            pools = pipeline.spec.underlay_prefixes
            prefix = next((each for each in pools if address in ipaddress.IPv6Network(each)), "")
            if prefix:
                message = (
                    f"{spec.address} is in {prefix}, from which Pipeline {name} gives addresses to"
                    " Interfaces: use one outside"
                )
                return (Fault("spec.address", "AddressInsideUnderlayPrefix", message),)
        return ()
