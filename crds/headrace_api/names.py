# SPDX-License-Identifier: Apache-2.0
"""Names that operator, dataplane and command line must agree on."""

#: Where Headrace is installed, and its compiled objects are, unless told otherwise.
SYSTEM_NAMESPACE = "headrace-system"
#: Label with the Pipeline of a DataplaneConfig, DaemonSet or dataplane pod.
PIPELINE_LABEL = "headrace.dev/pipeline"
#: Where the engine's sockets are in a dataplane pod.
RUNTIME_DIRECTORY = "/run/headrace/engine"
