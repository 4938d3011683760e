"""The parts that sessions with rules are made of."""

from __future__ import annotations

from itertools import combinations

import pytest
from harness.ruled import COUNTED, rule, ruled

from mtad.model.rules.values import Moment, Said
from mtad.smtp.faults.acting import Counting
from mtad.smtp.faults.bodies import WithHead
from mtad.smtp.faults.sessions import AT
from mtad.smtp.recording import Recorded

_PARTS = sorted({*AT.values(), WithHead, Counting}, key=lambda part: part.__name__)


def test_every_moment_has_a_part() -> None:
    assert set(AT) == set(Moment)


@pytest.mark.parametrize(("one", "other"), list(combinations(_PARTS, 2)))
def test_what_two_parts_have_is_meant_to_be_the_same(one: type, other: type) -> None:
    both = {name for name in vars(one) if name in vars(other) and not name.startswith("__")}
    assert {name for name in both if not hasattr(Recorded, name)} == set()


async def test_a_fault_of_ours_is_no_secret_told() -> None:
    rules = rule(Moment.NOOP, when=COUNTED, reply=Said(250)), rule(Moment.KEPT, when=COUNTED)
    async with ruled(*rules) as served:
        client = await served.greeted()

        def fails(_: object) -> None:
            raise ValueError("a secret")

        served.questions._send = fails
        reply = await client.ask("NOOP")
        assert reply.startswith("451 4.3.0 Internal error, reference ")
        assert "secret" not in reply
        assert (await client.ask("VRFY x")).startswith("252")
        await client.begin()
        reply = await client.send(b"x\r\n")
        assert reply.startswith("421 4.3.0 Internal error, reference ")
        assert await client.rest() == b""
        assert len(served.store.messages) == 1
