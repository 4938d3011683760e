"""What it costs to keep a message: mtad beside smtp-sink, which does not, and aiosmtpd's Mailbox.

Run by `scripts/bench store`, in a network namespace of its own. Servers take turns, and ratios are
those of one turn, as in engine.py. CPU is that of all processes; of mtad's, the archive's share is
printed too, and what a message has cost when the archive has indexed all of them.
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
from fnmatch import fnmatch
from pathlib import Path

from rig import load, postfix, proc, waiting
from rig.figures import middle, number, paired
from rig.machine import machine
from rig.servers import Keep, Running, Server, StartError, raise_open_files

from mtad.control.client import ControlClient
from mtad.errors import CommandError, UnavailableError

SINK, MAILBOX, KEEPING = "smtp-sink", "aiosmtpd, Mailbox", "mtad, fsync"
EMPTY, FULL = "mtad, empty", "mtad, full"
INDEXED_WITHIN = 120.0


def mtad(
    name: str, port: int, durability: str, transcripts: str = "none", store: Path | None = None
) -> Server:
    keep = Keep(durability, transcripts, store)
    return Server(name, port, "mtad", workers=2, keep=keep)


SERVERS = (
    Server(SINK, 2511, "smtp-sink"),
    Server(MAILBOX, 2512, "aiosmtpd", keep=Keep()),
    mtad(KEEPING, 2513, "fsync"),
    mtad("mtad, transcripts", 2514, "fsync", transcripts="all"),
    mtad("mtad, os", 2515, "os"),
    mtad("mtad, memory", 2516, "memory"),
)


@dataclass(frozen=True)
class Row:
    """A load; ``options`` are those of load.c, ``first`` as in engine.py."""

    name: str
    title: str
    options: tuple[str, ...]
    first: int


ROWS = (
    Row("4k", "4 KB, 50 connections, pipelined", ("-c", "50"), 400),
    Row("1m", "1 MiB, 20 connections", ("-l", "1048576"), 20),
)


@dataclass(frozen=True)
class Goal:
    """A figure of ``over`` divided by that of ``under`` in a row is to be at least ``least``."""

    row: str
    what: str
    over: str
    under: str
    least: float


GOALS = (
    Goal("4k", "cpu", SINK, KEEPING, 0.8),
    Goal("4k", "cpu", SINK, "mtad, transcripts", 0.8),
    Goal("4k", "cpu", MAILBOX, KEEPING, 20),
    Goal("1m", "rate", KEEPING, SINK, 1),
    Goal("4k", "rate", FULL, EMPTY, 0.9),
)
WAIT_GOAL_MS = 5.0


@dataclass(frozen=True)
class Measurement:
    """One server under one load. CPU is in seconds per 1,000 messages, ``peak_mb`` is RSS.

    ``cpu`` is spent until the last message is answered; ``archive_cpu`` is the archive's part, and
    ``indexed_cpu`` what all processes have spent when it has indexed the last.
    """

    row: str
    server: str
    turn: int
    messages: int
    seconds: float
    rate: float
    cpu: float
    archive_cpu: float | None
    indexed_cpu: float | None
    p50_ms: float
    p99_ms: float
    peak_mb: float


def measure(row: Row, running: Running, program: Path, messages: int, turn: int) -> Measurement:
    pids, archive = running.pids(), running.archive()
    proc.reset_peak(pids)
    before, archive_before = proc.cpu_seconds(pids), proc.cpu_seconds(archive)
    result = load.smtp(program, running.server.port, messages, "-b", "pipelined", *row.options)
    spent, archive_spent = proc.cpu_seconds(pids), proc.cpu_seconds(archive)
    peak = proc.peak_resident(pids)
    if archive:
        wait_indexed(running)
    indexed = proc.cpu_seconds(pids)
    if archive and (keep := running.server.keep) and keep.store is None:
        delete_all(running)
    thousands = result["messages"] / 1_000
    return Measurement(
        row=row.name,
        server=running.server.name,
        turn=turn,
        messages=result["messages"],
        seconds=result["seconds"],
        rate=result["rate"],
        cpu=(spent - before) / thousands,
        archive_cpu=(archive_spent - archive_before) / thousands if archive else None,
        indexed_cpu=(indexed - before) / thousands if archive else None,
        p50_ms=result["p50_ms"],
        p99_ms=result["p99_ms"],
        peak_mb=peak,
    )


def wait_indexed(running: Running) -> None:
    """Return when the archive has indexed what is kept: only then it answers."""
    with ControlClient(running.control, timeout=INDEXED_WITHIN) as control:
        control.call("message.list", limit=1)


def delete_all(running: Running) -> None:
    """Have nothing kept in a store of the bench's own: disk and page cache would fill."""
    with ControlClient(running.control, timeout=INDEXED_WITHIN) as control:
        control.call("message.delete", all=True)


