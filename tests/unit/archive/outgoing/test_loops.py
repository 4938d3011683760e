"""How often a message has been sent on."""

from __future__ import annotations

import pytest

from mtad.archive.outgoing import loops
from mtad.archive.outgoing.loops import MOST_RECEIVED, MOST_RELAYS
from mtad.smtp.grammar import helo_domain


def test_each_mtad_counts_on() -> None:
    helo, names = "client.example", []
    while not loops.fault(helo, ()):
        helo = loops.name_of(helo, "mx.example")
        names.append(helo)
    assert names == [f"mtad-relay-{number}.mx.example" for number in range(1, MOST_RELAYS + 1)]
    assert loops.fault(helo.upper(), ())  # case is the client's


@pytest.mark.parametrize("helo", ["", "mtad-relay-9", "x.mtad-relay-9.example", "mtad-relay-.x"])
def test_names_that_say_nothing_of_it(helo: str) -> None:
    assert loops.name_of(helo, "mx") == "mtad-relay-1.mx"


@pytest.mark.parametrize(
    "host", ["mx.example", "under_score", "", "-.", "a b\r\nRCPT", "ä", "x" * 300, "localhost"]
)
def test_a_name_that_any_server_takes(host: str) -> None:
    assert helo_domain(loops.name_of("", host))
    assert helo_domain(loops.host_name(host))


def test_received_fields() -> None:
    some = [(b"Received", b" by x")] * (MOST_RECEIVED - 1)
    assert loops.fault("", [*some, (b"Subject", b" x")]) == ""
    assert "Received" in loops.fault("", [*some, (b"RECEIVED", b" by y")])
