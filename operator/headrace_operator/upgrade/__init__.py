# SPDX-License-Identifier: Apache-2.0
"""What an upgrade does before the new release comes: objects of the old API become new ones."""
