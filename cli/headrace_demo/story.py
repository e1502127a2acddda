# SPDX-License-Identifier: Apache-2.0
"""What the demo does, step by step, and what it finds."""

import json
import os
import re
import shutil
import sys
from pathlib import Path

from headrace_cli.errors import CommandError
from headrace_dataplane.http import DEFAULT_ADDRESS
from headrace_dataplane.protocol import JSON
from headrace_demo.lab import HEADRACE, Lab, Namespace, Node, Pinger, command, until

EXAMPLE = Path(__file__).resolve().parents[2] / "deploy/examples/two-nodes"
TENANTS = ("blue", "red")
VM1, VM2 = ("10.0.0.2", "fd00:10::2"), ("10.0.0.3", "fd00:10::3")
ONLY_RED = ("10.0.0.9", "fd00:10::9")
PING_SECONDS = 0.01

_PINGS = 3
_AROUND_MOVE = 100
_METRICS = (
    "headrace_config_generation_active",
    'headrace_interface_ready{interface="blue/vm2"}',
    'headrace_uplink_transmit_packets_total{uplink="uplink0"}',
)

# Of the responder and of iperf3.
_PORTS = (17, 5201)

# Tells whoever connects whose it is, as the service at port 17 does (RFC 865).
_RESPONDER = """
import socket, sys
server = socket.create_server(("::", 17), family=socket.AF_INET6, dualstack_ipv6=True)
while True:
    client, _ = server.accept()
    client.sendall(f"I am {sys.argv[1]}\\n".encode())
    client.close()
"""

_PICTURE = """\
             node-a                                   node-b
     blue/vm1     red/vm1                     blue/vm2     red/vm2
     10.0.0.2     10.0.0.2                    10.0.0.3     10.0.0.3
    fd00:10::2   fd00:10::2                  fd00:10::3   fd00:10::3
         |            |                           |            |
       [     engine     ]======= IPv6 =======[     engine     ]
"""


