# SPDX-License-Identifier: Apache-2.0
"""Registers the kind where kinds are registered, before anything asks, and runs a program."""

import runpy
import sys

from headrace_api import kinds as models
from headrace_compiler import kinds as compiled
from headrace_compiler.interface import Interfaces
from tests.toy.compiled import Reservations
from tests.toy.reservation import Reservation

models.KINDS.append(Reservation)
compiled.KINDS.insert(compiled.KINDS.index(Interfaces), Reservations)

if __name__ == "__main__":
    del sys.argv[0]
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
