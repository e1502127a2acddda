# SPDX-License-Identifier: Apache-2.0
"""The operator's pure half: raw objects in, DaemonSets and statuses out; no I/O and no clock."""

from headrace_operator.settings import Settings, SettingsError

from .allocations import load_allocations
from .conditions import Transition, Verdict, left_over, same, transition
from .daemon_set import class_name, daemon_sets
from .parse import parse
from .policies import PolicyReport, device_policy_status, policy_report
from .report import (
    NetworkReport,
    Report,
    alignment,
    features,
    interface_reports,
    network_reports,
    not_forwarding,
)
from .status import (
    NetworkProgress,
    compiled_status,
    endpoint_status,
    interface_status,
    network_status,
    pipeline_status,
    unreachable,
    unwritten,
    withdrawn_nodes,
)

__all__ = [
    "NetworkProgress",
    "NetworkReport",
    "PolicyReport",
    "Report",
    "Settings",
    "SettingsError",
    "Transition",
    "Verdict",
    "alignment",
    "class_name",
    "compiled_status",
    "daemon_sets",
    "device_policy_status",
    "endpoint_status",
    "features",
    "interface_reports",
    "interface_status",
    "left_over",
    "load_allocations",
    "network_reports",
    "network_status",
    "not_forwarding",
    "parse",
    "pipeline_status",
    "policy_report",
    "same",
    "transition",
    "unreachable",
    "unwritten",
    "withdrawn_nodes",
]
