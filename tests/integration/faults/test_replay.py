"""What a client of the table has seen is made a scenario, and then it sees the same again."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import msgspec
import pytest
from harness.daemon import until
from harness.fault_table import Row, Served, rows, serving

from mtad.config.rules.text import as_file
from mtad.config.scenario import load_scenario
from mtad.model.deliveries.attempts import Session
from mtad.scenario.recorded import scenario_text

pytestmark = [pytest.mark.integration, pytest.mark.root]

# What a transcript does not tell, or a client cannot: how quick it was, that nobody reads.
_NOT_TOLD = ("rate", "deaf", "tls:", "discard", "tarpit")


def _told(row: Row) -> Row | None:
    """Return a row whose delays are long enough to be told; None: its act is not."""
    if any(word in row.do for word in _NOT_TOLD) or row.at == "tls":
        return None
    late = row._replace(do=row.do.replace("0.05", "0.15"))
    if late.do == row.do:
        return row
    return late._replace(after=row.after and 0.15, lasts=row.lasts and 0.15)


_ROWS = [told for row in rows(Path(__file__).with_name("table.txt")) if (told := _told(row))]


class Replayed(NamedTuple):
    """A daemon that answers as it did, and how many messages each listener had then."""

    served: Served
    messages: dict[str, int]


@pytest.fixture(scope="module")
def replayed() -> Iterator[Replayed]:
    with serving(_ROWS) as served:
        for row in _ROWS:
            served.play(row)
        listeners = {row.name for row in _ROWS}
        until(lambda: listeners <= set(_sessions(served)))
        sessions = _sessions(served)
        served.daemon.call("rule.remove", all=True)
        messages = {name: _replay(served, name, sessions[name]) for name in listeners}
        yield Replayed(served, messages)


def _sessions(served: Served) -> dict[str, str]:
    """Return the id of the session of each listener that has a rule."""
    rows = served.daemon.call("session.list", limit=10_000)["sessions"]
    return {row["listener"]: row["id"] for row in rows}


def _replay(served: Served, listener: str, session: str) -> int:
    """Have a listener answer as in a session; return how many messages that brought."""
    shown = served.daemon.call("session.show", id=session)
    recorded = msgspec.convert({**shown["session"], "entries": shown["entries"]}, Session)
    (step,) = load_scenario(scenario_text(recorded, listener, 0)).steps
    assert step.rules
    rules = [msgspec.structs.replace(rule, name=f"{listener}-{rule.name}") for rule in step.rules]
    served.daemon.call("rule.load", text=as_file(rules))
    return len(shown["messages"])


@pytest.mark.parametrize("row", _ROWS, ids=str)
def test_row(row: Row, replayed: Replayed) -> None:
    replayed.served.play(row)
    query, wanted = f"listener:{row.name}", 2 * replayed.messages[row.name]
    daemon = replayed.served.daemon
    # A client that is told nothing does not wait for it to be kept.
    until(lambda: daemon.call("message.count", query=query)["count"] >= wanted)
    assert daemon.call("message.count", query=query)["count"] == wanted
