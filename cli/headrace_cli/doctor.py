# SPDX-License-Identifier: Apache-2.0
"""`headrace doctor`: whether this machine is right for DPDK, and what it can reach."""

import argparse
import re
import sys
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass

from pydantic.alias_generators import to_camel

from headrace_api import HugepageSize
from headrace_api.node_facts import NodeFacts, cpu_list
from headrace_api.node_state import NodeCheck, Verdict
from headrace_cli.output import add_output, print_json
from headrace_dataplane.node.checks import Memory, Threads, Wanted, checks
from headrace_dataplane.node.checks.placement import functions, worker_cpus
from headrace_dataplane.node.facts import read
from headrace_dataplane.node.gaps import Gap, gaps
from headrace_dataplane.node.reach import Reach, reach
from headrace_dataplane.node.self_test import Throughput, control_cpu, throughput
from headrace_dataplane.protocol import JSON, EngineError

_GAP_SECONDS, _ENGINE_SECONDS = 4.0, 4.0
_PCI_ADDRESS = re.compile(r"([0-9a-f]{4,8}:)?[0-9a-f]{2}:[01][0-9a-f]\.[0-7]")
_AMOUNT = re.compile(r"([1-9][0-9]{0,7})(Mi|Gi)")
_WORKERS, _MTU = range(1, 65), range(1280, 9177)


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the options."""
    default, threads, memory = Wanted(), Threads(), Memory()
    parser.description = f"""{parser.description}

One line a check, and below each that does not pass the command or setting that mends it. Then what
the machine can reach: which attachments work, how many workers it has CPUs for, and what one worker
forwards in a self-test of ten seconds. Nothing is changed. It needs no cluster, and root only to
read what others may not."""
    parser.epilog = """  pass  as it should be
  warn  it works, slower or less safely than it could
  fail  it does not work: exit status 1
  skip  nothing to check, or not known, and why

examples:
  headrace doctor                                 this machine as it is, all that is ready for DPDK
  headrace doctor --device 3b:01.0 --workers 3    for a dataplane with this VF and three workers
  headrace doctor --hugepages 4Gi --mtu 8900      with so much memory, and packets of this size
  headrace doctor --no-self-test -o json          for programs: checks, and all facts behind them"""
    parser.add_argument(
        "--workers",
        type=_within(_WORKERS, "workers"),
        default=threads.workers,
        metavar="N",
        help=f"workers that the dataplane is to have; default: {threads.workers}",
    )
    parser.add_argument(
        "--hugepages",
        type=_amount,
        default=memory.mebibytes,
        metavar="AMOUNT",
        help=f"its memory in hugepages, such as 512Mi or 4Gi; default: {memory.mebibytes}Mi",
    )
    parser.add_argument(
        "--page-size",
        type=HugepageSize,
        choices=tuple(HugepageSize),
        metavar="{2Mi,1Gi}",
        help="size of these pages; default: either",
    )
    device = parser.add_argument(
        "--device",
        type=_address,
        action="append",
        default=[],
        metavar="ADDRESS",
        help="PCI address of a device that it is to take, as lspci -D shows it: a VF, or a whole "
        "card; may be given several times; default: all that are ready for DPDK",
    )
    # argcomplete's way to be told of candidates.
    device.completer = _devices  # type: ignore[attr-defined]
    parser.add_argument(
        "--mtu",
        type=_within(_MTU, "bytes"),
        default=default.mtu,
        metavar="BYTES",
        help="largest packet of machines in the networks; uplinks need 40 more; "
        f"default: {default.mtu}",
    )
    parser.add_argument(
        "--no-self-test", action="store_true", help="leave out the ten seconds of measuring"
    )
    add_output(parser)


def _within(allowed: range, what: str) -> Callable[[str], int]:
    def parse(text: str) -> int:
        if not text.isdecimal() or int(text) not in allowed:
            raise argparse.ArgumentTypeError(
                f"{text}: want {what} from {allowed[0]} to {allowed[-1]}"
            )
        return int(text)

    return parse


def _amount(text: str) -> int:
    """MiB of an amount such as 512Mi."""
    found = _AMOUNT.fullmatch(text)
    if found is None:
        raise argparse.ArgumentTypeError(f"{text}: want an amount such as 512Mi or 4Gi")
    return int(found.group(1)) * (1024 if found.group(2) == "Gi" else 1)


def _address(text: str) -> str:
    """A PCI address with its domain."""
    found = _PCI_ADDRESS.fullmatch(text.lower())
    if found is None:
        raise argparse.ArgumentTypeError(f"{text}: want a PCI address such as 0000:3b:01.0")
    return text.lower() if found.group(1) else f"0000:{text.lower()}"


def _devices(prefix: str, **_: object) -> list[str]:
    """Addresses of this machine's network devices, for completion."""
    found = [device.address for device in functions(read())]
    return [address for address in found if address.startswith(prefix)]


@dataclass(frozen=True)
class SelfTest:
    """What was measured."""

    throughput: Throughput | None = None
    gaps: tuple[Gap, ...] = ()
    problem: str = ""
    """Why the throughput was not measured."""


