# SPDX-License-Identifier: Apache-2.0
"""A Reservation: it holds an address."""

from collections.abc import Collection

from headrace_api import Object
from headrace_compiler.addresses import address_number
from headrace_compiler.claims import Owner
from headrace_compiler.core import Core, Entry, Kind, Step, sibling
from headrace_compiler.network import Networks, address_space
from headrace_compiler.outcome import Fault, taken
from tests.toy.reservation import Reservation, ReservationSpec


class Reservations(Kind[ReservationSpec]):
    """Reservations."""

    name = "Reservation"

    def __init__(self, core: Core) -> None:
        super().__init__(core)
        self._networks = core.part(Networks)
        self._held: dict[Owner, tuple[str, int]] = {}

    def read(self, item: Object) -> Entry[ReservationSpec]:
        """All of a Reservation that matters."""
        if not isinstance(item, Reservation):
            raise TypeError(f"{item.kind} is no Reservation")
        return Entry(item.metadata.creation_timestamp, item.spec)

    def references(self, key: str, entry: Entry[ReservationSpec]) -> Collection[Owner]:
        """Its network."""
        return [Owner(Networks.name, sibling(key, entry.spec.network_ref.name))]

    def holds(self, owner: Owner) -> bool:
        """Whether it has its address."""
        return owner in self._held

    def keep(self, owner: Owner) -> None:
        """Give the address back unless it is wanted."""
        network, number = self._held[owner]
        spec = self.spec(owner.key)
        if spec is None or (network, number) != _wanted(owner, spec):
            del self._held[owner]
            self.core.wake(self.core.claims.release(address_space(network), number, owner))

    @property
    def steps(self) -> tuple[Step, ...]:
        """The address, if it is free."""
        return (self._claim,)

    def _claim(self, owner: Owner) -> tuple[Fault, ...]:
        spec = self.spec(owner.key)
        if spec is None:
            return ()
        network, number = _wanted(owner, spec)
        if network not in self._networks.ready:
            message = f"VirtualNetwork {network} does not exist or is not ready: create it"
            return (Fault("spec.networkRef.name", "NetworkNotFound", message),)
        space = address_space(network)
        if not self.core.claims.take(space, number, owner):
            self.core.claims.wait(space, number, owner)
            holder = self.core.claims.holder(space, number)
            return (taken("spec.address", "AddressConflict", spec.address, holder),)
        self._held[owner] = network, number
        return ()


def _wanted(owner: Owner, spec: ReservationSpec) -> tuple[str, int]:
    return sibling(owner.key, spec.network_ref.name), address_number(spec.address)
