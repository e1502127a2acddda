# SPDX-License-Identifier: Apache-2.0
"""Whatever happens, in whatever order: what is there is what the objects compile to.

HEADRACE_TEST_CHURN_SECONDS says for how long things happen. The same seed repeats what happened,
as far as timing lets it.
"""

import difflib
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from headrace_api import Json
from headrace_kube import DAEMON_SETS, NAMESPACES, PIPELINES
from tests import seeds
from tests.cluster.churn import CHURNED, Picture, Replicas, Walk, is_stable
from tests.cluster.cluster import Cluster
from tests.cluster.operators import Operator
from tests.cluster.sandbox import CommandError, until

CHURN_SECONDS = float(os.environ.get("HEADRACE_TEST_CHURN_SECONDS", "60"))
SEED = seeds.seed()
STARTS = 10
SETTLED_SECONDS = 120.0


@pytest.fixture
def walk(control_plane: Cluster) -> Iterator[Walk]:
    with Walk(control_plane) as made:
        made.install()
        made.clear()
        try:
            yield made
        finally:
            made.clear()
            made.uninstall()
            made.delete(NAMESPACES, *CHURNED)


def test_churn(
    control_plane: Cluster, walk: Walk, tmp_path: Path, say: Callable[[str], None]
) -> None:
    say(f"{seeds.VARIABLE}={SEED}")
    kubeconfig = walk.write_kubeconfig(tmp_path)
    walk.begin(SEED)
    deadline = time.monotonic() + CHURN_SECONDS
    with Replicas(kubeconfig, tmp_path) as replicas, walk.agents():
        walk.replicas = replicas
        picture = settled(walk, replicas)
        rounds = 0
        while time.monotonic() < deadline:
            picture = one_round(control_plane, walk, replicas, picture)
            rounds += 1
        assert not replicas.failures()
        assert_nothing_to_do(walk, replicas, kubeconfig, tmp_path / "last")
        say(f"{rounds} rounds, {len(replicas.logs)} operators, {dict(walk.counts)}")


def one_round(cluster: Cluster, walk: Walk, replicas: Replicas, before: Picture) -> Picture:
    """Let things happen; when they have settled, all is as it should be, and nothing moved."""
    for _ in range(walk.random.randint(1, 8)):
        for _ in range(walk.random.randint(1, 15)):
            walk.step()
        if walk.random.random() < 0.1:
            walk.trail.append("the API server restarts")
            walk.counts["restart_api_server"] += 1
            cluster.stop_api_server()
            # At times for longer than the Lease lasts.
            wait(walk.random.choice((0.0, 1.0, 3.0, 12.0)))
            cluster.start_api_server()
        wait(walk.random.choice((0.0, 0.1, 0.5, 2.0)))
        replicas.tend()
    walk.mend()
    after = settled(walk, replicas)
    assert not after.moved(before, walk.edited), story(walk)
    walk.edited.clear()
    for kind in after.objects:
        kept = {key for key in before.objects[kind] if is_stable(kind, key)}
        assert kept <= after.objects[kind].keys(), story(walk)
    return after


def settled(walk: Walk, replicas: Replicas) -> Picture:
    """Wait until there is nothing to complain about."""
    complaints: list[str] = []
    picture: list[Picture] = []

    def fine() -> bool:
        replicas.tend()
        picture[:] = [Picture(walk)]
        complaints[:] = picture[0].complaints()
        return not complaints

    try:
        until(fine, "all is as it should be", SETTLED_SECONDS)
    except CommandError as error:
        raise AssertionError("\n".join([str(error), *complaints, story(walk)])) from error
    return picture[0]


def assert_nothing_to_do(walk: Walk, replicas: Replicas, kubeconfig: Path, folder: Path) -> None:
    """The command line sees no difference; an operator that starts has nothing to write."""
    until(lambda: not going(walk), "namespaces that are deleted are gone", SETTLED_SECONDS)
    until(lambda: any(each.idle for each in replicas.running), "it is idle", SETTLED_SECONDS)
    diff = subprocess.run(
        [sys.executable, "-m", "headrace_cli.main", "compile", "--diff"],
        env={**os.environ, "KUBECONFIG": str(walk.api.kubeconfig)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (diff.returncode, diff.stdout, diff.stderr) == (0, "", "")
    # What the cluster's own controllers say goes into the status of Pipelines: whoever starts
    # after they said something else has that to write.
    earlier = walk.all(DAEMON_SETS)
    until(lambda: any(each.idle for each in replicas.running), "it is idle", SETTLED_SECONDS)
    for operator in replicas.running:
        operator.stop()
    for attempt in range(STARTS):
        versions, before = walk.versions(), walk.all(PIPELINES)
        with Operator(kubeconfig, folder / str(attempt)) as operator:
            until(lambda: operator.leads, "it leads", SETTLED_SECONDS)
            seen = walk.all(DAEMON_SETS)
            until(lambda: operator.idle, "it is idle", SETTLED_SECONDS)
            if operator.metric("writes_total") == 0:
                assert walk.versions() == versions
                return
            operator.stop()
            said = operator.log.read_text()
        moved = [statuses(earlier), statuses(walk.all(DAEMON_SETS))]
        written = [statuses(before), statuses(walk.all(PIPELINES))]
        assert moved[0] != moved[1], difference(*written) + said
        earlier = seen
    raise AssertionError(difference(*moved) + difference(*written) + said)


def statuses(items: dict[str, Json]) -> Json:
    return {key: item.get("status") for key, item in items.items()}


def difference(before: Json, after: Json) -> str:
    """What differs, a line for each."""
    old, new = (json.dumps(each, indent=1, sort_keys=True).splitlines() for each in (before, after))
    return "\n".join((*difflib.unified_diff(old, new, lineterm=""), ""))


def going(walk: Walk) -> bool:
    """Whether a namespace is being emptied, which changes what is there."""
    return any("deletionTimestamp" in each["metadata"] for each in walk.all(NAMESPACES).values())


def wait(seconds: float) -> None:
    began = time.monotonic()
    until(lambda: time.monotonic() >= began + seconds, "time passes", 60)


def story(walk: Walk) -> str:
    return "\n".join([f"{seeds.VARIABLE}={SEED}, the last steps:", *walk.trail[-150:]])
