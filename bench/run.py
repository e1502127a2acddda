#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Measure Headrace beside its peers; see README.md in this folder."""

import argparse
import json
import os
import platform
import sys
import tempfile
from collections import defaultdict
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from multiprocessing import get_context
from pathlib import Path
from statistics import median

REPOSITORY = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(REPOSITORY))

from bench import compile_bench, loading  # noqa: E402
from bench.cases import CASES, Case  # noqa: E402
from bench.programs import Measurement, Program, Setting, memory_mib  # noqa: E402
from bench.programs.grout import Grout  # noqa: E402
from bench.programs.headrace import Headrace  # noqa: E402
from bench.programs.testpmd import Testpmd, tsc_mhz  # noqa: E402

Row = dict[str, str | float | dict[str, float] | None]
HUGEPAGES = Path("/proc/sys/vm/nr_hugepages")


def arguments() -> argparse.Namespace:
    """Parse the command line."""
    parser = argparse.ArgumentParser(
        prog="headrace bench",
        description=__doc__,
        epilog="example: headrace bench -- --only ipv4-4k,encap4-4k --rounds 5",
    )
    parser.add_argument("--only", metavar="CASE,...", help="only these cases (and no other part)")
    parser.add_argument("--rounds", type=int, default=3, help="rounds of each case (default: 3)")
    parser.add_argument(
        "--grout-root",
        type=Path,
        metavar="DIR",
        help="a root directory in which grout is installed",
    )
    parser.add_argument("--output", type=Path, default=REPOSITORY / "build/bench.json")
    parser.add_argument("-o", dest="format", choices=("table", "json"), default="table")
    return parser.parse_args()


@contextmanager
def hugepages(mib: int) -> Iterator[None]:
    """Have so many MiB of 2 MiB pages reserved; give back what was not there before."""
    before = int(HUGEPAGES.read_text())
    wanted = max(before, mib // 2 + 64)
    if wanted > before:
        HUGEPAGES.write_text(str(wanted))
    try:
        if int(HUGEPAGES.read_text()) < wanted:
            say(f"only {HUGEPAGES.read_text().strip()} of {wanted} hugepages can be had")
        yield
    finally:
        if wanted > before:
            HUGEPAGES.write_text(str(before))


def say(text: str) -> None:
    """Tell the person what happens; the table and the JSON go elsewhere."""
    print(text, file=sys.stderr, flush=True)


def measure(case: Case, programs: list[Program], rounds: int, setting: Setting) -> list[Row]:
    """Let the programs take turns; return a row for each, of medians and ratios."""
    results: dict[str, list[Measurement]] = defaultdict(list)
    able = [program for program in programs if program.runs(case)]
    for turn in range(rounds):
        for program in able:
            say(f"  {case.name}: {program.name}, round {turn + 1} of {rounds}")
            results[program.name].append(program.measure(case, setting))
    rate = {name: median(m.mpps for m in found) for name, found in results.items()}
    return [
        {
            "case": case.name,
            "program": name,
            "mpps": round(rate[name], 2),
            "cycles": round(median(m.cycles for m in found), 1),
            "of_testpmd": ratio(rate[name], rate.get("testpmd")),
            "of_grout": ratio(rate[name], rate.get("grout")),
            "nodes": medians([m.nodes for m in found], 1),
            "latency_us": medians([m.latency for m in found], 2),
        }
        for name, found in results.items()
    ]


def medians(found: list[dict[str, float]], digits: int) -> dict[str, float]:
    """Return the median of each name's values, of those that the first has."""
    return {name: round(median(each.get(name, 0.0) for each in found), digits) for name in found[0]}


def ratio(rate: float, other: float | None) -> float | None:
    """Return how many times the other's rate, None when it was not measured."""
    return None if not other else round(rate / other, 2)


def relate_jobs(rows: list[Row]) -> None:
    """Write beside encap and decap how they compare with plain routing of the same flows."""
    plain = {str(row["case"]): row["mpps"] for row in rows if row["program"] == "headrace"}
    for row in rows:
        name = str(row["case"])
        base = plain.get(name.replace("encap", "ipv").replace("decap", "ipv"))
        if row["program"] == "headrace" and "cap" in name and isinstance(base, float):
            row["of_plain"] = ratio(float(str(row["mpps"])), base)


def measure_compiler() -> dict[str, float]:
    """Run the compiler's benchmark in a process of its own, whose peak memory is its alone."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(compile_bench.compile_bench).result()


def table(rows: list[Row]) -> str:
    """Return the rows for people."""
    columns = ("case", "program", "mpps", "cycles", "of_testpmd", "of_grout", "of_plain")
    lines = [[*columns, "latency, us", "cycles by node"]]
    for row in rows:
        texts = (named(row["latency_us"]), named(row["nodes"]))
        lines.append([*("" if row.get(c) is None else str(row[c]) for c in columns), *texts])
    widths = [max(len(line[i]) for line in lines) for i in range(len(lines[0]))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in lines
    )


def named(values: object) -> str:
    """Return values with their names."""
    if not isinstance(values, dict):
        return ""
    return "  ".join(f"{name} {value:g}" for name, value in values.items())


def machine() -> dict[str, str | float]:
    """Return what the figures depend on."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    models = (line.split(":")[1].strip() for line in lines if line.startswith("model name"))
    model = next(models, platform.machine())
    return {
        "cpu": model,
        "cpus": os.cpu_count() or 0,
        "tsc_mhz": round(tsc_mhz()),
        "kernel": platform.release(),
    }


def main() -> int:
    """Run all that was asked for."""
    options = arguments()
    if os.geteuid() != 0:
        say("the benchmark reserves hugepages and runs DPDK programs: run it as root")
        return 1
    cpus = sorted(os.sched_getaffinity(0))
    if len(cpus) < 2:
        say("the benchmark needs two CPUs: one for control, one for the worker")
        return 1
    wanted = set(options.only.split(",")) if options.only else None
    unknown = (wanted or set()) - {case.name for case in CASES}
    if unknown:
        say(
            f"no such case: {', '.join(sorted(unknown))}; there are "
            + ", ".join(case.name for case in CASES)
        )
        return 1
    cases = [case for case in CASES if wanted is None or case.name in wanted]
    programs: list[Program] = [Testpmd(), Headrace(), Grout(options.grout_root)]
    result: dict[str, object] = {"machine": machine()}
    rows: list[Row] = []
    with (
        tempfile.TemporaryDirectory(prefix="headrace-bench-") as folder,
        hugepages(max(memory_mib(case) for case in cases) + 512),
    ):
        setting = Setting(cpus[0], cpus[1], Path(folder))
        for number, case in enumerate(cases, 1):
            say(f"case {number} of {len(cases)}: {case.name}")
            rows += measure(case, programs, options.rounds, setting)
        result["rows"] = rows
        relate_jobs(rows)
        if wanted is None:
            parts: dict[str, Callable[[], object]] = {
                "loading": lambda: loading.measure(setting) | loading.measure_networks(setting),
                "compile": measure_compiler,
            }
            for name, part in parts.items():
                say(name)
                result[name] = part()
    options.output.parent.mkdir(parents=True, exist_ok=True)
    options.output.write_text(json.dumps(result, indent=2) + "\n")
    if options.format == "json":
        print(json.dumps(result, indent=2))
    else:
        print(table(rows))
        for name in ("loading", "compile"):
            if name in result:
                print(f"{name}: {json.dumps(result[name])}")
        say(f"written: {options.output}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
