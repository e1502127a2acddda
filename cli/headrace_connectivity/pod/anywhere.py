# SPDX-License-Identifier: Apache-2.0
"""Asks in any pod that has Python: `python3 -c TEXT PROBES`, with the text of this file.

That is how dataplane pods are asked, whose image has nothing of the test; so this imports nothing
but the standard library. Takes Probes as JSON and prints their Answers, in the same order. All run
at once, each with a time limit of its own. probe.py has more kinds.
"""

import http.client
import json
import os
import socket
import sys
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass


@dataclass(frozen=True)
class Probe:
    """One thing to try; `kind` is a key of KINDS, here or in probe.py."""

    kind: str
    to: str = ""
    """Address, or name."""
    port: int = 0
    """Of who is no endpoint of the test."""
    size: int = 0
    """Bytes to transfer."""
    own: str = ""
    """An address of this pod, of the family of `to`."""
    claim: str = ""
    """The address to send from; empty: the own one, from another MAC address."""
    packets: tuple[str, ...] = ()
    """IP packets to send, hexadecimal."""
    words: tuple[str, ...] = ()
    """What must not have been seen."""
    seconds: float = 10.0
    """For all of it, about."""


@dataclass(frozen=True)
class Answer:
    """What came of it."""

    text: str = ""
    """What was answered, see the kinds."""
    number: int = 0
    """A size in bytes, or how many packets have been sent and answered."""
    error: str = ""
    """Why there is none."""
    skipped: str = ""
    """Why it cannot be tried in this pod."""


Kinds = Mapping[str, Callable[[Probe], Answer]]


def resolve(probe: Probe) -> Answer:
    """Look the name `to` up; `text` is an address."""
    os.environ["RES_OPTIONS"] = "timeout:1 attempts:2"
    try:
        return Answer(text=str(socket.getaddrinfo(probe.to, None)[0][4][0]))
    except socket.gaierror as error:
        return Answer(error=f"{probe.to}: {error.strerror}")


def service(probe: Probe) -> Answer:
    """Read the API server's Service: `text` is its address, `number` its port."""
    found = os.environ
    port = int(found.get("KUBERNETES_SERVICE_PORT", "0"))
    return Answer(text=found.get("KUBERNETES_SERVICE_HOST", ""), number=port)


def fetch(probe: Probe) -> Answer:
    """Get http://`to`:`port`/metrics: `text`."""
    connection = http.client.HTTPConnection(probe.to, probe.port, timeout=probe.seconds)
    connection.request("GET", "/metrics")
    reply = connection.getresponse()
    text = reply.read().decode()
    if reply.status != http.client.OK:
        return Answer(error=f"HTTP status {reply.status}")
    return Answer(text=text)


KINDS: Kinds = {"resolve": resolve, "service": service, "fetch": fetch}


def main(kinds: Kinds) -> None:
    """Try what the command line says, all of it at once, and print what came of it."""
    probes = [Probe(**fields) for fields in json.loads(sys.argv[1])]
    print(json.dumps([asdict(answer) for answer in _run(kinds, probes)]))


def _run(kinds: Kinds, probes: Sequence[Probe]) -> list[Answer]:
    def tried(probe: Probe) -> Answer:
        try:
            return kinds[probe.kind](probe)
        except TimeoutError:
            return Answer(error="no answer")
        except OSError as error:
            return Answer(error=error.strerror or str(error))

    with ThreadPoolExecutor(max(1, len(probes))) as pool:
        return list(pool.map(tried, probes))


if __name__ == "__main__":
    main(KINDS)
