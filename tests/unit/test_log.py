"""Log lines: whole, one an event, never longer than a pipe takes at once, and never waited for."""

from __future__ import annotations

import json
import os
import pty
import re
import select
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import IO, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mtad.log import MAX_LINE, printable

FORMS = ("console", "json")
CONSOLE_LINE = re.compile(
    r"\d\d:\d\d:\d\d\.\d{3} (?:debug|info |warning|error) {0,4}(\S+)(?: (.*))?"
)

HOSTILE = {
    "newline": "a\nb",
    "forged line": '\n{"ts": "x", "event": "forged"}',
    "forged console": "\n12:00:00.000 info    forged",
    "carriage return": "a\rb",
    "escape": "\x1b[2J\x1b]0;title\x07",
    "c1": "\x9b31m",
    "nul": "\0",
    "bidi": "\u202etxt.exe\u202c \u2066x\u2069",
    "separators": "a\u2028b\u2029c\x85d\x0be\x0cf\x1cg",
    "surrogate": "\udfff\ud800 \udcff",
    "beyond the BMP": "\U0001f4e7 \U000e0041",
    "quotes": 'x" event="forged',
    "backslashes": "\\n \\",
    "empty": "",
}


@contextmanager
def program(body: str, *, form: str = "json", stdout: int | None = None) -> Iterator[Any]:
    """Run ``body`` in a process of its own, with ``form`` configured; `say` logs an event."""
    source = (
        "import json, logging, sys\n"
        "from mtad import log\n"
        f"log.configure({form!r}, 'debug')\n"
        "logger = logging.getLogger('test')\n"
        "def say(name, **fields): log.event(logger, logging.INFO, name, **fields)\n"
        f"{body}\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", source],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE if stdout is None else stdout,
        stderr=subprocess.PIPE,
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def output(body: str, form: str = "json", stdin: bytes = b"") -> str:
    """Return what ``body`` logged; it must have had nothing to say on standard error."""
    with program(body, form=form) as process:
        out, err = process.communicate(stdin, timeout=20)
    assert (err, process.returncode) == (b"", 0)
    return str(out.decode())


def logged(values: dict[str, Any], form: str) -> list[str]:
    """Return the lines of one event for each value, named by its key."""
    body = "for value in json.load(sys.stdin).values(): say('test.event', value=value)"
    text = output(body, form, json.dumps(values).encode())
    assert text.endswith("\n")
    return text[:-1].split("\n")


def test_json_form_keeps_every_value() -> None:
    values = HOSTILE | {"number": 42, "none": None, "list": ["a", 1], "mapping": {"k": "v"}}
    lines = logged(values, "json")
    assert [json.loads(line)["value"] for line in lines] == list(values.values())
    first = json.loads(lines[0])
    assert list(first) == ["ts", "level", "event", "logger", "pid", "value"]
    assert (first["level"], first["event"], first["logger"]) == ("info", "test.event", "test")
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z", first["ts"])


@pytest.mark.parametrize("form", FORMS)
def test_no_value_makes_a_line_or_moves_a_cursor(form: str) -> None:
    lines = logged(HOSTILE, form)
    assert len(lines) == len(HOSTILE)
    assert all(line.isprintable() for line in lines)
    assert not any(line.isspace() or line == "" for line in lines)


def test_console_values_are_unambiguous() -> None:
    """A value cannot pass for another field: what is quoted ends at the first bare quote."""
    for value, line in zip(HOSTILE.values(), logged(HOSTILE, "console"), strict=True):
        match = CONSOLE_LINE.fullmatch(line)
        assert match is not None
        assert re.fullmatch(r'value=(?:"(?:[^"\\]|\\.)*"|[^" =]+)', match[2]), line
        assert (value == "") == (match[2] == 'value=""')


@pytest.mark.parametrize("form", FORMS)
def test_messages_of_other_loggers_and_warnings(form: str) -> None:
    text = output(
        "import warnings\n"
        "logging.getLogger('asyncio').error('a\\nb %s', '\\x1b[0m')\n"
        "logging.getLogger('asyncio').info('not heard')\n"
        "warnings.warn('c\\nd')",
        form,
    )
    assert len(text.splitlines()) == 2
    assert "\x1b" not in text
    assert "not heard" not in text


@pytest.mark.parametrize("form", FORMS)
def test_exceptions(form: str) -> None:
    """Their texts are as hostile as any value; on a terminal each line of a trace is indented."""
    text = output(
        "try:\n    raise ValueError('a\\nb\\x1b[2J \\u2028')\n"
        "except ValueError as error:\n"
        "    log.event(logger, logging.ERROR, 'went.wrong', exc_info=error)",
        form,
    )
    first, *trace = text.splitlines()
    assert "\x1b" not in text
    if form == "json":
        assert trace == []
        assert json.loads(first)["traceback"].endswith("ValueError: a\nb\x1b[2J \u2028")
    else:
        assert first.endswith("error   went.wrong")
        assert trace[0] == "    Traceback (most recent call last):"
        assert all(line.startswith("    ") and line.isprintable() for line in trace)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("value", ["x" * 1_000_000, "\0" * 100_000, "\U0001f4e7" * 100_000])
