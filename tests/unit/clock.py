# SPDX-License-Identifier: Apache-2.0
"""An event loop whose time jumps to the next timer as soon as nothing else is to be done."""

import asyncio
import functools
import selectors
from collections.abc import Callable, Coroutine
from typing import Any

_LONGEST = 30.0


class _Selector(selectors.SelectSelector):
    now = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if timeout is None:
            # For a thread, for there is no timer.
            found = super().select(_LONGEST)
            if not found:
                raise RuntimeError("everything waits, and nothing will happen")
            return found
        found = super().select(0)
        if not found:
            self.now += max(timeout, 0.0)
        return found


class _Loop(asyncio.SelectorEventLoop):
    def __init__(self) -> None:
        self._jumping = _Selector()
        super().__init__(self._jumping)

    def time(self) -> float:
        return self._jumping.now


def in_no_time(test: Callable[..., Coroutine[Any, Any, None]]) -> Callable[..., None]:
    """Run an asynchronous test in such a loop."""

    @functools.wraps(test)
    def run(*arguments: Any, **named: Any) -> None:
        with asyncio.Runner(loop_factory=_Loop) as runner:
            runner.run(test(*arguments, **named))

    return run


def now() -> float:
    """Seconds since the test began, as the loop sees it."""
    return asyncio.get_running_loop().time()
