# SPDX-License-Identifier: Apache-2.0
"""dpdk-testpmd in mac mode: receive, write two MAC addresses, send. The ceiling."""

import re
import shutil
import subprocess
import time
from statistics import median

from bench import captures
from bench.cases import Case
from bench.programs import SECONDS, WARM_UP, Measurement, Setting, mbufs, memory_mib, undisturb

MAC = bytes.fromhex("027063617000")


def tsc_mhz() -> float:
    """Return the TSC's frequency as the kernel measured it, else the CPU's nominal one."""
    with open("/proc/cpuinfo") as file:
        found = re.search(r"cpu MHz\s*: ([\d.]+)", file.read())
    return float(found[1]) if found else 0.0


class Testpmd:
    """One forwarding core."""

    name = "testpmd"
    __test__ = False

    def runs(self, case: Case) -> bool:
        """Whatever the packets are: it does not look."""
        return case.routes == "1" and shutil.which("dpdk-testpmd") is not None

    def measure(self, case: Case, setting: Setting) -> Measurement:
        """Read the rates that it prints each second."""
        capture = captures.write(case, MAC, setting.folder)
        command = [
            "dpdk-testpmd",
            "--lcores",
            f"0@{setting.control},1@{setting.worker}",
            "--in-memory",
            "-m",
            str(memory_mib(case)),
            "--no-pci",
            "--no-telemetry",
            "--file-prefix",
            "testpmd",
            "--vdev",
            f"net_pcap0,rx_pcap={capture},infinite_rx=1",
            "--vdev",
            "net_null0,no-rx=1",
            "--",
            "--forward-mode=mac",
            "--nb-cores=1",
            f"--total-num-mbufs={mbufs(case)}",
            "--burst=64",
            "--stats-period",
            "1",
            "--no-mlockall",
        ]
        process = subprocess.Popen(
            command,
            stdout=subprocess.PIPE,
            text=True,
            stdin=subprocess.DEVNULL,
            stderr=subprocess.STDOUT,
        )
        rates: list[float] = []
        end = time.monotonic() + 60
        assert process.stdout is not None
        try:
            for line in process.stdout:
                found = re.search(r"Tx-pps:\s+(\d+)", line)
                # Before the first whole second it prints 0, and always for the port that rests.
                if found and int(found[1]) > 0:
                    undisturb(process.pid, setting.worker)
                    rates.append(int(found[1]) / 1e6)
                if len(rates) > WARM_UP + SECONDS + 2 or time.monotonic() > end:
                    break
        finally:
            process.terminate()
            process.communicate()
        if not rates:
            raise RuntimeError("testpmd forwarded nothing")
        rate = median(rates[2:] or rates)
        return Measurement(rate, tsc_mhz() / rate)
