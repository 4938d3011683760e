"""What a query finds in the index, by every way to ask; and what the index does with bad mail."""

from __future__ import annotations

import json
import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from harness.mailroom import Mailroom, content
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mtad.archive.compile import FEW
from mtad.archive.conditions import MAX_ID, Address, Has, Pattern, Size, Value, Words
from mtad.archive.index import INDEX, open_index
from mtad.archive.query import And, Not, Or, Tree, show
from mtad.archive.search import summaries
from mtad.model import ids
from mtad.store.removal import remove


@pytest.fixture
def room(tmp_path: Path) -> Iterator[Mailroom]:
    room = Mailroom(tmp_path)
    yield room
    room.close()


INVOICE = content(
    From='"Alice Example" <alice@shop.example>',
    To="Bob <bob@home.example>, carol+x@home.example",
    Cc="dora@work.example",
    Subject="=?utf-8?q?Rechnung_f=C3=BCr_M=C3=A4rz?=",
    X_Test="Run 42 of abc-def",
    text="Please pay the invoice 4711 now.",
)
ATTACHED = (
    b"From: eve@evil.example\r\nSubject: Sign up\r\nMIME-Version: 1.0\r\n"
    b'Content-Type: multipart/mixed; boundary="b"\r\n\r\n'
    b"--b\r\nContent-Type: text/html\r\n\r\n<p>Your <b>code</b> is 123456</p>\r\n"
    b'--b\r\nContent-Type: application/pdf; name="a.pdf"\r\n\r\n%PDF\r\n--b--\r\n'
)


@pytest.fixture
def mail(room: Mailroom) -> dict[str, int]:
    """Three messages, and an id that is between the first and the second."""
    return {
        "invoice": room.keep(
            INVOICE,
            listener="mx",
            sender="bounce@shop.example",
            recipients=("bob@home.example", "Carol+ci-7@home.example"),
            runs=("user", "plus-address"),
            session=77,
        ),
        "attached": room.keep(
            ATTACHED,
            listener="submission",
            peer="[2001:db8::7]:4711",
            helo="mail.evil.example",
            sender="",
            recipients=("bob@home.example",),
            user="Eve",
            tls_version="TLSv1.3",
            tls_cipher="TLS_AES_256_GCM_SHA384",
            notes=("bare-lf", "nul"),
            runs=("user", "plus-address"),
        ),
        "bare": room.keep(b"no header at all", listener="mx", recipients=("x@[192.0.2.9]",)),
    }


EVERY = {"invoice", "attached", "bare"}


