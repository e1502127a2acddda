# SPDX-License-Identifier: Apache-2.0
"""Results for people, for programs, and for continuous integration."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from xml.etree import ElementTree

from headrace_cli.output import print_json
from headrace_connectivity.plan import Outcome, Result

_WORDS = {Outcome.PASSED: "ok", Outcome.FAILED: "FAILED", Outcome.SKIPPED: "skipped"}


def line(result: Result) -> str:
    """Return one line for people."""
    reason = f": {result.reason}" if result.reason else ""
    return f"{_WORDS[result.outcome]:8}{result.name}{reason}"


class Report:
    """Results as they come: lines at once for `table`, all at the end for `json` and `junit`."""

    def __init__(self, output: str) -> None:
        """`output` is one of the three."""
        self.results: list[Result] = []
        self._output = output

    def add(self, results: Iterable[Result]) -> None:
        """Take results, and show them to people."""
        for result in results:
            self.results.append(result)
            if self._output == "table":
                print(line(result), flush=True)

    def end(self) -> None:
        """Print the rest."""
        if self._output == "json":
            print_json([asdict(result) for result in self.results])
        elif self._output == "junit":
            print(junit(self.results))
        else:
            count = Counter(result.outcome for result in self.results)
            words = ", ".join(
                f"{count[outcome]} {outcome}" for outcome in Outcome if count[outcome]
            )
            print(f"\n{words}")

    @property
    def failed(self) -> bool:
        """Whether a check failed."""
        return any(result.outcome is Outcome.FAILED for result in self.results)


def junit(results: Sequence[Result]) -> str:
    """Return the results as JUnit XML, as CI systems read it."""
    count = Counter(result.outcome for result in results)
    suite = ElementTree.Element(
        "testsuite",
        name="headrace connectivity",
        tests=str(len(results)),
        failures=str(count[Outcome.FAILED]),
        skipped=str(count[Outcome.SKIPPED]),
    )
    for result in results:
        case = ElementTree.SubElement(suite, "testcase", classname="connectivity", name=result.name)
        if result.outcome is Outcome.FAILED:
            ElementTree.SubElement(case, "failure", message=result.reason)
        elif result.outcome is Outcome.SKIPPED:
            ElementTree.SubElement(case, "skipped", message=result.reason)
    ElementTree.indent(suite)
    return ElementTree.tostring(suite, encoding="unicode", xml_declaration=True)
