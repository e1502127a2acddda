# SPDX-License-Identifier: Apache-2.0
"""HTTP for kubelet and Prometheus, which nobody on the network can fill up."""

from .certificate import Certificate
from .server import Guard, Reply, Route, Server, Shared, parse_address, text

__all__ = [
    "Certificate",
    "Guard",
    "Reply",
    "Route",
    "Server",
    "Shared",
    "parse_address",
    "text",
]