@pytest.mark.parametrize(
    ("query", "names"),
    [
        ("", EVERY),
        ("from:alice@shop.example", {"invoice"}),
        ("from:ALICE", {"invoice"}),
        ("from:shop.example", {"invoice"}),
        ("from:example", {"invoice"}),  # of the name
        ('from:"example alice"', {"invoice"}),
        ("from:lice", set()),
        ("from:al*", {"invoice"}),
        ("from:*@shop.example", {"invoice"}),
        ("from:*@*.example", {"invoice", "attached"}),
        ("from:a*@shop.example", {"invoice"}),
        ("from:hop.example", set()),
        ("from:*", {"invoice", "attached"}),
        ("to:bob", {"invoice"}),
        ("cc:dora@work.example", {"invoice"}),
        ("cc:bob", set()),
        ("sender:bounce", {"invoice"}),
        ("sender:<>", {"attached"}),
        ("rcpt:home.example", {"invoice", "attached"}),
        ("rcpt:carol+ci-7", {"invoice"}),
        ("rcpt:x@[192.0.2.9]", {"bare"}),
        ("subject:rechnung", {"invoice"}),
        ("subject:MÄRZ", {"invoice"}),
        ("subject:marz", {"invoice"}),
        ("subject:rech*", {"invoice"}),
        ('subject:"für märz"', {"invoice"}),
        ('subject:"märz für"', set()),
        ("text:invoice", {"invoice"}),
        ("text:rechnung", set()),
        ("4711", {"invoice"}),
        ('"invoice 4711"', {"invoice"}),
        ('"invoice 47"*', {"invoice"}),
        ("shop.example", {"invoice"}),
        ("123456", {"attached"}),
        ("code", {"attached"}),
        ("header", {"bare"}),  # a line that is no field begins the text
        ("listener:mx", {"invoice", "bare"}),
        ("listener:sub*", {"attached"}),
        ("peer:2001:db8::7", {"attached"}),
        ("peer:[2001:db8::7]", {"attached"}),
        ("peer:192.0.2.*", {"invoice", "bare"}),
        ("helo:*.evil.example", {"attached"}),
        ("auth:eve", {"attached"}),
        ("tls:1.3", {"attached"}),
        ("tls:TLSv1.3", {"attached"}),
        ("tls:*sha384", {"attached"}),
        ("lint:nul", {"attached"}),
        ("lint:*", {"attached"}),
        ("run:ci-7", {"invoice"}),
        ("run:eve", {"attached"}),
        (f"session:{ids.encode(77)}", {"invoice"}),
        ("has:attachment", {"attached"}),
        ("has:auth has:tls has:lint", {"attached"}),
        ("has:run", {"invoice", "attached"}),
        (f"size:{len(INVOICE)}", {"invoice"}),
        ("size:<=16", {"bare"}),
        ("size:>16", {"invoice", "attached"}),
        ("size:1M..2M", set()),
        ("header.X-Test:42", {"invoice"}),
        ("header.x-test:abc", {"invoice"}),
        ("header.x-test:def", {"invoice"}),
        ('header.x-test:"run 42 of"', {"invoice"}),
        ("header.x-test:bc", set()),
        ("header.x-test:*bc", {"invoice"}),
        ("header.x-test:run*def", {"invoice"}),
        ("header.x-test:def*run", set()),
        ("header.subject:märz", {"invoice"}),
        ("header.x-test:rechnung", set()),
        ("header.x-test:*", {"invoice"}),
        ("header.x-te:*", set()),
        ("-listener:mx", {"attached"}),
        ("NOT 4711", {"attached", "bare"}),
        ("4711 OR code", {"invoice", "attached"}),
        ("4711 OR listener:submission", {"invoice", "attached"}),
        ("4711 -invoice", set()),
        ("invoice -code", {"invoice"}),
        ("listener:mx (4711 OR header)", {"invoice", "bare"}),
        ("listener:mx -(4711 OR code)", {"bare"}),
        ("listener:mx OR -has:auth", {"invoice", "bare"}),
        ("NOT (from:alice OR has:tls)", {"bare"}),
        ("rcpt:bob listener:mx subject:rechnung header.x-test:42 size:>1", {"invoice"}),
        ("after:1970-01-02", EVERY),
        ("before:1970-01-02", set()),
        ("after:1h", EVERY),
        ("before:1h OR 4711", {"invoice"}),
        ("before:0s -(after:1h)", set()),
        ("nothing-of-the-kind", set()),
        ("\U0001f600a", set()),
        ("zz' OR zz=zz", set()),
        ("from:'x';DROP", set()),
        ('subject:"a\\" OR text : b"', set()),
        ("listener:m?", set()),
        ("listener:[m]*", set()),
    ],
)
def test_queries(room: Mailroom, mail: dict[str, int], query: str, names: set[str]) -> None:
    assert room.find(query) == sorted(mail[name] for name in names)


def test_peers_of_unix_sockets(room: Mailroom) -> None:
    local, proxied = (room.keep(b"", peer=peer) for peer in ("unix", "/run/Mx.sock"))
    assert room.find("peer:unix") == [local]
    assert room.find("peer:/run/mx.sock") == [proxied]
    assert room.find("peer:*") == [local, proxied]


def test_ids(room: Mailroom, mail: dict[str, int]) -> None:
    second = ids.encode(mail["attached"])
    assert room.find(f"id:{second}") == [mail["attached"]]
    assert room.find(f"after:{second}") == [mail["bare"]]
    assert room.find(f"before:{second}") == [mail["invoice"]]
    assert room.find(f"listener:mx after:{second}") == [mail["bare"]]
    assert room.find(f"-after:{second}") == [mail["invoice"], mail["attached"]]


def test_summary(room: Mailroom, mail: dict[str, int]) -> None:
    room.catch_up()
    with closing(open_index(room.directory / INDEX)) as index:
        (found,), _ = summaries(index, [mail["invoice"]])
        none, _ = summaries(index, [1])
    assert none == []
    expected = {
        "id": ids.encode(mail["invoice"]),
        "received": mail["invoice"] / 1e9,
        "recipients": ["bob@home.example", "Carol+ci-7@home.example"],
        "size": len(INVOICE),
        "run": "ci-7",
        "session": ids.encode(77),
        "subject": "Rechnung für März",
        "from": ["alice@shop.example"],
        "to": ["bob@home.example", "carol+x@home.example"],
        "attachments": 0,
    }
    assert {name: found[name] for name in expected} == expected


# Among many: the rarest condition leads, whichever it is.

NUMBERS = range(FEW + 200)


