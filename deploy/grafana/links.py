# SPDX-License-Identifier: Apache-2.0
"""Ways from a series to the dashboard of what it is about."""

from .panels import Link

NODE = Link("This node", "headrace-node", {"pipeline": "pipeline", "node": "node"})
