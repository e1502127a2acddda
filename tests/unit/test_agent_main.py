# SPDX-License-Identifier: Apache-2.0
"""headrace-agent as a command: what it says when it cannot run."""

import json
import os
import subprocess
import sys

import pytest

WORDS = ("--pipeline=router", "--node=node-a", "--metrics-address=")


def agent(*words: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        (sys.executable, "-m", "headrace_dataplane.main", *words),
        capture_output=True,
        text=True,
        env={**os.environ, "HEADRACE_ENGINE": "true", **environment},
        timeout=120,
        check=False,
    )


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--cpus=x",), "--cpus x: want CPUs"),
        (("--metrics-address=9477",), "--metrics-address: '9477' is not host:port"),
        ((f"--runtime-dir=/{'long' * 20}",), "give a shorter --runtime-dir"),
        (("--kubeconfig=/nonexistent",), "no cluster to talk to"),
    ],
)
def test_what_cannot_be_done_is_said_in_a_line_of_json(
    words: tuple[str, ...], message: str
) -> None:
    done = agent(*WORDS, *words)
    assert done.returncode == 2
    said = [json.loads(line) for line in done.stderr.splitlines()]
    errors = [each["message"] for each in said if each["level"] == "error"]
    assert len(errors) == 1
    assert message in errors[0]


def test_text_for_people() -> None:
    done = agent(*WORDS, "--cpus=x", "--log-format=text")
    assert done.stderr == "E --cpus x: want CPUs such as 1,4-6\n"


def test_wrong_usage() -> None:
    done = agent("--node=node-a")
    assert done.returncode == 2
    assert "--pipeline" in done.stderr