class Story:
    """The steps, in order; `results` is what they found, for -o json."""

    def __init__(self, lab: Lab, loud: bool) -> None:
        """Nothing is printed unless `loud`."""
        self.results: dict[str, JSON] = {}
        self._lab = lab
        self._loud = loud
        self._step = 0
        self._nodes: dict[str, Node] = {}
        self._machines: dict[str, Namespace] = {}

    def tell(self) -> None:
        """Do all steps. Raises CommandError at the first that fails."""
        self._say(
            "Headrace turns Kubernetes objects into DPDK dataplanes. Here: two nodes and two\n"
            "tenants with the same addresses, on this machine, with real packets."
        )
        self._build()
        self._start()
        self._reach()
        self._isolation()
        self._underlay()
        self._move()
        self._look()

    @property
    def logs(self) -> str:
        """The last that `headrace run` said on each node."""
        return "\n".join(
            f"{node.name}: {line}"
            for node in self._nodes.values()
            if node.log.exists()
            for line in node.log.read_text(errors="replace").splitlines()[-10:]
        )

    # Steps.

    def _build(self) -> None:
        self._title("Two nodes, and a machine of each tenant on both")
        self._say(_PICTURE.rstrip())
        shutil.copytree(EXAMPLE, self._lab.manifests, dirs_exist_ok=True)
        node_a, node_b = (self._lab.node(name) for name in ("node-a", "node-b"))
        self._nodes = {node.name: node for node in (node_a, node_b)}
        self._lab.join(node_a, node_b)
        for name, addresses, nodes in (
            ("blue/vm1", VM1, (node_a,)),
            ("red/vm1", VM1, (node_a,)),
            # Its second port is for the move.
            ("blue/vm2", VM2, (node_b, node_a)),
            ("red/vm2", (*VM2, *ONLY_RED), (node_b,)),
        ):
            machine = self._lab.endpoint(name, addresses, *nodes)
            self._machines[name] = machine
            self._lab.spawn(machine, sys.executable, "-c", _RESPONDER, name)
            self._lab.spawn(machine, "iperf3", "--server")
        self._say(
            "Each node and each machine is a network namespace, each line a veth pair; blue/vm2\n"
            "has a second port, to node-a, for later. blue/vm1$ is a prompt on that machine: it\n"
            f"stands for ip netns exec {self._machines['blue/vm1'].name}"
        )

    def _start(self) -> None:
        self._title("Say what you want, and start Headrace on both nodes")
        blue = self._lab.manifests / "blue.yaml"
        _, network, _, vm2 = blue.read_text().split("---\n")
        self._show("", f"cat {blue}", f"[...]\n---\n{network}---\n[...]\n---\n{vm2}")
        self._say("red.yaml is the same for tenant red; pipeline.yaml says what runs on the nodes.")
        cpus = sorted(os.sched_getaffinity(0))
        for number, node in enumerate(self._nodes.values()):
            self._prompt(
                node.name,
                f"headrace run -f {self._lab.manifests} --node {node.name} "
                f"--state {self._lab.state} &",
            )
            self._output("")
            # The engine takes the lowest: each node's another, when there are two.
            node.start(set(cpus) - {cpus[1 - number]} if len(cpus) > 1 else set(cpus))
        until(
            lambda: (
                self._nodes["node-a"].up("blue/vm1", "red/vm1")
                and self._nodes["node-b"].up("blue/vm2", "red/vm2")
            ),
            "both engines have their Interfaces",
            60,
        )
        until(
            lambda: all(
                machine.listens(port) for machine in self._machines.values() for port in _PORTS
            ),
            "the machines' servers listen",
        )

    def _reach(self) -> None:
        self._title("The machines of a tenant reach one another, IPv4 and IPv6, across nodes")
        self.results["pings"] = [
            self._ping(f"{tenant}/vm1", address) for tenant in TENANTS for address in VM2
        ]
        self.results["tcp"] = [
            self._iperf(f"{tenant}/vm1", address) for tenant in TENANTS for address in VM2
        ]

    def _isolation(self) -> None:
        self._title("Tenants are isolated: the same address is another machine in each")
        self.results["answers"] = [
            self._ask(f"{tenant}/vm1", address, f"{tenant}/vm2")
            for tenant in TENANTS
            for address in VM2
        ]
        self._say(f"{ONLY_RED[0]} and {ONLY_RED[1]} exist in red alone:")
        self.results["onlyRed"] = [self._ping("red/vm1", address) for address in ONLY_RED]
        self.results["unreachable"] = [
            self._ping("blue/vm1", address, reachable=False) for address in ONLY_RED
        ]

    def _underlay(self) -> None:
        self._title(
            "Between the nodes a packet travels in plain IPv6: 40 bytes, no tunnel to set up"
        )
        words = ("tcpdump", "-n", "-v", "-c", "1", "-i", "uplink0", "ip6 proto 4")
        self._prompt("node-b", "tcpdump -n -v -c 1 -i uplink0 'ip6 proto 4'")
        capture = self._lab.path / "capture"
        with capture.open("w") as output:
            process = self._lab.spawn(self._nodes["node-b"].namespace, *words, output=output)
        until(lambda: "listening on" in capture.read_text(), "tcpdump listens")
        self._machines["blue/vm1"].command("ping", "-n", "-c", "1", VM2[0])
        until(lambda: process.poll() is not None, "tcpdump sees a packet")
        text = capture.read_text()
        found = re.search(
            r"IP6 \((?:class \S+, )?flowlabel (0x[0-9a-f]+), hlim (\d+), "
            r"next-header (\S+) \((\d+)\).*?\) (\S+) > (\S+): (IP .*?ICMP echo request)",
            re.sub(r"\s+", " ", text),
        )
        if found is None:
            raise CommandError(f"no packet of blue's seen on the underlay: {text}")
        label, hops, protocol, number, source, destination, inner = found.groups()
        self._output(
            f"outer  {source} > {destination}, flow label {label}, hop limit {hops}, "
            f"next header {number} ({protocol})\ninner  {inner}"
        )
        self._say(
            "The outer destination is blue/vm2's own address in the underlay; the flow label is a\n"
            "hash of the inner flow, so any ECMP fabric spreads tenants' flows."
        )
        self.results["outer"] = {
            "source": source,
            "destination": destination,
            "flowLabel": label,
            "hopLimit": int(hops),
            "nextHeader": int(number),
        }

    def _move(self) -> None:
        self._title("A live change: blue/vm2 moves to node-a while it is being pinged")
        blue = self._lab.manifests / "blue.yaml"
        node_a, node_b = self._nodes["node-a"], self._nodes["node-b"]
        pinger = Pinger(self._lab, self._machines["blue/vm1"], VM2[0], PING_SECONDS)
        try:
            self._show("blue/vm1", " ".join(pinger.words) + " &", "")
            pinger.wait(_AROUND_MOVE)
            edit = ("sed", "-i", "s/nodeName: node-b/nodeName: node-a/", str(blue))
            self._show("", f"sed -i '{edit[2]}' {edit[3]}", command(*edit))
            until(
                lambda: node_a.up("blue/vm1", "red/vm1", "blue/vm2") and node_b.up("red/vm2"),
                "blue/vm2 is on node-a",
            )
            pinger.wait(_AROUND_MOVE)
        finally:
            pings = pinger.stop()
        self._headrace("routes", "node-a", "--network", "blue/blue", "--match", VM2[0])
        gap = f", at most {pings.longest_gap * PING_SECONDS * 1000:.0f} ms in a row"
        self._say(
            f"{pings.sent} pings, {pings.lost} lost{gap if pings.lost else ''}. blue/vm2 has kept "
            "its addresses, and nothing\nwas restarted. It still is who it was:"
        )
        self.results["move"] = {
            "interface": "blue/vm2",
            "from": node_b.name,
            "to": node_a.name,
            "intervalSeconds": PING_SECONDS,
            "sent": pings.sent,
            "lost": pings.lost,
            "longestGap": pings.longest_gap,
        }
        self._ask("blue/vm1", VM2[0], "blue/vm2")

    def _look(self) -> None:
        self._title("Look inside: is it well, what was dropped and why, metrics for Prometheus")
        self._headrace("status", "node-a")
        for name in self._nodes:
            self._headrace("drops", name)
        drops: dict[str, JSON] = {}
        problems: dict[str, JSON] = {}
        metrics: dict[str, JSON] = {}
        for node in self._nodes.values():
            drops[node.name] = self._headrace_json("drops", node)
            status = self._headrace_json("status", node)
            problems[node.name] = status["problems"] if isinstance(status, dict) else None
            code, text = node.get("/metrics")
            lines = [line for line in text.splitlines() if line.startswith(_METRICS)]
            if code != 200 or not lines:
                raise CommandError(f"{node.name}: /metrics: status {code}, {text[:80]!r}")
            families = sum(line.startswith("# TYPE") for line in text.splitlines())
            metrics[node.name] = {"url": f"http://{DEFAULT_ADDRESS}/metrics", "families": families}
            if node.name == "node-a":
                self._prompt(node.name, f"curl http://{DEFAULT_ADDRESS}/metrics")
                self._output("\n".join([*lines, f"[... {families} metrics in all]"]))
        self.results.update(drops=drops, problems=problems, metrics=metrics)

    # What the steps consist of.

    def _ping(self, source: str, address: str, reachable: bool = True) -> JSON:
        # With -w it waits for late answers, and ends at the first that says: unreachable.
        words = ("ping", "-c", str(_PINGS), "-i", "0.1", "-w", "5", address)
        self._prompt(source, " ".join(words))
        machine = self._machines[source]
        # Its status is 1 when no answer came.
        text = machine.command("sh", "-c", '"$@" || [ $? = 1 ]', "sh", *words)
        found = re.search(r"(\d+) packets transmitted, (\d+) received", text)
        if found is None:
            raise CommandError(f"ping said: {text}")
        sent, received = map(int, found.groups())
        more = re.search(r"^From \S+ .*", text, re.MULTILINE) or re.search(r"rtt .*", text)
        self._output((more.group() + "\n" if more else "") + found.group())
        if (received < _PINGS) if reachable else received:
            raise CommandError(
                f"{source} to {address}: {received} of {sent} pings were answered, "
                f"expected {_PINGS if reachable else 'none'}"
            )
        return {"source": source, "destination": address, "sent": sent, "received": received}

    def _iperf(self, source: str, address: str) -> JSON:
        words = ("iperf3", "-c", address, "-t", "1")
        self._prompt(source, " ".join(words))
        end = json.loads(self._machines[source].command(*words, "-J"))["end"]
        rate = end["sum_received"]["bits_per_second"] / 1e9
        retransmits = end["sum_sent"]["retransmits"]
        version = 6 if ":" in address else 4
        self._output(f"TCP over IPv{version}: {rate:.2f} Gbit/s")
        if not rate > 0:
            raise CommandError(f"{source} to {address}: iperf3 got nothing through")
        return {
            "source": source,
            "destination": address,
            "gigabitsPerSecond": round(rate, 3),
            "retransmits": retransmits,
        }

    def _ask(self, source: str, address: str, expected: str) -> JSON:
        script = f"cat </dev/tcp/{address}/17"
        self._prompt(source, f"bash -c '{script}'")
        answer = self._machines[source].command("bash", "-c", script).strip()
        self._output(answer)
        if answer != f"I am {expected}":
            raise CommandError(f"{source} asked {address}, and got {answer!r}, not {expected}")
        return {"source": source, "destination": address, "answer": expected}

    def _headrace(self, *words: str) -> None:
        """Run a command for a node, the second word, and show what it prints."""
        name, node, *more = words
        words = (name, "--node", self._nodes[node].target, *more)
        output = command(*HEADRACE, *words) or f"no {name}"
        self._show("", " ".join(("headrace", *words)), output)

    def _headrace_json(self, name: str, node: Node) -> JSON:
        found: JSON = json.loads(command(*HEADRACE, name, "--node", node.target, "-o", "json"))
        return found

    # Printing: paragraphs, each with an empty line after it.

    def _title(self, text: str) -> None:
        self._step += 1
        title = f"{self._step}. {text}"
        self._say(f"\033[1m{title}\033[0m" if sys.stdout.isatty() else title)

    def _show(self, where: str, words: str, output: str) -> None:
        self._prompt(where, words)
        self._output(output)

    def _prompt(self, where: str, words: str) -> None:
        """Print a command; it runs on the machine or node `where`, "": here."""
        self._print(f"{where}$ {words}" if where else f"# {words}")

    def _output(self, text: str) -> None:
        self._print("".join(f"    {line}".rstrip() + "\n" for line in text.strip().splitlines()))

    def _say(self, text: str) -> None:
        self._print(f"{text}\n")

    def _print(self, text: str) -> None:
        if self._loud:
            print(text, flush=True)