@pytest.fixture(scope="module")
def crowd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Mailroom]:
    room = Mailroom(tmp_path_factory.mktemp("crowd"))
    for number in NUMBERS:
        room.keep(
            content(Subject=f"weekly n{number}", text="even" if number % 2 else "odd"),
            number=number + 1,
            listener="mx" if number % 3 else "mx2",
            recipients=(f"r{number % 10}@a.example", f"r{number % 7}@b.example"),
            notes=("nul",) if number % 400 == 0 else (),
        )
    room.catch_up()
    yield room
    room.close()


@pytest.mark.parametrize(
    ("query", "holds"),
    [
        ("weekly even", lambda n: n % 2),
        ("even listener:mx", lambda n: n % 2 and n % 3),
        ("listener:mx rcpt:a.example even", lambda n: n % 2 and n % 3),
        ("lint:nul even", lambda n: n % 400 == 0 and n % 2),
        ("lint:nul odd listener:mx2", lambda n: n % 1200 == 0),
        ("rcpt:r*@a.example even", lambda n: n % 2),
        ("rcpt:r3 weekly", lambda n: n % 10 == 3 or n % 7 == 3),
        ("listener:mx* size:>1", lambda _: True),
        ("size:>1 odd", lambda n: n % 2 == 0),
        ("odd OR listener:mx2", lambda n: n % 2 == 0 or n % 3 == 0),
        ("(odd OR listener:mx2) -lint:nul", lambda n: (n % 2 == 0 or n % 3 == 0) and n % 400),
        ("header.subject:weekly listener:mx", lambda n: n % 3),
        ("weekly header.subject:n11", lambda n: str(n).startswith("11")),
        ("-(even listener:mx)", lambda n: not (n % 2 and n % 3)),
    ],
)
def test_among_many(crowd: Mailroom, query: str, holds: Any) -> None:
    wanted = [number + 1 for number in NUMBERS if holds(number)]
    found = crowd.find(query, most=len(NUMBERS))
    assert found == wanted


MODEL: dict[str, Any] = {
    "even": (Words("text", Pattern(("even",))), lambda n: n % 2),
    "mx": (Value("listener", Pattern(("mx",))), lambda n: n % 3),
    "mx*": (Value("listener", Pattern(("m", ""))), lambda _: True),
    "nul": (Has("lint"), lambda n: n % 400 == 0),
    "r3": (Address("rcpt", Pattern(("r3",))), lambda n: n % 10 == 3 or n % 7 == 3),
    "n1*": (Words("subject", Pattern(("n1", ""))), lambda n: str(n).startswith("1")),
    "big": (Size(1, None), lambda _: True),
}
TREES = st.recursive(
    st.sampled_from(sorted(MODEL)),
    lambda inner: st.one_of(
        st.tuples(st.just("not"), inner),
        st.tuples(st.just("and"), inner, inner),
        st.tuples(st.just("or"), inner, inner),
    ),
    max_leaves=5,
)


def tree_of(model: Any) -> Tree:
    match model:
        case ("not", inner):
            return Not(tree_of(inner))
        case ("and", *inner):
            return And(tuple(map(tree_of, inner)))
        case ("or", *inner):
            return Or(tuple(map(tree_of, inner)))
    tree: Tree = MODEL[model][0]
    return tree


def holds(model: Any, number: int) -> bool:
    match model:
        case ("not", inner):
            return not holds(inner, number)
        case ("and", *inner):
            return all(holds(one, number) for one in inner)
        case ("or", *inner):
            return any(holds(one, number) for one in inner)
    return bool(MODEL[model][1](number))


@given(TREES)
@settings(max_examples=60, suppress_health_check=[HealthCheck.too_slow])
def test_any_tree_finds_what_it_says(crowd: Mailroom, model: Any) -> None:
    wanted = [number + 1 for number in NUMBERS if holds(model, number)]
    assert crowd.find(show(tree_of(model)), most=len(NUMBERS)) == wanted


# The index itself


def dump(room: Mailroom) -> dict[str, list[Any]]:
    """What stands in the index, besides what has been counted."""
    with closing(sqlite3.connect(room.directory / INDEX)) as index:
        tables = ("message", "term", "leaving", "words_docsize", "words_content")
        found = {
            table: sorted(index.execute(f"SELECT * FROM {table}"))  # noqa: S608
            for table in tables
        }
        index.execute("INSERT INTO words (words) VALUES ('integrity-check')")
        return found


