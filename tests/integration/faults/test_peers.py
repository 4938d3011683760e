"""docs/faults.md, "Every knob of the peers": each row does what the peer's knob does.

What smtp-sink has, it is seen doing, too.
"""

from __future__ import annotations

import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from harness.checkout import CHECKOUT
from harness.daemon import until
from harness.faulty import Faulty, faulty
from harness.installed import UNPACKED, lacking
from harness.pages import Row, rows
from harness.peers import CHECKS, MOMENTS, Check
from harness.scenes import Some

pytestmark = [pytest.mark.integration, pytest.mark.root]

ROWS = rows(CHECKOUT / "docs" / "faults.md", "Every knob of the peers")


def cases() -> Iterator[Any]:
    """Yield each check with its row."""
    for row in ROWS:
        checks = CHECKS[row.heading].get(row.title, [])
        for check in checks if isinstance(checks, list) else [checks]:
            title = row.title.replace("`", "").replace("COMMAND", check.command)
            yield pytest.param(row, check, id=f"{row.heading} {title} {check.command}".strip())


def test_every_row_is_checked() -> None:
    assert [(row.heading, row.title) for row in ROWS] == [
        (heading, title) for heading, checks in CHECKS.items() for title in checks
    ]


def options(row: Row) -> list[str]:
    """Return what a listener or its profile has, where no rule is needed."""
    return [*row.starting("profile:"), *row.starting("listener:")]


@pytest.fixture(scope="module")
def daemon() -> Iterator[Faulty]:
    shown = [option for row in ROWS for option in options(row)]
    with faulty(list(dict.fromkeys(shown))) as running:
        yield running


@pytest.mark.parametrize(("row", "check"), list(cases()))
def test_the_rule_does_it(daemon: Faulty, row: Row, check: Check) -> None:
    """With what the row has it is seen; without, not."""
    listener = "lmtp" if check.command == "LHLO" else "mx"
    port = daemon.daemon.port(listener)
    rules = [
        text.replace("MOMENT", MOMENTS.get(check.command, check.command.lower()))
        for text in row.starting("at:")
    ]
    if row.code:
        assert check.scene(port) != check.seen
    for option in options(row):
        port = daemon.port(option)
    with daemon.rules(rules):
        seen = check.scene(port)
        assert seen == check.seen
        if isinstance(check.seen, Some):  # what is drawn is drawn again
            daemon.again()
            assert check.scene(port) == seen


@contextmanager
def smtp_sink(*options: str) -> Iterator[int]:
    """Run it; yield its port."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port: int = free.getsockname()[1]
    tree = UNPACKED / "postfix" / "usr"
    process = subprocess.Popen(
        [tree / "sbin" / "smtp-sink", "-u", "nobody", *options, f"127.0.0.1:{port}", "100"],
        env={"LD_LIBRARY_PATH": str(tree / "lib" / "postfix")},
    )
    try:
        until(lambda: listens(port))
        yield port
    finally:
        process.kill()
        process.wait()


def listens(port: int) -> bool:
    """Whether somebody listens, who is not disturbed by the question (proc_net_tcp, state 0A)."""
    table = Path("/proc/thread-self/net/tcp").read_text()
    return f" 0100007F:{port:04X} 00000000:0000 0A " in table


SINKS = [pytest.param(*case.values[1:], id=case.id) for case in cases() if case.values[1].options]


@pytest.mark.skipif(bool(lacking("postfix")), reason=lacking("postfix"))
@pytest.mark.parametrize("check", SINKS)
def test_smtp_sink_does_it(check: Check) -> None:
    """The option makes of smtp-sink what the rule makes of mtad."""
    with smtp_sink(*(["-L"] if check.command == "LHLO" else []), *check.options) as port:
        assert check.scene(port) == check.seen