def test_a_huge_value_is_cut_to_fit_one_write(form: str, value: str) -> None:
    body = f"say('test.event', short='kept', value={value[:1]!r} * {len(value)} + 'END')"
    (line,) = output(body, form).splitlines(keepends=True)
    assert len(line.encode()) <= MAX_LINE
    assert "END" in line
    if form == "json":
        assert json.loads(line)["short"] == "kept"
    else:
        assert "short=kept" in line


@pytest.mark.parametrize("form", FORMS)
def test_a_huge_trace_and_many_huge_values_fit_as_well(form: str) -> None:
    body = (
        "try:\n    raise ValueError('\\0' * 100_000)\n"
        "except ValueError as error:\n"
        "    log.event(logger, logging.ERROR, 'went.wrong', exc_info=error,\n"
        "              **{f'field{n}': '\\0' * 5_000 for n in range(12)})"
    )
    text = output(body, form)
    assert len(text.encode()) <= MAX_LINE
    assert "went.wrong" in text
    assert "field11" in text


def test_levels() -> None:
    text = output("log.set_level('warning'); say('a'); logger.warning('b'); log.set_level('info')")
    assert [json.loads(line)["event"] for line in text.splitlines()] == ["b"]


def test_auto_is_console_on_a_terminal_alone() -> None:
    master, slave = pty.openpty()
    with program("say('test.event')", form="auto", stdout=slave) as process:
        assert process.wait(20) == 0
    os.close(slave)
    assert CONSOLE_LINE.fullmatch(os.read(master, 4096).decode().rstrip("\r\n"))
    os.close(master)
    with program("say('test.event')", form="auto") as process:
        assert json.loads(process.communicate(timeout=20)[0])["event"] == "test.event"


def lines_until(pipe: IO[bytes], done: Callable[[dict[str, Any]], bool]) -> list[dict[str, Any]]:
    events: list[dict[str, Any]] = []
    for line in pipe:
        events.append(json.loads(line))
        if done(events[-1]):
            return events
    raise AssertionError("the log ended")


def test_a_reader_that_stops_blocks_nobody_and_the_loss_is_counted() -> None:
    """The program fills the pipe several times over, says that it got through, and goes on."""
    body = (
        "for number in range(5_000): say('flood', number=number)\n"
        "print('through', file=sys.stderr, flush=True)\n"
        "sys.stdin.readline()\n"
        "say('after')"
    )
    with program(body) as process:
        assert select.select([process.stderr], [], [], 20)[0]
        assert process.stderr.readline() == b"through\n"
        first = json.loads(process.stdout.readline())  # of many octets that make room
        process.stdin.write(b"\n")
        process.stdin.flush()
        rest = lines_until(process.stdout, lambda event: event["event"] == "after")
    arrived = [first, *rest]
    numbers = [event["number"] for event in arrived if event["event"] == "flood"]
    lost = [event for event in arrived if event["event"] == "log.lost"]
    assert numbers == sorted(set(numbers))
    assert 0 < len(numbers) < 5_000
    assert sum(event["lines"] for event in lost) == 5_000 - len(numbers)
    assert {event["level"] for event in lost} == {"warning"}


def test_processes_that_share_a_pipe_neither_block_nor_mix_lines() -> None:
    """Four fill it at once, again and again: poll(2) tells each of the same last room.

    With a pipe that blocks, one time in ten to a hundred leaves a process waiting.
    """
    body = (
        "import os\n"
        "for child in range(4):\n"
        "    if not os.fork():\n"
        "        while sys.stdin.buffer.raw.read(1):\n"
        "            for number in range(60): say('flood', text='x' * 3_000)\n"
        "            os.write(2, b'.')\n"
        "        os._exit(0)\n"
        "for child in range(4): os.wait()"
    )
    with program(body) as process:
        log, done = process.stdout.fileno(), process.stderr.fileno()
        os.set_blocking(log, False)
        for _ in range(150):
            os.write(process.stdin.fileno(), b"....")
            through = b""
            while len(through) < 4:
                assert select.select([done], [], [], 10)[0], "a process waits for the reader"
                through += os.read(done, 4)
            events = [json.loads(line) for line in os.read(log, 1 << 20).splitlines()]
            texts = [event["text"] for event in events if event["event"] == "flood"]
            assert len(texts) >= 10
            assert set(texts) == {"x" * 3_000}
        process.stdin.close()
        process.wait(10)


def test_a_reader_that_is_gone_ends_nothing() -> None:
    body = (
        "sys.stdin.readline()\n"
        "for number in range(10): say('nobody.listens')\n"
        "print('through', file=sys.stderr)"
    )
    with program(body) as process:
        process.stdout.close()
        process.stdin.write(b"\n")
        process.stdin.close()
        assert process.stderr.read() == b"through\n"
        assert process.wait(20) == 0


@given(st.text())
def test_printable_is_visible_and_can_be_undone(text: str) -> None:
    shown = printable(text)
    assert shown.isprintable()
    undone = shown.encode("latin-1", "backslashreplace").decode("unicode_escape", "surrogatepass")
    assert undone == text


@given(st.text(), st.text())
def test_printable_is_unambiguous(one: str, other: str) -> None:
    assert (printable(one) == printable(other)) == (one == other)


def test_plain_text_stays_as_it_is() -> None:
    assert printable("Grüße, 世界 [::1]:25 <a@b>") == "Grüße, 世界 [::1]:25 <a@b>"
