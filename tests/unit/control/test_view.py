"""How results are shown: the blocks of a view, and their plain text."""

from __future__ import annotations

import time
from typing import Any

import pytest

from mtad.control import plain
from mtad.control.commands import COMMANDS
from mtad.control.values import Form, show
from mtad.control.view import Column, Errors, Fields, Section, Table, Text

ROW: dict[str, Any] = {"name": "mx", "sessions": {"active": 3}, "error": None}
FAILED: dict[str, Any] = {
    "name": "lab",
    "sessions": {"active": 12},
    "error": {"text": "port 25 is taken", "hint": "stop the other one"},
}


@pytest.mark.parametrize(
    ("section", "result", "text"),
    [
        (
            Table("rows", (Column("name", "NAME"), Column("sessions.active", "SESSIONS"))),
            {"rows": [ROW, FAILED]},
            "NAME  SESSIONS\nmx           3\nlab         12\n",
        ),
        (Table("rows", (Column("name", "NAME"),), empty="nothing"), {"rows": []}, "nothing\n"),
        (Table("rows", (Column("name", "NAME"),), empty="nothing"), {}, ""),
        (
            Table("rows", (Column("bound", "AT", otherwise="endpoint"),)),
            {"rows": [{"bound": "*:7", "endpoint": "*:0"}, {"bound": None, "endpoint": "*:0"}]},
            "AT\n*:7\n*:0\n",
        ),
        (
            Table("of", (Column("pid", "PID"), Column("tid", "TID")), nested="in"),
            {"of": [{"pid": 1, "in": [{"tid": 1}, {"tid": 2}]}, {"pid": 9, "in": []}]},
            "PID  TID\n  1    1\n  1    2\n",
        ),
        (
            Table("rows", (Column("name", "SUBJECT"), Column("at", "AT"))),
            {"rows": [{"name": "漢字", "at": "mx"}, {"name": "e\u0301te\u0301", "at": "mx"}]},
            "SUBJECT  AT\n漢字     mx\ne\u0301te\u0301      mx\n",
        ),
        (
            Errors("rows"),
            {"rows": [ROW, FAILED]},
            "lab: port 25 is taken\n    help: stop the other one\n",
        ),
        (Fields(), {"ok": True, "a": {"b": 1, "c": []}, "d": None}, "a.b  1\na.c  none\nd    -\n"),
        (Fields("a", title="of a"), {"a": {"b": True}}, "of a:\n  b  yes\n"),
        (Fields("a"), {}, ""),
        (Text("t"), {"t": "one\n  two\\n"}, "one\n  two\\n\n"),
        (Text("t", title="notes"), {"t": ["one", "two"]}, "notes:\n  one\n  two\n"),
        (Text("t"), {"t": ["one\n    help: two", "three"]}, "one\n    help: two\nthree\n"),
        (Text("t"), {"t": 7}, "7\n"),
        (Text("t", empty="nothing"), {"t": []}, "nothing\n"),
        (Text("t", empty="nothing"), {}, ""),
        (Text("t", title="notes"), {"t": []}, ""),
        (Text("t"), {"t": "\x1b[2J"}, "\\x1b[2J\n"),
    ],
)
def test_sections(section: Section, result: dict[str, Any], text: str) -> None:
    assert plain.render((section,), result) == text


@pytest.mark.parametrize(
    ("value", "form", "text"),
    [
        (None, "time", "-"),
        (False, "value", "no"),
        (0.5, "value", "0.5"),
        (0, "time", "1970-01-01T00:00:00Z"),
        ("2026-01-02", "time", "2026-01-02"),
        (4.25, "duration", "4.2s"),
        (61, "duration", "1m1s"),
        (90_061, "duration", "1d1h"),
        (1023, "size", "1023 B"),
        (10 * 2**20, "size", "10 MiB"),
        ([7, 7, 7, 7], "ids", "7"),
        ([7, 7, 0, 7], "ids", "7,7,0,7"),
        ([], "ids", "none"),
        ({"hex": "0x400", "names": ["cap_net_bind_service"]}, "set", "cap_net_bind_service"),
        ({"hex": "0x0", "names": []}, "set", "none"),
        ({"hex": "0x1f", "names": list("abcde")}, "set", "0x1f (5)"),
        ({"a": 1}, "value", "a=1"),
        (0.0001564, "milliseconds", "0.156 ms"),
        ("x" * 60, "brief", "x" * 60),
        ("x" * 61, "brief", "x" * 59 + "…"),
        (["a@example.com", "b@example.com"], "brief", "a@example.com, b@example.com"),
        (["ann@example.com"] * 300, "brief", "ann@example.com, +299 more"),
        ([], "brief", "none"),
        ("", "path", "<>"),
        ([[], []], "options", "none"),
        ([["NOTIFY=NEVER", "ORCPT=rfc822;a"], []], "options", "NOTIFY=NEVER ORCPT=rfc822;a, none"),
    ],
)
def test_values(value: Any, form: Form, text: str) -> None:
    assert show(value, form) == text


def test_age() -> None:
    assert show(time.time() - 7_200, "age") == "2h0m"
    assert show(time.time() + 7_200, "age") == "0.0s", "a clock that was put back"


def test_event_line() -> None:
    event = {"ts": 0, "event": "x", "name": "a b", "n": 1, "evil": "\x1b[2J\n"}
    assert plain.event_line(event) == '1970-01-01T00:00:00Z x name="a b" n=1 evil=\\x1b[2J\\n\n'


@pytest.mark.parametrize(
    ("method", "result", "text"),
    [
        ("message.wait", {"instead": []}, "waited in vain; nothing else came\n"),
        ("message.wait", {"messages": []}, "no messages\n"),
        ("message.show", {"message": {"sender": ""}}, "sender  <>\n"),
        (
            "stats",
            {"senders": {"top": [{"name": "", "messages": 2, "octets": 7}]}},
            "SENDER DOMAIN  MESSAGES  OCTETS\n<>                    2     7 B\n",
        ),
    ],
)
def test_what_views_say(method: str, result: dict[str, Any], text: str) -> None:
    assert plain.render(COMMANDS[method].view, result) == text


@pytest.mark.parametrize("command", COMMANDS.values(), ids=COMMANDS)
def test_every_view_can_show_an_empty_result(command: Any) -> None:
    assert isinstance(plain.render(command.view, {}), str)
