# SPDX-License-Identifier: Apache-2.0
"""An UnderlayEndpoint: which networks may route to it, and hear from it."""

import ipaddress
from collections.abc import Callable, Mapping

from headrace_api import Encapsulation, Object, UnderlayEndpoint, UnderlayEndpointSpec
from headrace_api.dataplane_config import NETWORK_ENDPOINTS

from .claims import Owner
from .core import Core, Entry, Kind, Step, namespace_of, put
from .dirty import DirtyConfigs
from .inputs import Namespaces
from .network import Networks
from .outcome import Fault
from .pipeline import Pipelines
from .routing import Routing
from .selection import Selection


class Endpoints(Kind[UnderlayEndpointSpec]):
    """UnderlayEndpoints."""

    name = "UnderlayEndpoint"

    def __init__(self, core: Core) -> None:
        super().__init__(core)
        self._pipelines = core.part(Pipelines)
        self._networks = core.part(Networks)
        self._namespaces = core.part(Namespaces)
        self._routing = core.part(Routing)
        self._dirty_configs = core.part(DirtyConfigs)
        # Those that may be used, and who selects which network.
        self._usable: dict[str, UnderlayEndpointSpec] = {}
        self._selection = Selection()
        core.watch(Pipelines.name, self._pipeline_changed)
        core.watch(Networks.name, lambda key: self._selection.look_at([key]))
        core.watch(Namespaces.name, self._namespace_changed)

    def read(self, item: Object) -> Entry[UnderlayEndpointSpec]:
        """All of an UnderlayEndpoint that matters."""
        if not isinstance(item, UnderlayEndpoint):
            raise TypeError(f"{item.kind} is no UnderlayEndpoint")
        return Entry(item.metadata.creation_timestamp, item.spec)

    def _pipeline_changed(self, _: str) -> None:
        """None may be in its underlayPrefixes."""
        self.core.mark(Owner(self.name, key) for key in self.entries)

    def _namespace_changed(self, name: str) -> None:
        if self.entries:
            self._selection.look_at(
                key for key in self._networks.entries if namespace_of(key) == name
            )

    @property
    def steps(self) -> tuple[Step, ...]:
        """It holds nothing."""
        return (self._check,)

    def settle(self, owner: Owner, faults: tuple[Fault, ...]) -> None:
        """Admit the networks that it selects, or none."""
        key = owner.key
        spec = self.spec(key)
        if spec is None:
            self.core.forget(owner.subject)
        else:
            self.core.report(owner.subject, "", faults)
        usable = None if faults else spec
        if self._usable.get(key) != usable:
            put(self._usable, key, usable)
            self._selection.select(key, self._selects(usable) if usable else None)

    def finish(self) -> None:
        """Have routes resolved and configs written where others are admitted than before."""
        for key in self._selection.settle(self._networks.entries):
            self._routing.resolve([key])
            self._dirty_configs.networks.add(key)
            self.core.report((Networks.name, key), "endpoints", self.faults(key))

    def admitted(self, network: str) -> Mapping[str, str]:
        """Name -> address of the endpoints that the network may use."""
        return {name: self._usable[name].address for name in self._selection.selecting(network)}

    def encapsulations(self, network: str) -> dict[str, Encapsulation]:
        """Address -> encapsulation of who may send into the network, at most NETWORK_ENDPOINTS.

        Sorted. Where several have an address the first name decides how it is reached.
        """
        found: dict[str, Encapsulation] = {}
        for name in sorted(self._selection.selecting(network)):
            spec = self._usable[name]
            found.setdefault(spec.address, spec.encapsulation)
        return dict(sorted(found.items())[:NETWORK_ENDPOINTS])

    def faults(self, network: str) -> tuple[Fault, ...]:
        """Whether more are admitted to the network than it can have."""
        differ = [
            name
            for name in sorted(self._selection.selecting(network))
            if self.encapsulations(network).get(self._usable[name].address)
            not in (None, self._usable[name].encapsulation)
        ]
        if differ:
            message = (
                f"UnderlayEndpoint {differ[0]} admits the network, and so does another of the same"
                " address and another encapsulation, which is used: have one select the network"
            )
            return (Fault("", "EncapsulationConflict", message),)
        found = len({*self.admitted(network).values()})
        if found <= NETWORK_ENDPOINTS:
            return ()
        message = (
            f"{found} UnderlayEndpoints admit the network, and {NETWORK_ENDPOINTS} are the most:"
            " the rest is not heard; narrow their selectors"
        )
        return (Fault("", "TooManyEndpoints", message),)

    def _selects(self, spec: UnderlayEndpointSpec) -> Callable[[str], bool]:
        namespaces, networks = spec.namespace_selector, spec.network_selector

        def selects(network: str) -> bool:
            entry = self._networks.entries.get(network)
            return (
                entry is not None
                and namespaces is not None
                and namespaces.matches(self._namespaces.labels_of(network))
                and networks is not None
                and networks.matches(entry.labels)
            )

        return selects

    def _check(self, owner: Owner) -> tuple[Fault, ...]:
        spec = self.spec(owner.key)
        if spec is None:
            return ()
        address = ipaddress.IPv6Address(spec.address)
        for name, pipeline in sorted(self._pipelines.entries.items()):
            pools = pipeline.spec.underlay_prefixes
            prefix = next((each for each in pools if address in ipaddress.IPv6Network(each)), "")
            if prefix:
                message = (
                    f"{spec.address} is in {prefix}, from which Pipeline {name} gives addresses to"
                    " Interfaces: use one outside"
                )
                return (Fault("spec.address", "AddressInsideUnderlayPrefix", message),)
        return ()
