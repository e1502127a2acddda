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
    """Return the state of every network of a snapshot that the engine has, but for the refused.

    Networks that could not be read are among them.
    """
    out = {(refusal.kind, refusal.key): refusal for refusal in refused}
    revisions: defaultdict[str, list[int]] = defaultdict(list)
    bad = {key: _why(refusal) for (kind, key), refusal in out.items() if kind == "network"}
    unread: set[str] = set()
    for problem in snapshot.problems:
        if problem.kind == "VirtualNetwork" and problem.namespace and problem.name:
            key = f"{problem.namespace}/{problem.name}"
            bad.setdefault(key, (problem.reason, problem.message))
            unread.add(problem.source)
    for part in snapshot.slices:
        metadata = part.metadata
        why = out.get(("routes", metadata.name))
        if why is not None:
            # What the engine had of it before stays in force, and is not what was asked for.
            bad.setdefault(part.network, _why(why))
            continue
        if metadata.name in unread:
            continue
        revisions[part.network].append(
            slice_revision(metadata.name, metadata.uid, metadata.generation)
        )
    present = {f"{each.namespace}/{each.name}" for each in snapshot.config.spec.networks}
    states = []
    for key in sorted(present | bad.keys()):
        reason, message = bad.get(key, ("", ""))
        namespace, _, name = key.partition("/")
        states.append(
            NetworkState(
                namespace=namespace,
                name=name,
                digest=routes_digest(revisions[key]) if key in present else "",
                reason=reason,
                message=message[:_MESSAGE_CHARACTERS],
            )
        )
    return tuple(states)


def _why(refusal: Refusal) -> tuple[str, str]:
    return refusal.reason or "Refused", str(refusal)
