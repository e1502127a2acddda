# SPDX-License-Identifier: Apache-2.0
"""What shells are offered: the real programs, asked as shells and kubectl ask them."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from headrace_cli.main import COMMANDS, LOCAL


def shell(line: str, tmp_path: Path) -> list[str]:
    """Candidates for a line with the cursor at its end, as argcomplete's scripts ask for them."""
    answer = tmp_path / "answer"
    environment = os.environ | {
        "_ARGCOMPLETE": "1",
        "_ARGCOMPLETE_IFS": "\n",
        "_ARGCOMPLETE_STDOUT_FILENAME": str(answer),
        "COMP_LINE": line,
        "COMP_POINT": str(len(line)),
    }
    words = (sys.executable, "-m", "headrace_cli.main")
    done = subprocess.run(words, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return [each.strip() for each in answer.read_text().split("\n")]


def test_a_shell_is_offered_commands_and_options(tmp_path: Path) -> None:
    assert set(shell("headrace ", tmp_path)) >= COMMANDS.keys()
    assert shell("headrace conn", tmp_path) == ["connectivity"]
    assert set(shell("headrace compile --", tmp_path)) >= {"--filename", "--node", "--diff"}
    assert set(shell("headrace compile -o ", tmp_path)) == {"yaml", "json"}
    # An open quote is no reason to fail.
    assert shell("headrace 'com", tmp_path) == ["compile"]


@pytest.mark.parametrize(
    ("words", "offered"),
    [
        ([""], set(COMMANDS) - LOCAL),
        (["rou"], {"routes"}),
        (["compile", "--di"], {"--diff"}),
        (["compile", "-o", ""], {"yaml", "json"}),
    ],
)
def test_kubectl_is_offered_what_its_plugin_has(words: list[str], offered: set[str]) -> None:
    program = (sys.executable, "-m", "headrace_cli.completion", *words)
    answer = subprocess.run(program, capture_output=True, text=True, check=True).stdout
    *found, directive = answer.splitlines()
    assert directive == ":4"
    assert {*found} - {"-h", "--help"} == offered


@pytest.mark.parametrize("words", [["conn"], ["connectivity", ""]])
def test_what_is_not_installed_is_not_offered(words: list[str]) -> None:
    code = (
        "import sys; sys.modules['headrace_connectivity'] = None; "
        "from headrace_cli.completion import kubectl; kubectl(sys.argv[1:])"
    )
    program = (sys.executable, "-c", code, *words)
    answer = subprocess.run(program, capture_output=True, text=True, check=True).stdout
    assert "connectivity" not in answer
    assert "test" not in answer
    assert answer.endswith(":4\n")
