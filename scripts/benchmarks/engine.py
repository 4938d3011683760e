"""What a message costs: mtad beside stock aiosmtpd and Postfix's smtp-sink, which all discard it.

Run by `scripts/bench engine`, in a network namespace of its own. Each row is a load. The servers
take turns, and the ratios are those of one turn, so that a noisy moment is shared: medians of them
are printed. CPU is that of all processes of the server.
"""

from __future__ import annotations

import argparse
import json
import math
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path
from statistics import median

from rig import load, postfix, proc
from rig.figures import middle, number, paired
from rig.machine import machine
from rig.servers import SERVERS, Running, Server, StartError, raise_open_files

ONE, TWO, STOCK, SINK = "mtad", "mtad, 2 workers", "aiosmtpd", "smtp-sink"
TWO_WORKERS_RATE = 1.6
TWO_WORKERS_CPU = 1.05

# The rows in which two workers have to be faster than one.
SHARED = ("pipelined", "64k")
# The rows in which mtad with a handler of aiosmtpd is measured, too: what hooks cost.
HOOKED = ("pipelined", "64k")

Send = Callable[[int, int], load.Result]
"""Sends a number of messages to a port."""


@dataclass(frozen=True)
class Row:
    """A load, and how many times mtad's CPU per message the others' has to be.

    ``options`` are those of load.c; ``first`` is how many messages are sent to learn how fast a
    server is.
    """

    name: str
    title: str
    options: tuple[str, ...] = ()
    first: int = 400
    aiosmtpd: float | None = None
    sink: float | None = None


ROWS = (
    Row("pipelined", "4 KB, 20 connections, pipelined", ("-b", "pipelined"), 400, 12, 1.2),
    Row("joined", "4 KB, message and next envelope in one write", ("-b", "joined"), 400),
    Row("lockstep", "4 KB, lockstep", ("-b", "lockstep"), 400, 10, 1.2),
    Row("source", "4 KB, lockstep, by smtp-source", (), 400, 10, 1.2),
    Row("64k", "64 KiB", ("-b", "pipelined", "-l", "65536"), 100, 15, 2.2),
    Row("1m", "1 MiB", ("-b", "pipelined", "-l", "1048576"), 20, 18, 2.5),
    Row("each", "4 KB, one connection for each", ("-b", "pipelined", "-n", "1"), 200, 7, 0.9),
    Row("quit", "connect and QUIT", ("-b", "quit"), 200, 5, 0.6),
    Row("tls", "4 KB, STARTTLS, session resumed", (), 20),
)


@dataclass(frozen=True)
class Measurement:
    """One server under one load. ``cpu`` is in seconds per 1,000 messages, ``peak_mb`` is RSS."""

    row: str
    server: str
    turn: int
    messages: int
    seconds: float
    rate: float
    cpu: float
    p50_ms: float | None
    p99_ms: float | None
    peak_mb: float
    load_cpu: float | None = None  # of the load itself, in seconds per 1,000 messages


def measure(row: Row, running: Running, send: Send, messages: int, turn: int) -> Measurement:
    pids = running.pids()
    proc.reset_peak(pids)
    before = proc.cpu_seconds(pids)
    result = send(running.server.port, messages)
    spent = proc.cpu_seconds(pids) - before
    return Measurement(
        row=row.name,
        server=running.server.name,
        turn=turn,
        messages=result["messages"],
        seconds=result["seconds"],
        rate=result["rate"],
        cpu=spent / result["messages"] * 1_000,
        p50_ms=result["p50_ms"],
        p99_ms=result["p99_ms"],
        peak_mb=proc.peak_resident(pids),
        load_cpu=None if (own := result.get("cpu_seconds")) is None else own / messages * 1_000,
    )


