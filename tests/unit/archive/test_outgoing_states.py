"""What is sent of messages, asked for in queries: the index follows what becomes of it."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from harness.mailroom import Mailroom, archive_of, ask
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mtad.archive import batch
from mtad.archive.query import parse
from mtad.errors import QueryError
from mtad.model import ids
from mtad.model.rules.values import Bounce, Mail
from mtad.store import deliveries
from mtad.store.deliveries import State

HOP = "192.0.2.1:25"
TWO: dict[str, Any] = {
    "recipients": ("a@example.com", "b@example.com"),
    "recipient_options": ((), ()),
}


@pytest.fixture
def room(tmp_path: Path) -> Iterator[Mailroom]:
    room = Mailroom(tmp_path)
    yield room
    room.close()


def become(room: Mailroom, number: int, *states: str, said: str = "") -> None:
    """Have the recipients of a message in these states."""
    with room.database.transaction() as mail:
        deliveries.release(mail, number, "", 0)
        outcomes = deliveries.of_message(mail, number)
        pairs = zip(outcomes, states, strict=True)
        deliveries.note(mail, [replace(one, state=state, said=said) for one, state in pairs])


def test_states_are_found(room: Mailroom) -> None:
    plain = room.keep()
    held = room.keep(mail=Mail(hold=True), **TWO)
    sent = room.keep(mail=Mail(forward=HOP), **TWO)
    bounced = room.keep(mail=Mail(bounce=Bounce(HOP)))
    assert room.find("outgoing:held") == [held]
    assert room.find("outgoing:WAITING") == [sent, bounced]
    become(room, sent, "delivered", "failed")
    become(room, bounced, "unwanted")
    assert room.find("outgoing:delivered") == room.find("outgoing:failed") == [sent]
    assert room.find("outgoing:unwanted") == [bounced]
    assert room.find("outgoing:waiting") == []
    assert room.find("outgoing:*") == [held, sent, bounced]
    assert room.find("-outgoing:*") == [plain]


def test_a_state_that_is_none() -> None:
    with pytest.raises(QueryError, match="held, waiting, delivered, failed, unwanted"):
        parse("outgoing:sent")


def test_what_changes_before_it_is_indexed(room: Mailroom) -> None:
    sent = room.keep(mail=Mail(forward=HOP), **TWO)
    become(room, sent, "delivered", "delivered")
    assert room.find("outgoing:delivered") == [sent]
    assert room.find("outgoing:waiting") == []


def test_what_changes_while_nobody_looks(room: Mailroom) -> None:
    """The archive was killed before it knew; the next one goes on where the index is."""
    sent = room.keep(mail=Mail(forward=HOP), **TWO)
    room.catch_up()
    become(room, sent, "delivered", "delivered")
    room.reopen()
    assert room.find("outgoing:delivered") == [sent]
    become(room, sent, "delivered", "delivered")
    room.index.begin_anew()
    assert room.find("outgoing:delivered") == [sent]


def test_many_changes_at_once(room: Mailroom, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batch, "CHANGES", 3)
    sent = [room.keep(mail=Mail(forward=HOP), **TWO) for _ in range(10)]
    room.catch_up()
    for number in sent:
        become(room, number, "delivered", "failed")
    assert room.find("outgoing:delivered") == room.find("outgoing:failed") == sent
    assert room.find("outgoing:waiting") == []


@settings(
    max_examples=30,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
    deadline=None,
)
@given(st.lists(st.tuples(st.integers(0, 2), *[st.sampled_from(State)] * 2, st.booleans())))
def test_the_index_is_what_mail_db_says(
    tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[int, State, State, bool]]
) -> None:
    """Whatever changes, and whenever it is looked at."""
    room = Mailroom(tmp_path_factory.mktemp("room"))
    sent = [room.keep(mail=Mail(forward=HOP, hold=True), **TWO) for _ in range(3)]
    for which, first, second, looks in steps:
        become(room, sent[which], first, second)
        if looks:
            room.catch_up()
    for state in State:
        with_it = [
            number
            for number in sent
            if state in deliveries.states(room.database.connection, number)
        ]
        assert room.find(f"outgoing:{state}") == with_it
    room.close()


async def test_what_became_of_a_message(room: Mailroom) -> None:
    sent = room.keep(mail=Mail(forward=HOP, bounce=Bounce("[::1]:25")), sender="s@x", **TWO)
    plain = room.keep()
    with room.database.transaction() as mail:
        bounce, first, _ = deliveries.of_message(mail, sent)
        deliveries.note(
            mail,
            [
                replace(bounce, state=State.UNWANTED, said="no"),
                replace(first, state=State.DELIVERED, said="250 ok", due=5),
            ],
        )
    with archive_of(room.directory) as (archive, _):
        shown = (await ask(archive, "message.show", id=ids.encode(sent)))["message"]
        listed = (await ask(archive, "message.list"))["messages"]
        untouched = (await ask(archive, "message.show", id=ids.encode(plain)))["message"]
        await asyncio.sleep(0)
    assert shown["outgoing"] == ["delivered", "unwanted", "waiting"]
    assert [one["outgoing"] for one in listed] == [[], shown["outgoing"]]
    keys = ("recipient", "kind", "hop", "state", "tries", "due", "said")
    assert [tuple(one[key] for key in keys) for one in shown["deliveries"]] == [
        ("s@x", "bounce", "[::1]:25", "unwanted", 0, None, "no"),
        ("a@example.com", "forward", HOP, "delivered", 0, None, "250 ok"),
        ("b@example.com", "forward", HOP, "waiting", 0, sent / 1e9, ""),
    ]
    assert (untouched["outgoing"], untouched["deliveries"]) == ([], [])