def test_what_is_deleted_leaves_nothing(room: Mailroom, mail: dict[str, int]) -> None:
    room.catch_up()
    numbers = [mail["invoice"], mail["attached"]]
    room.index.leaving(numbers)
    for removed in remove(room.database, [("message", number) for number in numbers]):
        room.index.forget(removed, pruned=False)
    assert room.find("") == [mail["bare"]]
    assert room.find("4711 OR from:eve OR run:ci-7") == []
    found = dump(room)
    assert {row[2] for row in found["term"]} == {mail["bare"]}
    assert len(found["words_content"]) == len(found["words_docsize"]) == 1
    assert found["leaving"] == []


@pytest.mark.parametrize("gone", [True, False])
def test_a_deletion_that_was_cut_short_is_taken_up(
    room: Mailroom, mail: dict[str, int], gone: bool
) -> None:
    room.catch_up()
    room.index.leaving([mail["invoice"]])
    if gone:
        list(remove(room.database, [("message", mail["invoice"])]))
    room.reopen()
    left = EVERY - {"invoice"} if gone else EVERY
    assert room.find("") == sorted(mail[name] for name in left)
    assert dump(room)["leaving"] == []


@pytest.mark.parametrize("by", ["nothing", "a FIFO"])
def test_an_index_that_is_replaced_while_it_is_open_is_made_anew(
    room: Mailroom, mail: dict[str, int], by: str
) -> None:
    room.catch_up()
    before = dump(room)
    path = room.directory / INDEX
    path.unlink()
    if by == "a FIFO":
        os.mkfifo(path)
    room.catch_up()
    assert dump(room) == before


@pytest.mark.parametrize("damage", ["gone", "no database", "damaged", "version", "power"])
def test_an_index_that_cannot_be_used_is_made_anew(
    room: Mailroom, mail: dict[str, int], damage: str
) -> None:
    room.catch_up()
    before = dump(room)
    room.index.close()
    path = room.directory / INDEX
    match damage:
        case "gone":
            path.unlink()
        case "no database":
            path.write_bytes(b"x" * 8192)
        case "damaged":
            octets = bytearray(path.read_bytes())
            octets[4096:] = b"\xff" * (len(octets) - 4096)
            path.write_bytes(octets)
        case "version":
            with closing(sqlite3.connect(path)) as index:
                index.execute("PRAGMA user_version = 999")
        case "power":
            with closing(sqlite3.connect(path)) as index, index:
                index.execute("DELETE FROM message")
                index.execute("INSERT INTO boot VALUES ('another')")
    room.reopen()
    assert room.find("4711", patience=2) == [mail["invoice"]]
    assert dump(room) == before


def test_an_index_that_can_be_used_is_kept(room: Mailroom, mail: dict[str, int]) -> None:
    assert len(room.find("")) == len(mail)
    room.index.close()
    with closing(sqlite3.connect(room.directory / INDEX)) as index, index:
        index.execute("DELETE FROM message WHERE id = ?", (mail["bare"],))
    room.reopen()
    assert len(room.find("")) == len(mail) - 1


def test_another_mail_db_has_another_index(room: Mailroom, mail: dict[str, int]) -> None:
    room.catch_up()
    room.database.close()
    for path in room.directory.glob("mail.db*"):
        path.unlink()
    room.open_database()
    number = room.keep(INVOICE)
    assert room.find("") == [number]
    assert number not in mail.values()


def test_a_batch_ends_by_messages_and_by_octets(room: Mailroom) -> None:
    large = [room.keep(b"\r\n" + b"x" * 2**20) for _ in range(12)]
    assert room.index.advance() == (large[8], True)
    assert room.index.advance()[1] is False


def test_a_file_that_is_missing_costs_its_own_text_alone(room: Mailroom) -> None:
    lost = room.keep(content(Subject="lost", text="x" * 100_000))
    kept = room.keep(content(Subject="kept"))
    (room.directory / "bodies" / ids.encode(lost)).unlink()
    assert room.find("") == [lost, kept]
    assert room.find("subject:lost") == []
    with closing(sqlite3.connect(room.directory / INDEX)) as index:
        rows = dict(index.execute("SELECT id, problem FROM message"))
    assert rows[kept] == ""
    assert "cannot be read" in rows[lost]


@pytest.mark.parametrize("name", ["sender", "helo", "user", "listener"])
def test_octets_that_are_no_utf_8_are_found_as_what_they_are_not(room: Mailroom, name: str) -> None:
    odd = room.keep(b"Subject: \xff\xfe\r\n\r\n\x00\xff", **{name: "a\udcff\0b"})
    plain = room.keep(b"\r\n")
    assert room.find("") == [odd, plain]
    with closing(open_index(room.directory / INDEX)) as index:
        (summary, _), _ = summaries(index, [odd, plain], MAX_ID)
    assert summary[name] == "a\udcff\0b"
    json.dumps(summary)
