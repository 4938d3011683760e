"""What is to be sent of kept mail: kept with it, due, tried, noted, released, forgotten."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest
from harness.mail_db import connect
from harness.store_rows import CAPTURED, keep_message
from harness.storing import storing

from mtad.model.rules.values import Bounce, Mail
from mtad.store import deliveries
from mtad.store.database import FILE, Database
from mtad.store.deliveries import SENDER, Delivery, Job, State, intended
from mtad.store.reader import open_reading
from mtad.store.removal import remove
from mtad.store.repair import salvage
from mtad.store.schema import APPLICATION_ID, MIGRATIONS, VERSION

HOP, OTHER = "192.0.2.1:25", "mx.example:25"
TWO = replace(CAPTURED, recipients=("a@example.com", "b@example.com"), recipient_options=((), ()))
LATER = 2**62


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Database]:
    with Database(tmp_path, synced=False) as database:
        yield database


@pytest.fixture
def mail(store: Database) -> Iterator[sqlite3.Connection]:
    with closing(open_reading(store.path)) as mail:
        yield mail


def keep(store: Database, wanted: Mail, number: int = 0) -> int:
    """Keep a message to two, with what a rule wants of it."""
    return keep_message(
        store,
        number=number,
        recipients=TWO.recipients,
        recipient_options=TWO.recipient_options,
        mail=wanted,
    )


def due(
    mail: sqlite3.Connection, hop: str, now: int, *, latest: int = LATER, limit: int = 100
) -> list[Job]:
    rows = deliveries.due(mail, hop, now, latest, limit)
    return list(dict.fromkeys(row.job for row in rows))


def tried(store: Database, job: Job) -> list[Delivery]:
    with store.transaction() as writing:
        return deliveries.begin(writing, job)


def noted(store: Database, *outcomes: Delivery) -> None:
    with store.transaction() as writing:
        deliveries.note(writing, outcomes)


@pytest.mark.parametrize(
    ("wanted", "rows"),
    [
        (None, []),
        (Mail(), []),
        (Mail(discard=True), []),
        (Mail(forward=HOP), [(0, HOP, State.WAITING), (1, HOP, State.WAITING)]),
        (Mail(forward=HOP, hold=True), [(0, HOP, State.HELD), (1, HOP, State.HELD)]),
        (Mail(hold=True), [(0, "", State.HELD), (1, "", State.HELD)]),
        (Mail(bounce=Bounce(HOP)), [(SENDER, HOP, State.WAITING)]),
        (Mail(bounce=Bounce(HOP), hold=True), [(SENDER, HOP, State.HELD)]),
        (
            Mail(bounce=Bounce(HOP), forward=OTHER),
            [(SENDER, HOP, State.WAITING), (0, OTHER, State.WAITING), (1, OTHER, State.WAITING)],
        ),
    ],
)
def test_what_is_intended(wanted: Mail | None, rows: list[tuple[int, str, State]]) -> None:
    assert list(intended(replace(TWO, mail=wanted))) == rows


async def test_it_is_kept_with_its_message(tmp_path: Path) -> None:
    """In one commit with others, of which nothing is wanted."""
    async with storing(tmp_path) as store:
        answers = [
            store.begin(message=replace(TWO, mail=wanted))
            for wanted in (None, Mail(forward=HOP), Mail(hold=True))
        ]
        outcomes = [await answer for answer in answers]
    assert all(isinstance(outcome, str) for outcome in outcomes)
    with closing(connect(tmp_path)) as found:
        numbers = [number for (number,) in found.execute("SELECT id FROM message ORDER BY id")]
        rows = found.execute("SELECT * FROM delivery").fetchall()
    _, sent, held = numbers
    assert sent + 1 == held
    assert rows == [
        (sent, 0, HOP, "waiting", 0, sent, "", 0),
        (sent, 1, HOP, "waiting", 0, sent, "", 0),
        (held, 0, "", "held", 0, held, "", 0),
        (held, 1, "", "held", 0, held, "", 0),
    ]


def test_what_an_earlier_version_has_kept_is_there(tmp_path: Path) -> None:
    with closing(sqlite3.connect(tmp_path / FILE)) as old, old:
        old.executescript(MIGRATIONS[0])
        old.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        old.execute("PRAGMA user_version = 1")
        old.execute("INSERT INTO message VALUES (1, 2, 3, x'04', x'05', x'06', NULL)")
    with Database(tmp_path) as store:
        number = keep(store, Mail(forward=HOP))
        mail = store.connection
        assert mail.execute("PRAGMA user_version").fetchone() == (VERSION,)
        first, _ = mail.execute("SELECT * FROM message ORDER BY id").fetchall()
        assert first == (1, 2, 3, b"\4", b"\5", b"\6", None)
        assert len(deliveries.of_message(mail, number)) == 2


def test_the_longest_due_is_first(store: Database, mail: sqlite3.Connection) -> None:
    second, first = keep(store, Mail(forward=HOP), 20), keep(store, Mail(forward=HOP), 10)
    keep(store, Mail(hold=True, forward=HOP), 5)
    third = keep(store, Mail(bounce=Bounce(HOP)), 30)
    other = keep(store, Mail(forward=OTHER), 1)
    jobs = [Job(first, HOP, False), Job(second, HOP, False), Job(third, HOP, True)]
    assert deliveries.hops(mail, 10) == [HOP, OTHER]
    assert deliveries.hops(mail, 1) == [HOP]
    assert due(mail, HOP, 30) == jobs
    assert due(mail, HOP, 29) == jobs[:2]
    assert due(mail, HOP, 30, limit=2) == jobs[:1]
    assert due(mail, HOP, 9) == []
    assert due(mail, OTHER, 1) == [Job(other, OTHER, False)]
    assert due(mail, "elsewhere:25", 30) == []


def test_a_clock_that_was_set_back_puts_nothing_off(
    store: Database, mail: sqlite3.Connection
) -> None:
    number = keep(store, Mail(forward=HOP), 10_000)
    assert due(mail, HOP, 9_000, latest=10_000) == []
    assert due(mail, HOP, 9_000, latest=9_999) == [Job(number, HOP, False)]


def test_tries_and_what_comes_of_them(store: Database, mail: sqlite3.Connection) -> None:
    number = keep(store, Mail(forward=HOP))
    job = Job(number, HOP, False)
    first, second = tried(store, job)
    assert first == Delivery(number, 0, HOP, "waiting", 1, number, "")
    noted(
        store,
        replace(first, state=State.DELIVERED, said="250 ok"),
        replace(second, due=LATER, said="451 later"),
    )
    delivered, waiting = deliveries.of_message(mail, number)
    assert delivered == replace(first, state="delivered", said="250 ok")
    assert waiting == Delivery(number, 1, HOP, "waiting", 1, LATER, "451 later")
    assert deliveries.states(mail, number) == ["delivered", "waiting"]
    assert deliveries.waits_for(mail, HOP)
    (again,) = tried(store, job)
    assert (again.recipient, again.tries) == (1, 2)
    noted(store, replace(again, state=State.FAILED))
    assert tried(store, job) == []
    assert not deliveries.waits_for(mail, HOP)


def test_a_bounce_and_what_is_sent_on_are_tried_apart(store: Database) -> None:
    number = keep(store, Mail(forward=HOP, bounce=Bounce(HOP)))
    (bounce,) = tried(store, Job(number, HOP, True))
    assert bounce.recipient == SENDER
    assert [one.recipient for one in tried(store, Job(number, HOP, False))] == [0, 1]


def test_what_is_held_is_released(store: Database, mail: sqlite3.Connection) -> None:
    number = keep(store, Mail(hold=True, forward=HOP))
    assert deliveries.hops(mail, 10) == []
    for hop, expected in (("", HOP), (OTHER, OTHER)):
        with store.transaction() as writing:
            assert deliveries.release(writing, number, hop, 77)
            assert not deliveries.release(writing, number, hop, 77)
        assert due(mail, expected, LATER) == [Job(number, expected, False)]
        outcomes = tried(store, Job(number, expected, False))
        assert [(one.tries, one.due) for one in outcomes] == [(1, 77), (1, 77)]
        # What has failed is released, too, and tried as often as before.
        noted(store, *(replace(one, state=State.FAILED, said="550 no") for one in outcomes))


def test_it_goes_with_its_message(store: Database, mail: sqlite3.Connection) -> None:
    number, other = keep(store, Mail(forward=HOP)), keep(store, Mail(hold=True))
    first, _ = tried(store, Job(number, HOP, False))
    noted(store, replace(first, state=State.DELIVERED))
    (removed,) = remove(store, [("message", number)])
    assert removed.unsent == 1
    assert deliveries.of_message(mail, number) == []
    noted(store, replace(first, state=State.FAILED))  # what was under way
    assert deliveries.of_message(mail, number) == []
    (removed,) = remove(store, [("message", other)])
    assert removed.unsent == 2


def test_changes_are_told_once_and_whole(store: Database, mail: sqlite3.Connection) -> None:
    numbers = [keep(store, Mail(forward=HOP)) for _ in range(3)]
    assert deliveries.changes(mail, 0, 2) == (0, {}, False)
    for number in numbers:
        outcomes = tried(store, Job(number, HOP, False))
        noted(store, *outcomes)  # they go on waiting: no change
        noted(store, *(replace(one, state=State.DELIVERED) for one in outcomes))
    told: dict[int, list[str]] = {}
    last, more = 0, True
    while more:
        last, states, more = deliveries.changes(mail, last, 1)
        assert not states.keys() & told.keys()
        told |= states
    assert told == {number: ["delivered"] for number in numbers}
    assert deliveries.changes(mail, last, 2) == (last, {}, False)


@pytest.mark.parametrize("number", [2**63 - 1, -(2**63)])
def test_changes_that_nobody_of_ours_has_numbered(
    number: int, store: Database, mail: sqlite3.Connection
) -> None:
    sent = keep(store, Mail(forward=HOP))
    with store.transaction() as writing:
        writing.execute("INSERT INTO state VALUES ('changes', ?)", (number,))
        writing.execute("UPDATE delivery SET changed = ?", (number,))
    assert deliveries.changes(mail, 0, 10) == (0, {}, False)
    noted(store, *(replace(one, state="failed") for one in tried(store, Job(sent, HOP, False))))
    assert deliveries.changes(mail, 0, 10) == (1, {sent: ["failed"]}, False)


def test_a_store_that_is_repaired_has_it(tmp_path: Path) -> None:
    with Database(tmp_path) as store:
        number = keep(store, Mail(forward=HOP))
        first, _ = tried(store, Job(number, HOP, False))
        noted(store, replace(first, state=State.DELIVERED, said="250 ok"))
        before = deliveries.of_message(store.connection, number)
    salvage(tmp_path, 0)
    with closing(open_reading(tmp_path / FILE)) as mail:
        # Of rows of one message not all may be readable: here they are.
        assert deliveries.of_message(mail, number) == before
        assert deliveries.changes(mail, 0, 10) == (0, {}, False)
