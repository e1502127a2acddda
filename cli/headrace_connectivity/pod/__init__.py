# SPDX-License-Identifier: Apache-2.0
"""What runs in the test's pods: it imports nothing but the standard library and itself."""
