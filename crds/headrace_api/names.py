# SPDX-License-Identifier: Apache-2.0
"""Names that operator, dataplane and command line must agree on."""

#: Where Headrace is installed, and its compiled objects are, unless told otherwise.
SYSTEM_NAMESPACE = "headrace-system"
#: Label with the Pipeline of a DataplaneConfig, DaemonSet or dataplane pod.
PIPELINE_LABEL = "headrace.dev/pipeline"
#: Taint with which nodes may register; it goes when the node agent is ready there.
STARTUP_TAINT = "headrace.dev/agent-not-ready"
#: Where the engine's sockets are in a dataplane pod.
RUNTIME_DIRECTORY = "/run/headrace/engine"
#: Seconds without a renewal after which an agent's Lease is stale, unless told otherwise, and the
#: environment variable that tells agents.
LEASE_SECONDS = 40
LEASE_SECONDS_VARIABLE = "HEADRACE_LEASE_SECONDS"