def measure_row(
    row: Row, servers: list[Server], bench: Bench, turns: int, seconds: float
) -> Iterator[Measurement]:
    """Yield the measurements of servers that take turns, each of about ``seconds``."""
    with ExitStack() as stack:
        running = []
        for server in servers:
            try:
                one = stack.enter_context(Running(server, bench.home))
                first = load.smtp(bench.program, server.port, row.first, *row.options)
            except (load.LoadError, StartError) as failure:
                print(f"left out: {row.title}, {server.name}: {failure}", file=sys.stderr)
            else:
                running.append((one, max(row.first // 2, int(first["rate"] * seconds))))
        for turn in range(turns):
            for one, count in running:
                yield measure(row, one, bench.program, count, turn)


@dataclass(frozen=True)
class Bench:
    """The program that loads, and a directory."""

    home: Path
    program: Path


def plan(only: str, full: Path | None) -> Iterator[tuple[Row, list[Server]]]:
    """Yield the rows and who is measured in them; with a full store, that and an empty one."""
    if full:
        yield ROWS[0], [mtad(EMPTY, 2517, "fsync"), mtad(FULL, 2518, "fsync", store=full)]
        return
    if missing := postfix.missing("smtp-sink"):
        print(f"left out: smtp-sink: {missing}", file=sys.stderr)
    for row in ROWS:
        asked = [s for s in SERVERS if matches(only, row.name, f"{row.name}/{s.name}")]
        yield row, [s for s in asked if not (missing and s.program == "smtp-sink")]


def matches(only: str, *names: str) -> bool:
    return any(fnmatch(name, only) for name in names)


def measure_waits(bench: Bench, rounds: int) -> list[float]:
    """Return how many milliseconds after each 250 a wait was answered."""
    with Running(mtad(KEEPING, 2519, "fsync"), bench.home) as running:
        try:
            return waiting.milliseconds(running.server.port, running.control, rounds)
        except (OSError, RuntimeError, CommandError, UnavailableError) as failure:
            print(f"given up: wait: {failure}", file=sys.stderr)
            return []


# ---- what is printed ----------------------------------------------------------------------------

COLUMNS = (
    ("CPU", 9, ".4f", "cpu"),
    ("archive", 9, ".4f", "archive_cpu"),
    ("indexed", 9, ".4f", "indexed_cpu"),
    ("rate", 8, ".0f", "rate"),
    ("p50", 8, ".2f", "p50_ms"),
    ("p99", 8, ".2f", "p99_ms"),
    ("peak RSS", 10, ".1f", "peak_mb"),
)
LEGEND = (
    "CPU in seconds per 1,000 messages, until the last is answered; the archive's part of it; and "
    "until\nall are indexed; rate in messages a second; p50 and p99 in ms; RSS in MB"
)


@dataclass(frozen=True)
class Line:
    """A server's medians in a row, and what the others' CPU is divided by its own."""

    row: str
    server: str
    figures: dict[str, float | None]


def summarize(measurements: list[Measurement]) -> list[Line]:
    """Return the medians of each row and server, in the order in which they were measured."""
    groups: dict[tuple[str, str], list[Measurement]] = {}
    for one in measurements:
        groups.setdefault((one.row, one.server), []).append(one)
    return [
        Line(
            row,
            server,
            {what: middle(group, what) for *_, what in COLUMNS}
            | {
                "times_mailbox": paired(measurements, row, MAILBOX, server, "cpu"),
                "times_sink": paired(measurements, row, SINK, server, "cpu"),
            },
        )
        for (row, server), group in groups.items()
    ]


def verdicts(
    measurements: list[Measurement], waits: list[float]
) -> Iterator[tuple[str, float, str]]:
    """Yield each goal as ``(what, reached, "goal, met or missed")``."""
    for goal in GOALS:
        reached = paired(measurements, goal.row, goal.over, goal.under, goal.what)
        if reached is not None:
            word = "met" if reached >= goal.least else "missed"
            title = f"{goal.row}, {goal.what}: {goal.over} / {goal.under}"
            yield title, reached, f"at least {goal.least:g}: {word}"
    if waits:
        for name, share in (("median", 0.5), ("p99", 0.99)):
            reached = sorted(waits)[int((len(waits) - 1) * share)]
            word = "met" if reached <= WAIT_GOAL_MS else "missed"
            what = f"from the 250 to the answer of `message wait`, {name}, ms"
            yield what, reached, f"at most {WAIT_GOAL_MS:g}: {word}"


def print_table(lines: list[Line]) -> None:
    print(LEGEND)
    columns = (
        *COLUMNS,
        ("x Mailbox", 11, ".2f", "times_mailbox"),
        ("x sink", 8, ".2f", "times_sink"),
    )
    head = "".join(f"{name:>{width}}" for name, width, *_ in columns)
    last = ""
    for line in lines:
        if line.row != last:
            title = next(row.title for row in ROWS if row.name == line.row)
            print(f"\n{title}\n  {'':18}{head}")
            last = line.row
        figures = (
            f"{number(line.figures[what], form):>{width}}" for _, width, form, what in columns
        )
        print(f"  {line.server:18}{''.join(figures)}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repeat", type=int, default=7, help="turns of each server in a row")
    parser.add_argument("--quick", action="store_true", help="3 short turns: a first impression")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all figures there")
    parser.add_argument(
        "--only", default="*", metavar="GLOB", help="ROW or ROW/SERVER, as '4k/mtad*', or wait"
    )
    parser.add_argument(
        "--full", type=Path, metavar="STORE", help="only: 4k, with this store and an empty one"
    )
    options = parser.parse_args()
    turns, seconds = (3, 0.5) if options.quick else (options.repeat, 2.0)
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    raise_open_files()
    measurements: list[Measurement] = []
    waits: list[float] = []
    start = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="mtad-bench-") as name:
        home = Path(name)
        home.chmod(0o755)
        bench = Bench(home, load.build(home))
        for row, servers in plan(options.only, options.full):
            try:
                # In place: what was measured before a failure is kept.
                measurements += measure_row(row, servers, bench, turns, seconds)
            except (load.LoadError, CommandError, UnavailableError) as failure:
                print(f"given up: {row.title}: {failure}", file=sys.stderr)
        if fnmatch("wait", options.only) and not options.full:
            waits = measure_waits(bench, 50 if options.quick else 500)
    lines = summarize(measurements)
    about = machine()
    print(", ".join(f"{what} {value}" for what, value in about.items()))
    print_table(lines)
    print()
    goals = list(verdicts(measurements, waits))
    for what, reached, goal in goals:
        print(f"{what:58}{reached:8.2f}  {goal}")
    print(f"\n{turns} turns, {time.monotonic() - start:.0f} s", file=sys.stderr)
    if options.json:
        result = {
            "machine": about,
            "summary": [vars(line) for line in lines],
            "goals": [{"what": w, "reached": r, "goal": g} for w, r, g in goals],
            "measurements": [vars(one) for one in measurements],
            "waits_ms": waits,
        }
        options.json.write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
