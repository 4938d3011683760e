"""What came of a scenario, as a result that is shown: to people as tables, to programs as JSON.

Times are in seconds since the scenario began.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec

from mtad.control.view import Column, Fields, Section, Table, Text
from mtad.model.deliveries.grouping import Delivery
from mtad.model.deliveries.report import Report

_VERDICTS = (
    Fields("counts", title="counts"),
    Table(
        "expectations",
        (
            Column("what", "WHAT"),
            Column("expected", "EXPECTED"),
            Column("found", "FOUND"),
            Column("ok", "OK"),
        ),
        title="expectations",
    ),
    Text("notes", title="notes"),
)
_ALL = (
    Table(
        "steps",
        (Column("at", "SECONDS", "seconds"), Column("done", "DONE")),
        title="steps",
    ),
    Table(
        "deliveries",
        (
            Column("sender", "FROM", "path"),
            Column("recipient", "TO"),
            Column("at", "SECONDS", "seconds"),
            Column("after", "AFTER", "duration"),
            Column("closed", "CLOSED"),
            Column("outcome", "OUTCOME"),
            Column("stage", "AT"),
            Column("reply", "REPLY", "brief", otherwise="ended"),
            Column("id", "KEPT"),
            Column("session", "SESSION"),
        ),
        nested="attempts",
        title="attempts",
        empty="no attempts",
    ),
    Table(
        "strays",
        (
            Column("at", "SECONDS", "seconds"),
            Column("peer", "PEER"),
            Column("reply", "LAST REPLY", "brief"),
            Column("ended", "ENDED"),
            Column("session", "SESSION"),
        ),
        title="sessions without an envelope",
    ),
)

VIEW: tuple[Section, ...] = (*_ALL, *_VERDICTS)
"""How a result is shown; what is not in it takes no room."""


def result_of(report: Report, *, whole: bool) -> dict[str, Any]:
    """Return what came of a scenario; ``whole``: with every step and attempt."""
    result: dict[str, Any] = {
        "ok": report.ok,
        "began": report.began,
        "seconds": round(report.ended - report.began, 6),
        "counts": {
            "deliveries": len(report.deliveries),
            "attempts": sum(len(one.attempts) for one in report.deliveries),
            "messages": report.messages,
            "duplicates": report.duplicates,
            "lost": report.lost,
            "overtaken": report.overtaken,
        },
        "expectations": [msgspec.to_builtins(verdict) for verdict in report.verdicts],
        "notes": list(_notes(report)),
    }
    if whole:
        result["steps"] = [{"at": round(one.at, 6), "done": one.words} for one in report.done]
        result["deliveries"] = [_delivery(one, report) for one in report.deliveries]
        result["strays"] = [
            {
                "at": round(one.at - report.began, 6),
                "peer": one.peer,
                "reply": one.reply or None,
                "ended": one.ended,
                "session": one.session,
            }
            for one in report.strays
        ]
    return result


def _delivery(one: Delivery, report: Report) -> dict[str, Any]:
    intervals = [None, *report.intervals(one)]
    return {
        "sender": one.sender,
        "recipient": one.recipient,
        "message": one.identity or None,
        "kept": one.kept,
        "guessed": one.guessed,
        "attempts": [
            {
                "at": round(attempt.at - report.began, 6),
                "after": None if interval is None else round(interval.seconds, 6),
                "closed": None if interval is None else interval.is_blind or None,
                "outcome": attempt.outcome.value,
                "stage": attempt.stage,
                "reply": attempt.reply or None,
                "ended": attempt.ended or None,
                "id": attempt.kept or None,
                "session": attempt.session,
            }
            for attempt, interval in zip(one.attempts, intervals, strict=True)
        ],
    }


def _notes(report: Report) -> Iterator[str]:
    """Yield what could not be told, and why."""
    if guessed := sum(one.guessed for one in report.deliveries):
        yield (
            f"{guessed} messages of one sender to one recipient cannot be told apart before they "
            "are kept: their attempts are dealt to them in turn"
        )
    if report.unheard:
        yield (
            f"{report.unheard} sessions go on, or have no transcript: of those only what was kept "
            "is known"
        )
    if any(one.is_blind for each in report.deliveries for one in report.intervals(each)):
        yield "while a listener is closed, attempts are not seen: CLOSED says where"
