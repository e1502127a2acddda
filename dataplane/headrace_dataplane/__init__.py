# SPDX-License-Identifier: Apache-2.0
"""The agent of a node: brings the engine to its configuration, reports, and serves metrics."""
