# SPDX-License-Identifier: Apache-2.0
"""Headrace's operator: compiles user objects into what dataplanes read."""
