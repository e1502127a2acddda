# SPDX-License-Identifier: Apache-2.0
"""Where tests draw from: the same every time, for a draw must not decide whether work lands."""

import os
import random

VARIABLE = "HEADRACE_TEST_SEED"
"""Names another seed: a number, or `new` for one that nobody knows yet."""


def asked() -> int | None:
    """The seed that was asked for; None: that of every day."""
    word = os.environ.get(VARIABLE, "")
    if word == "new":
        word = os.environ[VARIABLE] = str(random.SystemRandom().randrange(10**6))
    return int(word) if word else None


def seed() -> int:
    """The seed of a test that draws for itself."""
    found = asked()
    return 1 if found is None else found