def measure_row(
    row: Row, servers: list[Server], bench: Bench, turns: int, seconds: float
) -> Iterator[Measurement]:
    """Yield the measurements of fresh servers that take turns, each of about ``seconds``."""
    send = bench.sender(row)
    with ExitStack() as stack:
        certificate = bench.certificate if row.name == "tls" else None
        running = []
        for server in servers:
            try:
                one = stack.enter_context(Running(server, bench.home, certificate))
                rate = send(server.port, row.first)["rate"]
            except (load.LoadError, StartError) as failure:
                leave_out(row, server, str(failure))
            else:
                running.append((one, max(row.first // 2, int(rate * seconds))))
        for turn in range(turns):
            for one, count in running:
                yield measure(row, one, send, count, turn)


def leave_out(row: Row, server: Server, reason: str) -> None:
    print(f"left out: {row.title}, {server.name}: {reason}", file=sys.stderr)


class Bench:
    """What the loads need: programs, a certificate, a directory."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.program = load.build(home)
        self.certificate: tuple[Path, Path] | None = None
        if openssl := shutil.which("openssl"):
            self.certificate = home / "certificate.pem", home / "key.pem"
            request = ["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"]
            names = ["-subj", "/CN=mx.example", "-days", "2", "-nodes"]
            files = ["-out", str(self.certificate[0]), "-keyout", str(self.certificate[1])]
            subprocess.run([openssl, *request, *names, *files], check=True, capture_output=True)
            self.certificate[1].chmod(0o644)

    def lacking(self, row: Row, server: Server) -> str:
        """Return why ``row`` cannot be measured with ``server``, or ""."""
        if server.program == "smtp-sink" and row.name == "tls":
            return "smtp-sink has no TLS"
        if server.program == "smtp-sink" and (reason := postfix.missing("smtp-sink")):
            return reason
        if row.name == "source" and (reason := postfix.missing("smtp-source")):
            return reason
        if row.name == "tls" and self.certificate is None:
            return "no openssl to make a certificate with"
        return ""

    def sender(self, row: Row) -> Send:
        if row.name == "tls":
            return load.tls
        if row.name == "source":
            return load.smtp_source
        return lambda port, messages: load.smtp(self.program, port, messages, *row.options)


# ---- what is printed ----------------------------------------------------------------------------


@dataclass(frozen=True)
class Line:
    """A server's medians in a row, and what the others' CPU is divided by its own."""

    row: str
    server: str
    cpu: float
    rate: float
    p50_ms: float | None
    p99_ms: float | None
    peak_mb: float
    times_aiosmtpd: float | None
    times_sink: float | None


def summarize(measurements: list[Measurement]) -> list[Line]:
    """Return a line for each row and server, in the order in which they were measured."""
    groups: dict[tuple[str, str], list[Measurement]] = {}
    for one in measurements:
        groups.setdefault((one.row, one.server), []).append(one)

    return [
        Line(
            row=row,
            server=server,
            cpu=median(one.cpu for one in group),
            rate=median(one.rate for one in group),
            p50_ms=middle(group, "p50_ms"),
            p99_ms=middle(group, "p99_ms"),
            peak_mb=max(one.peak_mb for one in group),
            times_aiosmtpd=paired(measurements, row, STOCK, server, "cpu"),
            times_sink=paired(measurements, row, SINK, server, "cpu"),
        )
        for (row, server), group in groups.items()
    ]


def verdicts(
    measurements: list[Measurement], lines: list[Line]
) -> Iterator[tuple[str, float, str]]:
    """Yield each goal as ``(what, reached, "goal, met or missed")``."""
    for line in lines:
        row = next(row for row in ROWS if row.name == line.row)
        if line.server == ONE:
            for other, reached, goal in (
                (STOCK, line.times_aiosmtpd, row.aiosmtpd),
                (SINK, line.times_sink, row.sink),
            ):
                if reached is not None and goal is not None:
                    word = "met" if reached >= goal else "missed"
                    yield f"{row.title}, x {other}", reached, f"at least {goal:g}: {word}"
    for name in SHARED:
        faster = paired(measurements, name, TWO, ONE, "rate")
        dearer = paired(measurements, name, TWO, ONE, "cpu")
        if faster is None or dearer is None:
            continue
        title = next(row.title for row in ROWS if row.name == name)
        word = "met" if faster >= TWO_WORKERS_RATE else "missed"
        room = f", and the load leaves room for {room_for_two(measurements, name):.2f}"
        yield (
            f"{title}, two workers' rate x one's",
            faster,
            f"at least {TWO_WORKERS_RATE}: {word}{room}",
        )
        word = "met" if dearer <= TWO_WORKERS_CPU else "missed"
        yield f"{title}, two workers' CPU x one's", dearer, f"at most {TWO_WORKERS_CPU}: {word}"


def room_for_two(measurements: list[Measurement], row: str) -> float:
    """Return how many times one worker's rate two can have at most, on two processors.

    One worker has a processor for itself. Two share both with the load: of the two seconds of
    every second, a message takes the server's and the load's.
    """
    ones = [m for m in measurements if m.row == row and m.server == ONE and m.load_cpu]
    return median([2 * m.cpu / (m.cpu + (m.load_cpu or 0.0)) for m in ones] or [math.nan])


def print_table(lines: list[Line]) -> None:
    print(
        "CPU in seconds per 1,000 messages; rate in messages a second; p50 and p99 in ms; RSS in MB"
    )
    head = (
        f"{'CPU':>9}{'rate':>9}{'p50':>9}{'p99':>9}{'peak RSS':>10}{'x aiosmtpd':>12}{'x sink':>8}"
    )
    last = ""
    for line in lines:
        if line.row != last:
            title = next(row.title for row in ROWS if row.name == line.row)
            print(f"\n{title}\n  {'':18}{head}")
            last = line.row
        print(
            f"  {line.server:18}{line.cpu:9.4f}{line.rate:9.0f}{number(line.p50_ms, '.2f'):>9}"
            f"{number(line.p99_ms, '.2f'):>9}{line.peak_mb:10.1f}"
            f"{number(line.times_aiosmtpd, '.2f'):>12}{number(line.times_sink, '.2f'):>8}"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeat", type=int, default=7, help="turns of each server in a row")
    parser.add_argument("--quick", action="store_true", help="3 short turns: a first impression")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all figures there")
    parser.add_argument(
        "--only", default="*", metavar="GLOB", help="ROW or ROW/SERVER, as 1m/mtad*"
    )
    options = parser.parse_args()
    turns, seconds = (3, 0.3) if options.quick else (options.repeat, 1.0)
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    raise_open_files()
    measurements: list[Measurement] = []
    start = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="mtad-bench-") as name:
        home = Path(name)
        home.chmod(0o755)
        bench = Bench(home)
        for row in ROWS:
            servers = []
            for server in SERVERS:
                if not any(
                    fnmatch(n, options.only) for n in (row.name, f"{row.name}/{server.name}")
                ):
                    continue
                if server.handler and row.name not in HOOKED:
                    continue
                if reason := bench.lacking(row, server):
                    leave_out(row, server, reason)
                else:
                    servers.append(server)
            try:
                # In place: what was measured before a failure is kept.
                measurements += measure_row(row, servers, bench, turns, seconds)
            except load.LoadError as failure:
                print(f"given up: {row.title}: {failure}", file=sys.stderr)
    lines = summarize(measurements)
    about = machine()
    print(", ".join(f"{what} {value}" for what, value in about.items()))
    print_table(lines)
    print()
    goals = list(verdicts(measurements, lines))
    for what, reached, goal in goals:
        print(f"{what:58}{reached:8.2f}  {goal}")
    print(f"\n{turns} turns, {time.monotonic() - start:.0f} s", file=sys.stderr)
    if options.json:
        result = {
            "machine": about,
            "summary": [vars(line) for line in lines],
            "goals": [{"what": w, "reached": r, "goal": g} for w, r, g in goals],
            "measurements": [vars(one) for one in measurements],
        }
        options.json.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
