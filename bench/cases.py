# SPDX-License-Identifier: Apache-2.0
"""What is measured: packets in, and the routes they meet."""

import random
from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network
from typing import Literal

Job = Literal["route", "encap", "decap"]
FLOWS = {"1": 1, "4k": 4096, "1M": 1_000_000}
ROUTES = {"1": 1, "10k": 10_000, "1M": 1_000_000}

NEAR4 = IPv4Network("48.0.0.0/8")
NEAR6 = IPv6Network("2001:db8::/32")
ALL4 = IPv4Network("0.0.0.0/0")
ALL6 = IPv6Network("2000::/3")


@dataclass(frozen=True)
class Case:
    """One row of the table; `flows` and `routes` are keys of FLOWS and ROUTES."""

    family: Literal[4, 6]
    job: Job
    flows: str = "4k"
    routes: str = "1"

    @property
    def name(self) -> str:
        """Name as in `build/bench.json`: ipv4-4k, ipv6-4k-1Mroutes, encap4-1."""
        base = f"ipv{self.family}" if self.job == "route" else f"{self.job}{self.family}"
        return f"{base}-{self.flows}" + ("" if self.routes == "1" else f"-{self.routes}routes")

    @property
    def destinations(self) -> IPv4Network | IPv6Network:
        """Where the packets go: all over the address space when the table covers it."""
        if self.family == 4:
            return ALL4 if self.routes == "1M" else NEAR4
        return ALL6 if self.routes == "1M" else NEAR6

    def prefixes(self) -> Iterator[str]:
        """Yield the routes: one that covers all, and random more specific ones."""
        yield str(self.destinations)
        count = ROUTES[self.routes] - 1
        if count == 0:
            return
        rng = random.Random(self.name)
        # Near a full Internet table's: mostly /24, or /48.
        lengths = (24, 24, 24, 24, 24, 24, 23, 22, 22, 21, 20, 19, 18, 16)
        lengths6 = (48, 48, 48, 48, 48, 48, 47, 46, 44, 44, 40, 36, 33)
        seen: set[tuple[int, int]] = set()
        base, bits = int(self.destinations.network_address), self.destinations.max_prefixlen
        top = bits - self.destinations.prefixlen
        while len(seen) < count:
            length = rng.choice(lengths if self.family == 4 else lengths6)
            if self.routes == "10k":
                length = 24 if self.family == 4 else 48
            address = (base + rng.getrandbits(top)) >> (bits - length) << (bits - length)
            if (address, length) in seen or (self.family == 4 and unroutable(address)):
                continue
            seen.add((address, length))
            network = IPv4Network if self.family == 4 else IPv6Network
            yield str(network((address, length)))


def unroutable(address: int) -> bool:
    """Return whether no network routes this IPv4 address: 0/8, 127/8, 224/3; and the test's."""
    return address >> 24 in (0, 10, 127) or address >> 29 == 7


CASES = (
    *(Case(family, "route", flows) for family in (4, 6) for flows in FLOWS),
    *(Case(family, "route", "4k", routes) for family in (4, 6) for routes in ("10k", "1M")),
    *(
        Case(family, job, flows)
        for job in ("encap", "decap")
        for family in (4, 6)
        for flows in FLOWS
    ),
)
