# SPDX-License-Identifier: Apache-2.0
"""New nodes: they take pods that name a network once their node agent is asked about pods.

A node may register with the taint headrace.dev/agent-not-ready, of any effect. It is taken away
when node and node agent are ready, and never put there: a runtime that has been told of the node
agent once asks it for ever.
"""

from headrace_api import STARTUP_TAINT, Json
from headrace_api.raw import mapping, part, text

from . import objects


class Startup:
    """Which nodes have an agent that is ready, and what is then to become of their taint. Pure."""

    def __init__(self, namespace: str | None) -> None:
        """`namespace` is the agents'; None: there are none, and all taints stay."""
        self._namespace = namespace
        # Node -> the pod of its agent, while that is ready.
        self._ready: dict[str, str] = {}

    def observe(self, pod: Json, *, there: bool) -> str:
        """Take a pod that has changed, or is not `there` any more; returns its node."""
        key, node = objects.key(pod), text(part(pod, "spec").get("nodeName"))
        # Anybody may give a pod the agent's labels, in a namespace of his own.
        if objects.name_of(key)[0] == self._namespace and objects.is_node_agent(pod):
            if there and objects.is_ready(pod) and not objects.is_going(pod):
                self._ready[node] = key
            elif self._ready.get(node) == key:
                del self._ready[node]
        return node

    def admission(self, node: Json | None) -> Json | None:
        """What to merge into a node so that it takes pods; None: nothing, or not yet.

        That the node is ready, too, says that its kubelet knows of the agent: one that has its
        name again has its pods, as they were on the node before.
        """
        if not (node and objects.waits(node) and objects.is_ready(node)):
            return None
        if objects.key(node) not in self._ready:
            return None
        metadata = part(node, "metadata")
        others = [
            taint for taint in objects.taints(node) if mapping(taint).get("key") != STARTUP_TAINT
        ]
        return {
            # What came meanwhile is a conflict.
            "metadata": {name: metadata[name] for name in ("uid", "resourceVersion")},
            "spec": {"taints": others},
        }
