# SPDX-License-Identifier: Apache-2.0
"""What the engine has of each network: pure, no I/O."""

from collections import defaultdict
from collections.abc import Iterable

from headrace_api import NetworkState, routes_digest, slice_revision
from headrace_dataplane.protocol import Refusal
from headrace_dataplane.source import Snapshot

# Of a network: 4096 of them must fit into one object.
_MESSAGE_CHARACTERS = 256


def network_states(snapshot: Snapshot, refused: Iterable[Refusal]) -> tuple[NetworkState, ...]:
    """Return the state of every network of a snapshot that the engine has, but for the refused."""
    out = {(refusal.kind, refusal.key): refusal for refusal in refused}
    revisions: defaultdict[str, list[int]] = defaultdict(list)
    bad: dict[str, Refusal] = {key: why for (kind, key), why in out.items() if kind == "network"}
    for part in snapshot.slices:
        metadata = part.metadata
        why = out.get(("routes", metadata.name))
        if why is not None:
            # What the engine had of it before stays in force, and is not what was asked for.
            bad.setdefault(part.spec.network, why)
            continue
        revisions[part.spec.network].append(
            slice_revision(metadata.name, metadata.uid, metadata.generation)
        )
    states = []
    for network in snapshot.config.spec.networks:
        key = f"{network.namespace}/{network.name}"
        why = bad.get(key)
        states.append(
            NetworkState(
                namespace=network.namespace,
                name=network.name,
                digest=routes_digest(revisions[key]),
                reason=(why.reason or "Refused") if why is not None else "",
                message=str(why)[:_MESSAGE_CHARACTERS] if why is not None else "",
            )
        )
    return tuple(states)
