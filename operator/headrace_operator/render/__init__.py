# SPDX-License-Identifier: Apache-2.0
"""The operator's pure half: raw objects in, DaemonSets and statuses out; no I/O and no clock."""

from headrace_operator.settings import Settings, SettingsError

from .allocations import load_allocations
from .conditions import Transition, transition
from .daemon_set import class_name, daemon_sets
from .raw import parse
from .report import Report, is_current, reports
from .status import interface_status, network_status, pipeline_status

__all__ = [
    "Report",
    "Settings",
    "SettingsError",
    "Transition",
    "class_name",
    "daemon_sets",
    "interface_status",
    "is_current",
    "load_allocations",
    "network_status",
    "parse",
    "pipeline_status",
    "reports",
    "transition",
]
