# SPDX-License-Identifier: Apache-2.0
"""What the agent knows about its engine and configuration, for those who serve it to others."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from headrace_dataplane.protocol import Hello, Refusal


@dataclass
class AgentState:
    """Written by the agent's event loop, read by any thread: replace values, never change them."""

    hello: Hello | None = None
    """The running engine; None while there is none."""

    engine_restarts: int = 0
    engine_stalls: int = 0
    """How many of them because a worker no longer walked."""

    wanted_generation: int = 0
    wanted_since: float = 0.0
    """When the wanted generation came, in seconds of time.monotonic()."""

    active_generation: int = 0
    ready: bool = False
    """Whether this agent has brought an engine to a generation at least once."""

    watches: Mapping[str, bool] = field(default_factory=dict)
    """Kind -> whether it is watched at the API server; empty where there is none."""

    refused: tuple[Refusal, ...] = ()
    interfaces: Mapping[str, bool] = field(default_factory=dict)
    """Interface ("namespace/name") -> whether it is ready."""

    networks: Mapping[str, str] = field(default_factory=dict)
    """Interface ("namespace/name") -> its VirtualNetwork ("namespace/name")."""
