# SPDX-License-Identifier: Apache-2.0
import time

from headrace_dataplane.http import LAG_SECONDS, unready
from headrace_dataplane.protocol import Hello, Refusal
from headrace_dataplane.state import AgentState

HELLO = Hello(
    protocol=1, version="0.1.0", dpdk="DPDK 22.11.11", pid=1, generation=1, telemetry="/t"
)


def test_ready_is_an_engine_with_the_newest_known_configuration() -> None:
    state = AgentState(wanted_generation=4, wanted_since=time.monotonic())
    assert "does not run" in unready(state)
    state.hello = HELLO
    assert "no configuration" in unready(state)
    state.ready, state.active_generation = True, 4
    assert unready(state) == ""
    # A device that is missing is a condition.
    state.refused = (Refusal("port", "a/vm1", "devargs", "PrepareFailed", "no such device"),)
    state.interfaces = {"a/vm1": False}
    assert unready(state) == ""
    # Every change takes a moment.
    state.wanted_generation = 5
    assert unready(state) == ""
    state.wanted_since -= LAG_SECONDS
    assert "generation 4 of the configuration, not 5" in unready(state)
