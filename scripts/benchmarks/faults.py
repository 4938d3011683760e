"""What fault rules cost a daemon: beside the same without rules, for each message.

Run by `scripts/bench faults`, in a network namespace of its own, in two minutes. Each server is
one worker of mtad with other rules, and they take turns; a ratio is that of one turn, and the
median of them is printed. CPU is that of the supervisor and the worker together.
"""

from __future__ import annotations

import argparse
import json
import math
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from statistics import median

from engine import ROWS, Bench, Measurement, measure_row
from rig.figures import paired
from rig.machine import machine
from rig.servers import Keep, Server

PLAIN = "no rules"
MANY = 1_000
# Without a rule that matches a message may cost so much more, and a match so many microseconds.
GOAL, STATELESS_US, COUNTED_US = 1.10, 30.0, 300.0

_OF_ALL = (
    ("sender", "nobody{}@example.com"),
    ("sender", "*@nobody{}.example"),
    ("helo", "nobody{}.example"),
)
_OF_RECIPIENTS = (("recipient", "nobody{}@example.com"), ("recipient", "*@nobody{}.example"))


def recipients() -> dict[str, object]:
    """Return rules for recipients that nobody has."""
    return {
        f"never-{number}": {
            "at": "rcpt",
            "where": {"recipient": f"nobody{number}@example.com"},
            "do": {"reply": "550 5.1.1 No such user"},
        }
        for number in range(MANY)
    }


def never(*moments: str) -> dict[str, object]:
    """Return rules of five kinds that match nobody, at these moments in turn."""
    rules: dict[str, object] = {}
    for number in range(MANY):
        at = moments[number % len(moments)]
        kinds = _OF_ALL if at == "mail" else _OF_ALL + _OF_RECIPIENTS
        fact, text = kinds[number // len(moments) % len(kinds)]
        do = {"reply": "450 4.2.0 Later"}
        rules[f"never-{number}"] = {"at": at, "where": {fact: text.format(number)}, "do": do}
    return rules


RULES: dict[str, dict[str, object]] = {
    PLAIN: {},
    "1,000 recipients, none matches": recipients(),
    "1,000 of 5 kinds at RCPT, none matches": never("rcpt"),
    "1,000 of 5 kinds at 3 moments, none matches": never("mail", "rcpt", "data"),
    "1,000 of 5 kinds at 5 moments, none matches": never("mail", "rcpt", "data", "message", "kept"),
    "one at RCPT, it matches": {"all": {"at": "rcpt", "do": {}}},
    "one at RCPT, each is counted": {"all": {"at": "rcpt", "when": {"nth": 10**9}, "do": {}}},
}
"""What is compared, by its name."""

_GOALS_US = {
    "one at RCPT, it matches": STATELESS_US,
    "one at RCPT, each is counted": COUNTED_US,
}


def servers(keep: Keep | None) -> list[Server]:
    return [
        Server(name, 2600 + number, "mtad", rules=rules, keep=keep)
        for number, (name, rules) in enumerate(RULES.items())
    ]


def lines(measured: list[Measurement], kept: bool) -> Iterator[dict[str, object]]:
    """Yield what is to be said of each server."""
    for name in RULES:
        cpu = median(one.cpu for one in measured if one.server == name)
        ratio = paired(measured, "pipelined", name, PLAIN, "cpu") or math.nan
        more = (ratio - 1) * median(one.cpu for one in measured if one.server == PLAIN) * 1_000
        goal = _GOALS_US.get(name)
        is_met = more <= goal if goal else ratio <= GOAL
        yield {
            "rules": name,
            "kept": kept,
            "cpu": round(cpu, 4),
            "ratio": round(ratio, 3),
            "more_us": round(more, 1),
            "met": is_met,
        }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeat", type=int, default=9, help="turns of each server")
    parser.add_argument("--json", action="store_true", help="print the figures as JSON")
    options = parser.parse_args()
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    row = next(row for row in ROWS if row.name == "pipelined")
    said: list[dict[str, object]] = []
    for keep in (None, Keep(transcripts="all")):
        with tempfile.TemporaryDirectory(prefix="mtad-bench-") as name:
            home = Path(name)
            home.chmod(0o755)
            bench = Bench(home)
            measured = list(measure_row(row, servers(keep), bench, options.repeat, 0.5))
            said += lines(measured, keep is not None)
    if options.json:
        print(json.dumps({"machine": machine(), "measured": said}))
        return
    print(f"{'CPU in seconds per 1,000 messages':48}{'CPU':>9}{'ratio':>8}{'more':>10}")
    for line in said:
        what = f"{line['rules']}{', kept' if line['kept'] else ''}"
        word = "met" if line["met"] else "missed"
        print(f"{what:55}{line['cpu']:9}{line['ratio']:8}{line['more_us']:8} µs  {word}")


if __name__ == "__main__":
    main()
