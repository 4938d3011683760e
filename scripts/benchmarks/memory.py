"""What connections and large messages weigh, how long a start takes, and whom a crowd disturbs.

Run by `scripts/bench memory`, in a network namespace of its own: mtad with one worker beside stock
aiosmtpd. Memory is the resident set of the processes that serve sessions.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from rig import load, proc
from rig.machine import machine
from rig.servers import Running, Server, StartError, named, raise_open_files

IDLE = 1_000
LARGE, LARGE_OCTETS = 50, 10 * 1_048_576
SLOW = 300
CROWD = 10_000
SPARE_FILES = 2 * SLOW + 400
AT_REST, AT_REST_WITHIN = 0.1, 30.0


PARTS = {
    "start": ("mtad", "aiosmtpd"),
    "idle": ("mtad", "aiosmtpd"),
    "large": ("mtad", "aiosmtpd"),
    "crowd": ("mtad",),
}
"""The methods of `Bench`, and the servers that they are run with."""


@dataclass(frozen=True)
class Figure:
    """One result. ``goal`` is what mtad has to stay under; None: there is none."""

    what: str
    server: str
    value: float
    unit: str
    goal: float | None = None


class Bench:
    """The parts of the benchmark, for one server each."""

    def __init__(self, home: Path, turns: int, seconds: float) -> None:
        self.home = home
        self.turns = turns
        self.seconds = seconds
        self.program = load.build(home)

    def _send(self, running: Running, messages: int) -> load.Result:
        return load.smtp(self.program, running.server.port, messages, "-b", "pipelined")

    def _warm(self, running: Running) -> float:
        """Have all code loaded that mail needs; return messages a second."""
        rate: float = self._send(running, 1_000)["rate"]
        return rate

    def start(self, server: Server) -> Iterator[Figure]:
        took = []
        for _ in range(3 * self.turns):
            with Running(server, self.home) as running:
                took.append(running.took)
        yield Figure("start to first greeting", server.name, median(took), "s", 0.5)

    def idle(self, server: Server) -> Iterator[Figure]:
        with Running(server, self.home) as running:
            self._warm(running)
            pids = running.serving()
            before = proc.resident(pids)
            with load.held(self.program, server.port, IDLE, "idle"):
                more = proc.resident(pids) - before
        yield Figure("resident without a connection", server.name, before, "MB")
        yield Figure(f"{IDLE:,} idle connections", server.name, more, "MB", 3)

    def large(self, server: Server) -> Iterator[Figure]:
        with Running(server, self.home) as running:
            self._warm(running)
            pids = running.serving()
            proc.reset_peak(pids)
            before = proc.peak_resident(pids)
            options = ("-c", str(LARGE), "-l", str(LARGE_OCTETS), "-n", "1")
            load.smtp(self.program, server.port, LARGE, *options)
            peak = proc.peak_resident(pids) - before
        yield Figure(f"{LARGE} clients send 10 MiB each, peak", server.name, peak, "MB", 40)

    def crowd(self, server: Server) -> Iterator[Figure]:
        """Compare the p99 of 20 busy connections with that beside a crowd, in turns."""
        idle = min(CROWD, raise_open_files() - SPARE_FILES)
        if idle < CROWD:
            print(f"the hard limit of open files allows {idle} connections only", file=sys.stderr)
        crowds = {
            f"{idle:,} idle": {"idle": idle},
            f"{SLOW} send an octet a second": {"drip": SLOW},
            f"{SLOW} never read": {"deaf": SLOW},
            "all of them": {"idle": idle, "drip": SLOW, "deaf": SLOW},
        }
        with Running(server, self.home) as running:
            messages = int(self._warm(running) * self.seconds)
            for name, crowd in crowds.items():
                try:
                    turns = [self._beside(running, messages, crowd) for _ in range(self.turns)]
                except load.LoadError as failure:
                    print(f"given up: beside {name}: {failure}", file=sys.stderr)
                    continue
                alone, crowded, rests = zip(*turns, strict=True)
                ratio = median(b / a for a, b in zip(alone, crowded, strict=True))
                yield Figure(f"p99, quiet, before {name}", server.name, median(alone), "ms")
                yield Figure(f"p99 beside {name}", server.name, median(crowded), "ms")
                yield Figure(f"p99 beside {name}, x quiet", server.name, ratio, "", 2)
                yield Figure(f"{name}: at rest after", server.name, median(rests), "s")

    def _beside(
        self, running: Running, messages: int, crowd: dict[str, int]
    ) -> tuple[float, float, float]:
        """Return the p99 alone and beside ``crowd`` in ms, and when it was at rest in s."""
        alone = self._send(running, messages)["p99_ms"]
        with ExitStack() as stack:
            for behaviour, count in crowd.items():
                one = load.held(self.program, running.server.port, count, behaviour)
                stack.enter_context(one)
            rested = rest(running)
            return alone, self._send(running, messages)["p99_ms"], rested


def rest(running: Running) -> float:
    """Wait until the crowd keeps the server busy no longer; return how many seconds that took.

    Those who never read are served until nothing more of what they are told can be buffered.
    Raises LoadError if that takes too long.
    """
    start = time.monotonic()
    pids = running.serving()
    while time.monotonic() < start + AT_REST_WITHIN:
        before = proc.cpu_seconds(pids)
        time.sleep(0.2)
        if proc.cpu_seconds(pids) - before < 0.2 * AT_REST:
            return time.monotonic() - start
    raise load.LoadError(f"busy with idle clients for {AT_REST_WITHIN:g} s")


def verdict(figure: Figure) -> str:
    if figure.goal is None or not figure.server.startswith("mtad"):
        return ""
    return f"under {figure.goal:g}: {'met' if figure.value < figure.goal else 'missed'}"


def run(bench: Bench, part: str, server: Server) -> list[Figure]:
    """Print the figures of a part as they come, and return them."""
    figures = []
    try:
        for figure in getattr(bench, part)(server):
            figures.append(figure)
            value = f"{figure.value:10.2f} {figure.unit:4}"
            print(f"{figure.what:48}{server.name:12}{value}{verdict(figure)}", flush=True)
    except (load.LoadError, StartError) as failure:
        print(f"given up: {part}, {server.name}: {failure}", file=sys.stderr)
    return figures


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--repeat", type=int, default=3, help="turns; of starts three times as many"
    )
    parser.add_argument("--quick", action="store_true", help="one short turn: a first impression")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all figures there")
    parser.add_argument("--only", choices=PARTS)
    options = parser.parse_args()
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    raise_open_files()
    figures: list[Figure] = []
    start = time.monotonic()
    about = machine()
    print(", ".join(f"{what} {value}" for what, value in about.items()))
    with tempfile.TemporaryDirectory(prefix="mtad-bench-") as name:
        home = Path(name)
        home.chmod(0o755)
        bench = Bench(home, *((1, 0.5) if options.quick else (options.repeat, 1.0)))
        for part, servers in PARTS.items():
            if options.only in {None, part}:
                for server in servers:
                    figures += run(bench, part, named(server))
    print(f"{time.monotonic() - start:.0f} s", file=sys.stderr)
    if options.json:
        result = {"machine": about, "figures": [vars(figure) for figure in figures]}
        options.json.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