def run(arguments: argparse.Namespace) -> int:
    """Print what was found; 1 when a check fails."""
    wanted = Wanted(
        threads=(Threads(arguments.workers),),
        hugepages=(Memory(arguments.hugepages, arguments.page_size),),
        devices=tuple(dict.fromkeys(arguments.device)),
        mtu=arguments.mtu,
    )
    as_json = arguments.output == "json"
    facts = read()
    found = checks(facts, wanted)
    if not as_json:
        _print_checks(found, facts)
        sys.stdout.flush()
    measured = None if arguments.no_self_test else _self_test(facts, wanted)
    can = reach(facts, wanted)
    if as_json:
        print_json(
            {
                "checks": [check.to_dict() for check in found],
                "reach": _camel(asdict(can)),
                "selfTest": _camel(asdict(measured)) if measured else None,
                "facts": facts.to_dict(),
            }
        )
    else:
        _print_reach(can, measured)
    return 1 if any(check.verdict is Verdict.FAIL for check in found) else 0


def _camel(value: object) -> JSON:
    """JSON with the names that YAML has."""
    if isinstance(value, Mapping):
        return {to_camel(str(name)): _camel(each) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return [_camel(each) for each in value]
    return value if isinstance(value, bool | int | float) or value is None else str(value)


def _self_test(facts: NodeFacts, wanted: Wanted) -> SelfTest:
    """Measure on the CPUs that workers would have; says meanwhile what it does."""
    workers = frozenset(cpu.cpu for cpu in worker_cpus(facts, wanted))
    if not workers:
        return SelfTest(problem="the CPUs are not known")
    first, *_ = chosen = sorted(workers)[: wanted.largest.workers]
    _say(f"self-test, {_GAP_SECONDS:.0f} s: gaps on CPU {cpu_list(chosen)} ...")
    seen = gaps(chosen, _GAP_SECONDS)
    _say(f"self-test, {_ENGINE_SECONDS + 2:.0f} s: the engine, a worker on CPU {first} ...")
    try:
        rate = throughput(first, control_cpu(first, workers), _ENGINE_SECONDS)
    except EngineError as error:
        return SelfTest(None, seen, str(error))
    return SelfTest(rate, seen)


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def _print_checks(found: Sequence[NodeCheck], facts: NodeFacts) -> None:
    width = max(len(check.subject) for check in found)
    for check in found:
        print(f"{check.verdict.lower()}  {check.subject:{width}}  {check.name}: {check.message}")
        for line in check.remedy.splitlines():
            print(f"        {line}")
    counts = Counter(check.verdict for check in found)
    print("\n" + ", ".join(f"{counts[verdict]} {verdict.lower()}" for verdict in Verdict))
    if facts.unreadable:
        files = ", ".join(facts.unreadable[:3])
        more = f" and {len(facts.unreadable) - 3} more" if len(facts.unreadable) > 3 else ""
        print(f"(this user may not read {files}{more}: run it as root to have these looked at)")


def _print_reach(can: Reach, measured: SelfTest | None) -> None:
    print("\nwhat this machine can reach:")
    for name, text in _lines(can, measured):
        print(f"  {name:13}  {text}")


def _lines(can: Reach, measured: SelfTest | None) -> Sequence[tuple[str, str]]:
    """What it is about, and what there is to say."""
    lines = [
        (
            "attachments",
            ", ".join(
                f"{each.type} ({each.why})" if each.why else each.type
                for each in can.attachments
                if each.works
            ),
        )
    ]
    lines += [("not", f"{each.type}: {each.why}") for each in can.attachments if not each.works]
    lines += [
        ("workers", f"{each.count} on NUMA node {each.numa_node}: CPUs {each.cpus}")
        for each in can.workers
    ]
    if can.workers:
        lines[-1] = (lines[-1][0], f"{lines[-1][1]} ({can.workers_are})")
    lines.append(
        (
            "pages",
            f"{can.page_size}, {can.free_mib} MiB free"
            if can.page_size
            else "ordinary ones: no hugepage is free",
        )
    )
    if measured is None:
        return [*lines, ("self-test", "left out (--no-self-test)")]
    if measured.throughput:
        one = measured.throughput
        pages = "hugepages" if one.hugepages else "ordinary pages"
        lines.append(
            (
                "throughput",
                f"{one.mpps} Mpps by one worker (CPU {one.cpu}, {one.cycles_per_packet} cycles a "
                f"packet, {pages}): IPv4 packets of 64 bytes, routed from memory to nowhere",
            )
        )
    else:
        lines.append(("throughput", f"not measured: {measured.problem}"))
    lines += [
        (
            "longest gap",
            f"{gap.longest_us:.1f} us on CPU {gap.cpu} in {gap.seconds:g} s, {gap.counted} longer "
            "than 10 us: how long a thread that only reads the clock was kept from it",
        )
        for gap in measured.gaps
    ]
    return lines
