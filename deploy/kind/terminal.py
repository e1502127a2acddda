# SPDX-License-Identifier: Apache-2.0
"""Commands shown as one would type them, and what they say."""

import os
import queue
import re
import shlex
import shutil
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable
from pathlib import Path

from headrace_cli.errors import CommandError

REPOSITORY = Path(__file__).resolve().parents[2]
"""Where all commands run."""
_PATIENCE_SECONDS = 2.0
_POLL_SECONDS = 1.0
_WIDTH = 100
_LAST_LINES = 15


class Terminal:
    """Shows every command and its output; what takes longer than two seconds counts them."""

    def __init__(self) -> None:
        """Without a terminal, seconds are printed once, at the end."""
        self._step = 0
        self._live = sys.stdout.isatty()

    def title(self, text: str) -> None:
        """Begin a step."""
        self._step += 1
        mark = ("\033[1m", "\033[0m") if self._live else ("", "")
        print(f"\n{mark[0]}{self._step}. {text}{mark[1]}\n", flush=True)

    def say(self, text: str) -> None:
        """Explain."""
        print(textwrap.fill(" ".join(text.split()), _WIDTH), flush=True)

    def show(self, command: str, output: str = "") -> None:
        """Print a command, and what it would print."""
        print(f"$ {command}", flush=True)
        if output:
            print(textwrap.indent(output.rstrip("\n"), "  "), flush=True)

    def run(self, *words: str | Path, keep: str = "", status: int = 0, hint: str = "") -> str:
        """Run a command, show it and its output, and return that.

        `keep` is a pattern of the lines to be shown; by default all are. Raises CommandError, which
        ends with `hint` (what to do now), when it exits with another status than `status`.
        """
        self.show(_typed(words))
        begun = time.monotonic()
        said: list[str] = []
        with _start(words, subprocess.STDOUT) as process:
            lines: queue.SimpleQueue[str | None] = queue.SimpleQueue()
            reader = threading.Thread(target=_read, args=(process, lines), daemon=True)
            reader.start()
            while (line := self._next(lines, begun)) is not None:
                said.append(line)
                if not keep or re.search(keep, line):
                    self._clear()
                    print(f"  {line}", end="", flush=True)
        self._done(begun)
        if process.returncode != status:
            # What was not shown may be what is wrong.
            print("".join(f"  {line}" for line in said[-_LAST_LINES:] if keep), end="", flush=True)
            what = " ".join((Path(words[0]).name, *map(str, words[1:2])))
            raise CommandError(f"{what}: status {process.returncode}, see above. {hint}".strip())
        return "".join(said)

    def ask(self, *words: str | Path) -> str:
        """Return what a command prints, and show nothing. Raises CommandError with its error."""
        process = _start(words, subprocess.PIPE)
        out, error = process.communicate()
        if process.returncode != 0:
            lines = error.strip().splitlines() or [f"status {process.returncode}"]
            raise CommandError(f"{_typed(words)}: {lines[-1]}")
        return out

    def wait(self, condition: Callable[[], bool], what: str, seconds: float) -> None:
        """Wait until `condition` is true. Raises CommandError, "not within N s: `what`"."""
        begun = time.monotonic()
        while not condition():
            if time.monotonic() > begun + seconds:
                self._clear()
                raise CommandError(f"not within {seconds:.0f} s: {what}")
            self._tick(begun)
            time.sleep(_POLL_SECONDS)
        self._done(begun)

    def _next(self, lines: "queue.SimpleQueue[str | None]", begun: float) -> str | None:
        while True:
            try:
                return lines.get(timeout=_POLL_SECONDS)
            except queue.Empty:
                self._tick(begun)

    def _tick(self, begun: float) -> None:
        seconds = time.monotonic() - begun
        if self._live and seconds > _PATIENCE_SECONDS:
            print(f"\r  {seconds:.0f} s ", end="", flush=True)

    def _clear(self) -> None:
        if self._live:
            print("\r\033[K", end="")

    def _done(self, begun: float) -> None:
        self._clear()
        seconds = time.monotonic() - begun
        if seconds > _PATIENCE_SECONDS:
            print(f"  ({seconds:.0f} s)", flush=True)


def _start(words: tuple[str | Path, ...], error: int) -> "subprocess.Popen[str]":
    found = shutil.which(words[0])
    if found is None:
        raise CommandError(f"{words[0]} is not installed")
    return subprocess.Popen(
        [found, *words[1:]],
        cwd=REPOSITORY,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=error,
        text=True,
        errors="replace",
        env=os.environ,
    )


def _read(process: "subprocess.Popen[str]", lines: "queue.SimpleQueue[str | None]") -> None:
    for line in process.stdout or ():
        lines.put(line)
    lines.put(None)


def _typed(words: tuple[str | Path, ...]) -> str:
    """Return the command with short paths, in as many lines as it needs."""
    program, *rest = (shlex.quote(short(word)) for word in words)
    lines = [program]
    for word in rest:
        if len(lines[-1]) + len(word.partition("\n")[0]) > _WIDTH - 6:
            lines[-1] += " \\"
            lines.append(f"    {word}")
        else:
            lines[-1] += f" {word}"
    return "\n".join(lines)


def short(word: str | Path) -> str:
    """Return a path as one sees it from the repository; other words as they are."""
    return str(word).removeprefix(f"{REPOSITORY}/")
