"""What is due is sent, again if need be, and what has come of it is noted."""

from __future__ import annotations

import asyncio
import email
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
from harness.hop import EVERYTHING, hop
from harness.mailroom import Mailroom, archive_of, ask

from mtad.archive.archive import Archive
from mtad.archive.outgoing import queue
from mtad.archive.outgoing.loops import MOST_RELAYS
from mtad.archive.outgoing.queue import DELAYS, MOST, MOST_OF_HOP, Queue
from mtad.errors import CommandError
from mtad.model import ids
from mtad.model.rules.values import Bounce, Mail
from mtad.store import deliveries
from mtad.store.deliveries import Delivery
from mtad.store.removal import remove

CONTENT = b"From: a@x\r\nSubject: hello\r\n\r\n.\r\n\x00\xff\nbare"
TWO: dict[str, Any] = {
    "recipients": ("a@example.com", "b@example.com"),
    "recipient_options": ((), ("NOTIFY=FAILURE",)),
}
SHORT = (0.05,) * len(DELAYS)


@pytest.fixture(autouse=True)
def _quickly(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(queue, "_PAUSE_SECONDS", 0.01)
    monkeypatch.setattr(queue, "_POLL_SECONDS", 0.05)


@pytest.fixture
def room(tmp_path: Path) -> Iterator[Mailroom]:
    room = Mailroom(tmp_path)
    yield room
    room.close()


@asynccontextmanager
async def sending(room: Mailroom) -> AsyncIterator[Archive]:
    """Have a queue while the block runs; it ends as one that is killed does."""
    with archive_of(room.directory) as (archive, _):
        task = asyncio.create_task(Queue(archive).run())
        try:
            yield archive
        finally:
            task.cancel()
            others = asyncio.all_tasks() - {asyncio.current_task()}
            for other in others:
                other.cancel()
            await asyncio.gather(*others, return_exceptions=True)


def rows(room: Mailroom, number: int) -> list[Delivery]:
    return deliveries.of_message(room.database.connection, number)


async def until(condition: Callable[[], Any], seconds: float = 20.0) -> None:
    async with asyncio.timeout(seconds):
        while not condition():  # noqa: ASYNC110 (it is in a file, or another thread)
            await asyncio.sleep(0.01)


def became(room: Mailroom, number: int, *states: str) -> Callable[[], bool]:
    return lambda: [one.state for one in rows(room, number)] == list(states)


async def test_it_is_forwarded(room: Mailroom) -> None:
    plain = room.keep(CONTENT)
    with hop() as server:
        sent = room.keep(CONTENT, mail=Mail(forward=server.name), sender="s@x", **TWO)
        async with sending(room):
            await until(became(room, sent, "delivered", "delivered"))
    (taken,) = server.taken
    assert taken.content == CONTENT
    assert taken.mail == f"FROM:<s@x> SIZE={len(CONTENT)}"
    assert taken.rcpts == ["TO:<a@example.com>", "TO:<b@example.com> NOTIFY=FAILURE"]
    assert taken.helo.startswith("mtad-relay-1.")
    assert [(one.tries, one.said) for one in rows(room, sent)] == [(1, "250 Taken")] * 2
    assert rows(room, plain) == []


async def test_content_in_a_file(room: Mailroom) -> None:
    content = b"x" * 1_000_000 + b"\r\n"
    with hop() as server:
        sent = room.keep(content, mail=Mail(forward=server.name))
        async with sending(room):
            await until(became(room, sent, "delivered"))
    assert server.taken[0].content == content


async def test_later_is_tried_again(room: Mailroom, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each recipient by itself, and with no more than those to whom it is due."""
    monkeypatch.setattr(queue, "DELAYS", SHORT)
    replies = iter(["451 4.7.1 Later", "451 4.7.1 Later"])

    def script(line: str) -> str | None:
        if line.startswith("RCPT TO:<a"):
            return next(replies, None)
        return "550 5.1.1 Nobody" if line.startswith("RCPT TO:<b") else None

    with hop(script) as server:
        sent = room.keep(CONTENT, mail=Mail(forward=server.name), **TWO)
        async with sending(room):
            await until(became(room, sent, "delivered", "failed"))
    first, second = rows(room, sent)
    assert (first.tries, first.said) == (3, "250 Taken")
    assert (second.tries, second.said) == (1, "550 5.1.1 Nobody")
    assert [one.rcpts for one in server.begun] == [[], [], ["TO:<a@example.com>"]]


async def test_it_is_given_up(room: Mailroom, monkeypatch: pytest.MonkeyPatch) -> None:
    """`mtactl status` tells meanwhile what mail waits for."""
    monkeypatch.setattr(queue, "DELAYS", SHORT)
    told: list[str] = []
    with hop(lambda line: "451 No" if line.startswith("MAIL") else None) as server:
        sent = room.keep(CONTENT, mail=Mail(forward=server.name))
        async with sending(room) as archive:
            monkeypatch.setattr(archive, "troubled", lambda _, text: told.append(text))
            await until(became(room, sent, "failed"))
            await until(lambda: told and not told[-1])
    (row,) = rows(room, sent)
    assert (row.tries, row.said) == (len(DELAYS) + 1, "given up: 451 No")
    assert len(server.begun) == 0
    assert server.connections == len(DELAYS) + 1
    assert f"mail waits for {server.name}: 451 No" in told


async def test_tries_are_further_and_further_apart(room: Mailroom) -> None:
    with hop(lambda line: "451 No" if line.startswith("MAIL") else None) as server:
        sent = room.keep(CONTENT, mail=Mail(forward=server.name))
        async with sending(room):
            await until(lambda: rows(room, sent)[0].said)
            (first,) = rows(room, sent)
    assert 0 < first.due - time.time_ns() <= DELAYS[0] * 1e9
    assert sorted(DELAYS) == list(DELAYS)


async def test_a_hop_that_stalls_keeps_nobody_else_waiting(room: Mailroom) -> None:
    """However much waits for it; and it has no more connections than its share."""
    going_on = threading.Event()

    def stalls(line: str) -> str | None:
        if line == "greeting":
            going_on.wait(20)
        return None

    with hop(stalls) as slow, hop() as quick:
        stalled = [room.keep(CONTENT, mail=Mail(forward=slow.name)) for _ in range(1_200)]
        sent = [room.keep(CONTENT, mail=Mail(forward=quick.name)) for _ in range(2 * MOST)]
        async with sending(room) as archive:
            for number in sent:
                await until(became(room, number, "delivered"))
            assert slow.connections == MOST_OF_HOP
            assert (await ask(archive, "message.count", query="outgoing:waiting"))["count"] == 1_200
            going_on.set()
            await until(became(room, stalled[MOST_OF_HOP], "delivered"))


async def test_a_bounce(room: Mailroom) -> None:
    """To the sender, from nobody; of whom nobody is to know anything there is none."""
    with hop(offers=()) as server:
        wanted = Mail(bounce=Bounce(server.name, "5.7.1", "Not here"))
        told = room.keep(CONTENT, mail=wanted, sender="shop@example.org", **TWO)
        null = room.keep(CONTENT, mail=wanted, sender="")
        never = room.keep(
            CONTENT, mail=wanted, recipients=("a@x",), recipient_options=(("NOTIFY=NEVER",),)
        )
        async with sending(room):
            await until(became(room, told, "delivered"))
            await until(became(room, null, "unwanted"))
            await until(became(room, never, "unwanted"))
    (taken,) = server.taken
    assert (taken.mail, taken.rcpts) == ("FROM:<>", ["TO:<shop@example.org>"])
    notification = email.message_from_bytes(taken.content or b"")
    assert notification.get_content_type() == "multipart/report"
    parts = list(notification.walk())
    assert [part["Final-Recipient"] for part in parts if "Final-Recipient" in part] == [
        "rfc822; a@example.com",
        "rfc822; b@example.com",
    ]
    assert parts[-1].get_payload() == "From: a@x\r\nSubject: hello\r\n\r\n"
    assert "RFC 5321" in rows(room, null)[0].said


async def test_the_whole_message_comes_back(room: Mailroom) -> None:
    with hop() as server:
        told = room.keep(
            b"Subject: x\r\n\r\n" + b"\xfftext\r\n" * 20_000,
            mail=Mail(bounce=Bounce(server.name)),
            sender_options=("RET=FULL",),
        )
        async with sending(room):
            await until(became(room, told, "delivered"))
    (taken,) = server.taken
    assert b"\xfftext\r\n" * 20_000 in (taken.content or b"")
    assert " BODY=8BITMIME" in taken.mail


async def test_it_is_held_until_it_is_released(room: Mailroom) -> None:
    with hop() as server, hop() as other:
        mail = Mail(hold=True, forward=server.name)
        first, second, third = (room.keep(CONTENT, mail=mail) for _ in range(3))
        nowhere = room.keep(CONTENT, mail=Mail(hold=True))
        plain = room.keep(CONTENT)
        async with sending(room) as archive:
            await asyncio.sleep(0.2)
            assert server.connections == 0
            answer = await ask(archive, "message.release", ids=[ids.encode(first)])
            assert answer == {"released": 1}
            await until(became(room, first, "delivered"))
            with pytest.raises(CommandError, match="no rule says where"):
                await ask(archive, "message.release", query="outgoing:held")
            assert became(room, second, "held")()
            for which in (first, plain):
                with pytest.raises(CommandError, match="nothing of message"):
                    await ask(archive, "message.release", ids=[ids.encode(which)])
            with pytest.raises(CommandError, match="not a host and a port"):
                await ask(archive, "message.release", ids=["latest"], to="nowhere")
            with pytest.raises(CommandError, match="there is no message"):
                await ask(archive, "message.release", ids=["0" * 13])
            answer = await ask(archive, "message.release", query="outgoing:held", to=other.name)
            assert answer == {"released": 3}
            for number in (second, third, nowhere):
                await until(became(room, number, "delivered"))
            assert (len(server.taken), len(other.taken)) == (1, 3)
            assert (await ask(archive, "message.count", query="outgoing:delivered"))["count"] == 4


async def test_what_has_failed_is_released(room: Mailroom) -> None:
    """It goes to those alone to whom it has failed."""
    refusing = [True]

    def script(line: str) -> str | None:
        return "550 No" if line.startswith("RCPT TO:<b") and refusing[0] else None

    with hop(script) as server:
        sent = room.keep(CONTENT, mail=Mail(forward=server.name), **TWO)
        async with sending(room) as archive:
            await until(became(room, sent, "delivered", "failed"))
            refusing.clear()
            refusing.append(False)
            await ask(archive, "message.release", query="outgoing:failed")
            await until(became(room, sent, "delivered", "delivered"))
    assert [one.rcpts for one in server.taken] == [
        ["TO:<a@example.com>"],
        ["TO:<b@example.com> NOTIFY=FAILURE"],
    ]


@pytest.mark.parametrize(
    ("known", "content", "reason"),
    [
        ({"helo": f"mtad-relay-{MOST_RELAYS}.x"}, CONTENT, "circles"),
        ({}, b"Received: by x\r\n" * 50 + b"\r\n", "circles"),
        ({"mail": Mail(forward="nowhere")}, CONTENT, "not a host and a port"),
    ],
)
async def test_what_is_not_sent_at_all(
    room: Mailroom, known: dict[str, Any], content: bytes, reason: str
) -> None:
    with hop() as server:
        sent = room.keep(content, **{"mail": Mail(forward=server.name), **known})
        async with sending(room):
            await until(became(room, sent, "failed"))
    assert reason in rows(room, sent)[0].said
    assert server.connections == 0


async def test_rows_that_nobody_of_ours_has_written(room: Mailroom) -> None:
    with hop() as server:
        sent = room.keep(CONTENT, mail=Mail(forward=server.name))
        plain = room.keep(CONTENT)
        with room.database.transaction() as mail:
            for number, recipient in ((7, 0), (sent, 1_000), (plain, -1), (sent + 1, 2**62)):
                mail.execute(
                    "INSERT INTO delivery VALUES (?, ?, ?, 'waiting', 0, 0, '', 0)",
                    (number, recipient, server.name),
                )
        broken = room.keep(CONTENT, mail=Mail(forward=server.name))
        with room.database.transaction() as mail:
            mail.execute("UPDATE message SET envelope = x'00' WHERE id = ?", (broken,))
        async with sending(room):
            for number in (7, sent + 1):
                await until(became(room, number, "failed"))
            await until(became(room, plain, "failed"))
            await until(lambda: rows(room, broken)[0].said)
            assert became(room, broken, "waiting")()


async def test_who_ends_in_between_lets_the_next_try_again(room: Mailroom) -> None:
    """The hop has answered 250, and nobody has noted that: it is sent twice, and not lost."""
    quits = threading.Event()

    def script(line: str) -> str | None:
        if line == "QUIT":
            quits.set()
            time.sleep(0.5)
        return None

    with hop(script) as server:
        sent = room.keep(CONTENT, mail=Mail(forward=server.name))
        async with sending(room):
            await until(quits.is_set)
        assert became(room, sent, "waiting")()
        async with sending(room):
            await until(became(room, sent, "delivered"))
    assert [one.content for one in server.taken] == [CONTENT, CONTENT]
    assert rows(room, sent)[0].tries == 2


async def test_what_ends_every_archive_is_given_up(room: Mailroom) -> None:
    with hop() as server:
        sent = room.keep(CONTENT, mail=Mail(forward=server.name))
        with room.database.transaction() as mail:
            mail.execute("UPDATE delivery SET tries = ?", (len(DELAYS) + 1,))
        async with sending(room):
            await until(became(room, sent, "failed"))
    assert server.connections == 0
    assert "over each try" in rows(room, sent)[0].said


async def test_what_is_deleted_is_not_sent(room: Mailroom) -> None:
    going_on = threading.Event()

    def stalls(line: str) -> str | None:
        if line.startswith("MAIL"):
            going_on.wait(20)
        return None

    with hop(stalls) as server:
        mail = Mail(forward=server.name)
        numbers = [room.keep(CONTENT, mail=mail) for _ in range(2 * MOST_OF_HOP)]
        async with sending(room) as archive:
            await until(lambda: server.connections == MOST_OF_HOP)
            removed = list(remove(room.database, [("message", number) for number in numbers]))
            assert sum(one.unsent for one in removed) == len(numbers)
            going_on.set()
            await until(lambda: len(server.taken) == MOST_OF_HOP)
            await asyncio.sleep(0.3)
            assert (await ask(archive, "message.count"))["count"] == 0
    assert server.connections == MOST_OF_HOP
    assert all(rows(room, number) == [] for number in numbers)


async def test_what_cannot_be_noted_is_not_sent_again(
    room: Mailroom, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The disk is full for a while: it is noted afterwards, and nothing is begun meanwhile."""
    told: list[str] = []
    with hop() as server:
        sent = room.keep(CONTENT, mail=Mail(forward=server.name))
        with room.database.transaction() as mail:
            mail.execute(
                "CREATE TRIGGER full BEFORE UPDATE OF said ON delivery"
                " BEGIN SELECT raise(ABORT, 'it is full'); END"
            )
        async with sending(room) as archive:
            monkeypatch.setattr(archive, "troubled", lambda _, text: told.append(text))
            await until(lambda: told and "it is full" in told[-1])
            room.keep(CONTENT, mail=Mail(forward=server.name))
            await asyncio.sleep(0.3)
            assert len(server.taken) == 1
            with room.database.transaction() as mail:
                mail.execute("DROP TRIGGER full")
            await until(became(room, sent, "delivered"))
            await until(lambda: len(server.taken) == 2)
            assert told[-1] == ""


async def test_questions_go_on_meanwhile(room: Mailroom) -> None:
    """A hundred messages on their way, and each question is answered soon."""
    with hop(offers=EVERYTHING) as server:
        for _ in range(100):
            room.keep(CONTENT, mail=Mail(forward=server.name))
        async with sending(room) as archive:
            slowest = 0.0
            while len(server.taken) < 100:
                began = time.monotonic()
                await ask(archive, "message.list", limit=5)
                slowest = max(slowest, time.monotonic() - began)
                with suppress(TimeoutError):
                    async with asyncio.timeout(0.01):
                        await archive.progress.past(2**62)
    assert slowest < 2.0
