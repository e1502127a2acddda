# SPDX-License-Identifier: Apache-2.0
"""How a command ends early."""


class CommandError(Exception):
    """Ends the command with one line on stderr and status 1."""
