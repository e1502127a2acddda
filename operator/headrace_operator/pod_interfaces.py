# SPDX-License-Identifier: Apache-2.0
"""The Interfaces that pods ask for by annotation, and what events tell of those they lack."""

from headrace_api import Json
from headrace_kube import INTERFACES, NAMESPACES, PODS

from . import objects, pods
from .cache import Cache
from .desired import Desired
from .observed import Observed
from .render import Transition
from .statuses import Statuses
from .work import Work


class PodInterfaces:
    """Desires the Interfaces of annotated pods. Not thread-safe."""

    def __init__(
        self, cache: Cache, observed: Observed, desired: Desired, statuses: Statuses
    ) -> None:
        self._cache = cache
        self._observed = observed
        self._desired = desired
        self._statuses = statuses
        # Pod -> Interfaces that it is to have; pod -> why it cannot have what it asks for.
        self._interfaces: dict[str, frozenset[str]] = {}
        self._rejected: dict[str, Transition] = {}
        # Pod -> one of its Interfaces whose device it runs without, and the event of that.
        self._without_device: dict[str, tuple[str, Transition]] = {}

    def desire(self, pod: str, item: Json | None) -> None:
        """Desire the Interfaces that the pod (None: it is gone) asks for, and no others."""
        if self._rejected.pop(pod, None):
            self._statuses.enqueue(PODS, pod)
        if item is None:
            self._without_device.pop(pod, None)
        try:
            desired = pods.interfaces(item, self._choose_pipeline) if item else {}
        except pods.PodError as error:
            # What it had before stays: a mistake must not cut a pod off.
            self._reject(pod, error.reason, str(error))
            return
        for gone in self._interfaces.get(pod, frozenset()).difference(desired):
            self._desired.put(Work(INTERFACES, gone), None)
        self._interfaces[pod] = frozenset(desired)
        if not desired:
            del self._interfaces[pod]
        for key, interface in desired.items():
            self._desired.put(Work(INTERFACES, key), interface)
            found = self._cache.get(INTERFACES, key)
            if found and not objects.is_owned(found) and pods.pod_key(found) != pod:
                message = f"Interface {key} exists and is not of this pod: delete or rename it"
                self._reject(pod, "InterfaceExists", message)

    def desire_again(self, pod: str) -> None:
        """Desire the pod's Interfaces as it is now."""
        self.desire(pod, self._cache.get(PODS, pod))

    def retry(self) -> None:
        """Try again to make what could not be made: there may be a Pipeline for it now."""
        for pod in tuple(self._rejected):
            self.desire_again(pod)

    def refused(self, interface: str, why: str) -> None:
        """The API server refuses an Interface, or (no why) does not any more."""
        desired = self._desired.get(Work(INTERFACES, interface))
        if desired is None:
            return
        pod = pods.pod_key(desired)
        if why:
            self._reject(pod, "InterfaceRefused", f"Interface {interface} is refused: {why}")
        else:
            self.desire_again(pod)

    def is_retained(self, interface: Json) -> bool:
        """Whether an Interface that no pod asks for stays for now.

        Its pod's annotation cannot be read, a StatefulSet keeps its addresses, or it is the garbage
        collector's, as its pod is gone.
        """
        key = pods.pod_key(interface)
        pod = self._cache.get(PODS, key)
        kept = pods.is_kept(interface)
        return not pod or key in self._rejected or (kept and pods.is_completed(pod))

    def event(self, pod: str) -> Transition | None:
        """What is wrong with the annotations of a pod, or with what it was started with."""
        if pod in self._rejected:
            return self._rejected[pod]
        return self._without_device[pod][1] if pod in self._without_device else None

    def without_device(self, key: str, interface: Json, gone: bool) -> Transition | None:
        """The event of a pod that runs without the Interface's device; None: it does not.

        `gone` is whether the agent reports that the device is gone.
        """
        name = pods.pod_key(interface)
        pod = self._cache.get(PODS, name)
        known = self._without_device.get(name)
        if not (gone and pod and pods.is_plugged(pod)):
            if known and known[0] == key:
                del self._without_device[name]
                self._statuses.enqueue(PODS, name)
            return None
        event = Transition(
            "Warning",
            "PodWithoutDevice",
            f"Pod {name} runs without the device of Interface {key}: it started when its node"
            " asked nobody for it, or the device was removed: delete the pod, so that it is started"
            " again",
        )
        if not known:
            self._without_device[name] = key, event
            self._statuses.enqueue(PODS, name)
        return event

    def forget_interface(self, interface: str) -> None:
        """The Interface is gone."""
        for pod in [pod for pod, (key, _) in self._without_device.items() if key == interface]:
            del self._without_device[pod]

    def _reject(self, pod: str, reason: str, message: str) -> None:
        self._rejected[pod] = Transition("Warning", reason, message)
        self._statuses.enqueue(PODS, pod)

    def _choose_pipeline(self, interface: str) -> str:
        namespace, _ = objects.name_of(interface)
        return pods.choose_pipeline(
            namespace,
            self._cache.get(INTERFACES, interface),
            self._cache.get(NAMESPACES, namespace),
            self._observed.pipelines,
        )
