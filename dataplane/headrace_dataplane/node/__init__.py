# SPDX-License-Identifier: Apache-2.0
"""The node agent: gives the pods of its node their devices, behind the CNI plugin."""
