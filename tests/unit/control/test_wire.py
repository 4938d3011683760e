"""Lines, requests and answers: whole, octet by octet, with something behind them, and at random."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from harness.control_attacks import MALFORMED
from hypothesis import example, given
from hypothesis import strategies as st

from mtad.control import wire
from mtad.control.calls import read_call
from mtad.control.wire import LINE_LIMIT, Code, Failure, LineBuffer, Request, decode
from mtad.errors import CommandError


def lines_of(data: bytes, size: int, limit: int = LINE_LIMIT) -> list[bytes]:
    """Return the lines of ``data``, which arrives ``size`` octets at a time."""
    buffer, lines = LineBuffer(limit), []
    for start in range(0, len(data), size):
        buffer.feed(data[start : start + size])
        while (line := buffer.pop()) is not None:
            lines.append(line)
        assert len(buffer) <= limit
    rest = buffer.finish()
    return lines if rest is None else [*lines, rest]


@pytest.mark.parametrize("size", [1, 2, 7, 1000])
@pytest.mark.parametrize(
    ("data", "lines"),
    [
        (b"", []),
        (b"a\n", [b"a"]),
        (b"a", [b"a"]),
        (b"\n\na\n", [b"", b"", b"a"]),
        (b"a\r\nb", [b"a\r", b"b"]),
        (b"12345678\nb\n", [b"12345678", b"b"]),
        (b"123456789\nb\n", [b"123456789", b"b"]),
        (b"1234567890123\nb\n", [b"123456789", b"b"]),
        (b"1234567890123", [b"123456789"]),
        (b"1234567890123\n1234567890123\nb", [b"123456789", b"123456789", b"b"]),
    ],
)
def test_lines(data: bytes, lines: list[bytes], size: int) -> None:
    """With a limit of 8: a longer line comes out once, cut to 9, however it arrives."""
    assert lines_of(data, size, limit=8) == lines


@given(st.binary(max_size=300), st.integers(1, 40))
def test_lines_do_not_depend_on_how_they_arrive(data: bytes, size: int) -> None:
    expected = [line[:9] for line in data.split(b"\n")]
    if not expected[-1]:
        expected.pop()
    assert lines_of(data, size, limit=8) == expected


def test_unfinished() -> None:
    buffer = LineBuffer(8)
    assert not buffer.unfinished
    for data, unfinished in ((b"a", True), (b"\n", False), (b"x" * 20, True), (b"\n", False)):
        buffer.feed(data)
        while buffer.pop() is not None:
            pass
        assert buffer.unfinished is unfinished


@pytest.mark.parametrize(
    ("line", "request_"),
    [
        (b'{"jsonrpc":"2.0","id":1,"method":"pid"}', Request("pid", {}, 1)),
        (b' {"jsonrpc":"2.0","id":"x","method":"a","params":{}}\r', Request("a", {}, "x")),
        (b'{"jsonrpc":"2.0","id":null,"method":"pid"}', Request("pid", {}, None)),
        (b'{"jsonrpc":"2.0","method":"pid"}', Request("pid", {}, None, notification=True)),
        (
            '{"jsonrpc":"2.0","id":1,"method":"é","params":{"a":[1,"\\u00e9"]}}'.encode(),
            Request("é", {"a": [1, "é"]}, 1),
        ),
    ],
)
def test_requests(line: bytes, request_: Request) -> None:
    assert decode(line) == request_


@pytest.mark.parametrize("what", MALFORMED)
def test_malformed_lines_become_errors(what: str) -> None:
    line, code = MALFORMED[what]
    call = read_call(line)
    with pytest.raises(CommandError) as raised:
        call.resolve()
    assert raised.value.code == code
    answer = json.loads(call.error(raised.value))
    assert answer["error"]["code"] == code
    assert answer["error"]["message"]


@pytest.mark.parametrize("what", ["an id that is an object", "an id too large", "a batch"])
def test_an_id_that_cannot_be_given_back_is_null(what: str) -> None:
    read = decode(MALFORMED[what][0])
    assert isinstance(read, Failure)
    assert read.id is None


@pytest.mark.parametrize("what", ["another version", "no method", "an unknown member"])
def test_a_bad_request_is_answered_under_its_id(what: str) -> None:
    read = decode(MALFORMED[what][0])
    assert isinstance(read, Failure)
    assert read.id == 1


def assert_clear(line: bytes) -> None:
    """Assert that ``line`` is a good call, or is refused with an answer (a notification: none)."""
    call = read_call(line)
    refusal = None
    try:
        command, params = call.resolve()
    except CommandError as error:
        refusal = error
    else:
        assert params.keys() == command.defaults.keys()
    if refusal is not None:
        answer = call.error(refusal)
        silent = b'"id"' not in line and b'"method"' in line
        assert refusal.message
        assert answer.endswith(b"\n") or (silent and not answer)


@given(st.binary(max_size=200))
@example(b"\x1c")
@example(b"''")
@example(b"help ''")
def test_no_octets_raise_anything_but_a_clear_error(line: bytes) -> None:
    assert_clear(line if line.strip() else b"x")


_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner),
    max_leaves=8,
)


@given(
    st.fixed_dictionaries(
        {},
        optional={
            "jsonrpc": st.just("2.0") | _json,
            "id": st.integers() | _json,
            "method": st.sampled_from(["pid", "listener.stop", "ready"]) | _json,
            "params": st.dictionaries(st.sampled_from(["selectors", "wait", "all"]), _json) | _json,
        },
    )
)
def test_no_object_raises_anything_but_a_clear_error(value: dict[str, Any]) -> None:
    assert_clear(json.dumps(value).encode())


def test_a_notification_is_never_answered() -> None:
    call = read_call(b'{"jsonrpc":"2.0","method":"nosuch"}')
    with pytest.raises(CommandError) as raised:
        call.resolve()
    assert call.error(raised.value) == b""


def test_answers() -> None:
    assert json.loads(wire.result_line("x", {"ok": True})) == {
        "jsonrpc": "2.0",
        "id": "x",
        "result": {"ok": True},
    }
    error = CommandError("no", code=Code.BUSY, help="later")
    assert json.loads(wire.error_line(None, error)) == {
        "jsonrpc": "2.0",
        "id": None,
        "error": {"code": -32002, "message": "no", "data": {"help": "later"}},
    }
    assert wire.notification_line("events", {"event": "x"}).count(b"\n") == 1


def test_plain_commands_are_bounded() -> None:
    with pytest.raises(CommandError, match="more than 4096"):
        read_call(b"listener stop " + b"x " * 4096).resolve()


def test_errors_of_plain_commands_begin_with_error_and_hide_control_characters() -> None:
    call = read_call(b"pid \x1b[2J")
    with pytest.raises(CommandError) as raised:
        call.resolve()
    assert call.error(raised.value) == b"error: pid does not take '\\x1b[2J'\nhelp: usage: pid\n"


def test_no_control_character_is_in_a_line() -> None:
    """JSON need not escape DEL and C1 (RFC 8259 section 7); a terminal is moved by them."""
    text = "".join(map(chr, [*range(32), 0x7F, *range(0x80, 0xA0), 0xA0, 0xC2, 0x20AC]))
    line = wire.result_line(1, {"text": text, text: 1})
    assert not re.search(rb"[\x00-\x09\x0b-\x1f\x7f]|\xc2[\x80-\x9f]", line)
    assert json.loads(line)["result"] == {"text": text, text: 1}
