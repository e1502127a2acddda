# SPDX-License-Identifier: Apache-2.0
"""grout, where it is installed: here, or in a Debian root given to the benchmark."""

import json
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bench import captures
from bench.cases import Case
from bench.programs import SECONDS, WARM_UP, Measurement, Setting, undisturb, until
from bench.programs.testpmd import tsc_mhz

SOCKET = "/run/grout-bench.sock"


class Grout:
    """One worker in poll mode. Paths are those of its root."""

    name = "grout"

    def __init__(self, root: Path | None) -> None:
        """Use the programs of the machine (None) or of a root directory."""
        self.root = root

    def runs(self, case: Case) -> bool:
        """Plain routing, with no more routes and packets than it is sized for."""
        found = (self.root / "usr/bin/grout").exists() if self.root else shutil.which("grout")
        return bool(found) and case.job == "route" and case.routes != "1M" and case.flows != "1M"

    def command(self, *words: str | Path) -> list[str]:
        """Return a command of grout's root."""
        prefix = ["chroot", str(self.root)] if self.root else []
        return prefix + [str(word) for word in words]

    def cli(self, *words: str) -> str:
        """Run one grcli command."""
        command = self.command("grcli", "-s", SOCKET, "-e", *words)
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout

    @contextmanager
    def running(self, setting: Setting) -> Iterator[int]:
        """Run the daemon; wait until it answers; yield its process id."""
        # It makes kernel devices of its ports' names: in a network namespace of its own.
        command = [
            "unshare",
            "--net",
            *self.command(
                "taskset",
                "-c",
                f"{setting.control},{setting.worker}",
                "grout",
                "-p",
                "-s",
                SOCKET,
                "-M",
                f"unix:{SOCKET}.metrics",
            ),
        ]
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

        def answers() -> bool:
            try:
                self.cli("interface", "show")
            except subprocess.CalledProcessError:
                return False
            return True

        try:
            until(answers, "grout did not answer")
            yield process.pid
        finally:
            process.terminate()
            process.wait(20)

    def measure(self, case: Case, setting: Setting) -> Measurement:
        """Read the counter of the port out over SECONDS."""
        name = f"bench-{case.name}.pcap"
        inside = Path("/tmp") / name
        outside = Path(f"{self.root or ''}{inside}")
        with self.running(setting) as pid:
            # The port's MAC address is the driver's choice: ask a port of another capture first.
            shutil.copy(captures.write(case, bytes(6), setting.folder), outside)
            self.cli("interface", "add", "port", "p0", "devargs", f"net_pcap0,rx_pcap={inside}")
            mac = next(
                line.split()[1]
                for line in self.cli("interface", "show", "name", "p0").splitlines()
                if line.startswith("mac:")
            )
            self.cli("interface", "del", "p0")
            receiver = bytearray.fromhex(mac.replace(":", ""))
            receiver[-1] += 1  # each further port of the driver is one more
            shutil.copy(captures.write(case, bytes(receiver), setting.folder), outside)
            self.configure(case, inside)
            undisturb(pid, setting.worker)
            time.sleep(WARM_UP)
            before, start = self.sent(), time.monotonic()
            time.sleep(SECONDS)
            after, seconds = self.sent(), time.monotonic() - start
        outside.unlink()
        if after == before:
            raise RuntimeError("grout forwarded nothing")
        rate = (after - before) / seconds / 1e6
        return Measurement(rate, tsc_mhz() / rate)

    def configure(self, case: Case, capture: Path) -> None:
        """Give it two ports, a next hop that is known, and the routes."""
        ours = (
            ("10.0.0.1/24", "10.1.0.1/24", "10.1.0.2")
            if case.family == 4
            else ("fd00:10::1/64", "fd00:11::1/64", "fd00:11::2")
        )
        script = [
            f"interface add port p0 devargs net_pcap1,rx_pcap={capture},infinite_rx=1",
            "interface add port p1 devargs net_null0,no-rx=1",
            f"address add {ours[0]} iface p0",
            f"address add {ours[1]} iface p1",
            f"nexthop add l3 iface p1 id 42 address {ours[2]} mac 02:00:00:00:00:99",
            *(f"route add {prefix} via id 42" for prefix in case.prefixes()),
        ]
        file = Path(f"{self.root or ''}/tmp/bench.grcli")
        file.write_text("\n".join(script) + "\n")
        self.cli("-f", "/tmp/bench.grcli")

    def sent(self) -> int:
        """Return the packets sent so far."""
        rows = json.loads(self.cli("-j", "interface", "stats"))
        return next(int(row["tx_packets"]) for row in rows if row["interface"] == "p1")
