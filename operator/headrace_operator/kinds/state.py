# SPDX-License-Identifier: Apache-2.0
"""What the handlers of all kinds share."""

from headrace_api import Json
from headrace_operator.allocated import Allocated
from headrace_operator.cache import Cache
from headrace_operator.dataplanes import Dataplanes
from headrace_operator.desired import Desired
from headrace_operator.node_states import NodeStates
from headrace_operator.observed import Observed
from headrace_operator.pod_interfaces import PodInterfaces
from headrace_operator.progress import Progress
from headrace_operator.settings import Settings
from headrace_operator.startup import Startup
from headrace_operator.statuses import Statuses
from headrace_operator.work import Queue


class State:
    """Parts of one concern each."""

    def __init__(
        self, namespace: str, settings: Settings, owner: Json, cache: Cache, queue: Queue
    ) -> None:
        """`owner` is the ownerReference of everything that is made."""
        self.namespace = namespace
        self.settings = settings
        self.cache = cache
        self.queue = queue
        self.observed = Observed(namespace, settings.dataplane.sockets)
        self.allocated = Allocated(namespace)
        self.desired = Desired(owner, queue.add)
        self.progress = Progress(cache, self.desired, namespace)
        self.statuses = Statuses(cache, queue, self.observed)
        self.pods = PodInterfaces(cache, self.observed, self.desired, self.statuses)
        self.dataplanes = Dataplanes(settings, namespace, cache, self.desired)
        self.node_states = NodeStates(cache, self.desired, enabled=settings.node_agent)
        self.startup = Startup(namespace if settings.node_agent else None)
