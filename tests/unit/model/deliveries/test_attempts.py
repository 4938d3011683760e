"""Attempts, told from transcripts and from what was kept."""

from __future__ import annotations

import pytest
from harness.said import BEGAN, kept, session

from mtad.model.deliveries.attempts import Attempt, Kept, Session, attempts_of

GREETED = """
    0 S 220 mx
    0.1 C EHLO x
    0.1 S 250 mx
"""


def told(text: str, *messages: Kept, ended: str = "quit") -> list[tuple[str, ...]]:
    """Return, of a session, recipient, stage, outcome, reply and what was kept of each attempt."""
    attempts, _ = attempts_of([session("s", GREETED + text, ended=ended)], messages)
    return [
        (one.recipient or "-", one.stage, one.outcome.value, one.reply, one.kept)
        for one in attempts
    ]


def test_a_delivery_as_it_should_be() -> None:
    text = """
        1 C MAIL FROM:<a@example.org> SIZE=99 BODY=8BITMIME
        1 S 250 ok
        2 C RCPT TO:<one@x.example>
        2 S 250 ok
        3 C DATA
        3 S 354 go
        4 C (message of 99 octets)
        5 S 250 2.0.0 Ok: kept
        6 C QUIT
        6 S 221 bye
    """
    (attempt,), strays = attempts_of([session("s", GREETED + text)], [kept("k", "s", 4.5)])
    assert attempt == Attempt(
        at=BEGAN + 1,
        session="s",
        peer="192.0.2.1:4711",
        sender="a@example.org",
        recipient="one@x.example",
        size="99",
        reply="250 2.0.0 Ok: kept",
        kept="k",
        identity="<m@x>",
    )
    assert strays == []


REFUSALS = {
    "mail, in one go": (
        """
        1 C MAIL FROM:<a@example.org>
        1 C RCPT TO:<one@x.example>
        1 C DATA
        1 S 451 later
        1 S 503 MAIL first
        1 S 503 RCPT first
        """,
        [("one@x.example", "mail", "deferred", "451 later", "")],
    ),
    "mail, with patience": (
        """
        1 C MAIL FROM:<a@example.org>
        1 S 550 no
        2 C QUIT
        2 S 221 bye
        """,
        [("-", "mail", "refused", "550 no", "")],
    ),
    "each recipient in its way": (
        """
        1 C MAIL FROM:<a@example.org>
        1 C RCPT TO:<one@x.example>
        1 C RCPT TO:<two@x.example>
        1 C RCPT TO:<three@x.example>
        1 C DATA
        1 S 250 ok
        1 S 450 4.2.0 later
        1 S 550 5.1.1 never
        1 S 250 ok
        1 S 354 go
        2 C (message of 9 octets)
        3 S 451 not now
        """,
        [
            ("one@x.example", "rcpt", "deferred", "450 4.2.0 later", ""),
            ("two@x.example", "rcpt", "refused", "550 5.1.1 never", ""),
            ("three@x.example", "content", "deferred", "451 not now", ""),
        ],
    ),
    "data": (
        """
        1 C MAIL FROM:<a@example.org>
        1 S 250 ok
        2 C RCPT TO:<one@x.example>
        2 S 250 ok
        3 C DATA
        3 S 452 full
        4 C RSET
        4 S 250 ok
        """,
        [("one@x.example", "data", "deferred", "452 full", "")],
    ),
    "a chunk": (
        """
        1 C MAIL FROM:<a@example.org>
        1 C RCPT TO:<one@x.example>
        1 C BDAT 5
        1 C (message of 5 octets)
        1 C BDAT 5 LAST
        1 C (message of 5 octets)
        1 S 250 ok
        1 S 250 ok
        1 S 552 too much
        1 S 503 no
        """,
        [("one@x.example", "content", "refused", "552 too much", "")],
    ),
    "the server leaves before the next command": (
        """
        1 C MAIL FROM:<a@example.org>
        1 S 250 ok
        2 C RCPT TO:<one@x.example>
        2 S 250 ok
        300 S 421 too long
        300 - timeout
        """,
        [("one@x.example", "rcpt", "deferred", "421 too long", "")],
    ),
    "what is no reply": (
        """
        1 C MAIL FROM:<a@example.org>
        1 S 250 ok
        2 C RCPT TO:<one@x.example>
        2 S hello there
        """,
        [("one@x.example", "rcpt", "broken", "hello there", "")],
    ),
}


@pytest.mark.parametrize("name", REFUSALS)
def test_where_it_was_decided(name: str) -> None:
    text, expected = REFUSALS[name]
    assert told(text) == expected


BEFORE_THE_CONTENT = """
    1 C MAIL FROM:<a@example.org>
    1 C RCPT TO:<one@x.example>
    1 S 250 ok
    1 S 250 ok
"""
IN_THE_CONTENT = f"""
    {BEFORE_THE_CONTENT}
    2 C DATA
    2 S 354 go
    3 C (message of 50 octets)
"""


@pytest.mark.parametrize(
    ("text", "stage"),
    [
        ("1 C MAIL FROM:<a@example.org>\n1 C RCPT TO:<one@x.example>", "mail"),
        (BEFORE_THE_CONTENT, "rcpt"),
        (f"{BEFORE_THE_CONTENT}\n2 C DATA", "data"),
        (IN_THE_CONTENT, "content"),
        (f"{BEFORE_THE_CONTENT}\n2 C BDAT 5\n2 C (message of 5 octets)\n2 S 250 ok", "content"),
    ],
)
def test_a_session_that_is_cut(text: str, stage: str) -> None:
    assert told(text, ended="reset") == [("one@x.example", stage, "broken", "", "")]
    (attempt,), _ = attempts_of([session("s", GREETED + text, ended="reset")], [])
    assert attempt.ended == "reset"


def test_kept_although_nobody_was_told() -> None:
    found = told(IN_THE_CONTENT, kept("k", "s", 3), ended="closed")
    assert found == [("one@x.example", "content", "broken", "", "k")]


def test_nothing_hindered_it() -> None:
    text = f"{BEFORE_THE_CONTENT}\n2 C RSET\n2 S 250 ok"
    assert told(text) == [("one@x.example", "rcpt", "given up", "250 ok", "")]
    text = "1 C MAIL FROM:<a@example.org>\n1 S 250 ok\n2 C QUIT\n2 S 221 bye"
    assert told(text) == [("-", "mail", "given up", "250 ok", "")]


def test_several_transactions_in_one_session() -> None:
    transaction = """
        {0} C MAIL FROM:<a@example.org>
        {0} C RCPT TO:<one@x.example>
        {0} C DATA
        {0} S 250 ok
        {0} S 250 ok
        {0} S 354 go
        {0} C (message of 9 octets)
        {0} S {1}
    """
    text = (
        transaction.format(1, "451 later")
        + transaction.format(2, "250 kept")
        + transaction.format(3, "451 kept, but not told")
        + transaction.format(4, "250 thrown away")
    )
    messages = [kept("k2", "s", 2.01), kept("k3", "s", 3.02)]
    assert [(*one[2:3], *one[4:]) for one in told(text, *messages)] == [
        ("deferred", ""),
        ("accepted", "k2"),
        ("deferred", "k3"),
        ("accepted", ""),
    ]


def test_what_is_kept_goes_by_its_envelope_before_its_time() -> None:
    transaction = """
        {0} C MAIL FROM:<a@example.org>
        {0} C RCPT TO:<{1}@x.example>
        {0} C DATA
        {0} S 250 ok
        {0} S 250 ok
        {0} S 354 go
        {0} C (message of 9 octets)
        {0} S 250 ok
    """
    text = transaction.format(1, "one") + transaction.format(2, "two")
    found = told(text, kept("k", "s", 1, ["two@x.example"]))
    assert [one[4] for one in found] == ["", "k"]


def test_lmtp_answers_each() -> None:
    text = """
        0 S 220 mx
        0 C LHLO x
        0 S 250 mx
        1 C MAIL FROM:<a@example.org>
        1 C RCPT TO:<one@x.example>
        1 C RCPT TO:<two@x.example>
        1 C RCPT TO:<three@x.example>
        1 C DATA
        1 S 250 ok
        1 S 250 ok
        1 S 550 never
        1 S 250 ok
        1 S 354 go
        2 C (message of 9 octets)
        2 S 250 kept
        2 S 452 full
    """
    attempts, _ = attempts_of([session("s", text)], [kept("k", "s", 2)])
    assert [(one.stage, one.reply, one.kept, one.identity) for one in attempts] == [
        ("content", "250 kept", "k", "<m@x>"),
        ("rcpt", "550 never", "", "<m@x>"),
        ("content", "452 full", "", "<m@x>"),
    ]


@pytest.mark.parametrize(
    ("line", "sender"),
    [
        ("MAIL FROM:<>", ""),
        ("mail from: <a@x.example>", "a@x.example"),
        ("MAIL FROM:<@hop.example,@other.example:a@x.example> SIZE=1", "a@x.example"),
        ('MAIL FROM:<"a > b"@x.example> SIZE=1', '"a > b"@x.example'),
        ("MAIL FROM:<ünï@x.example> SMTPUTF8", "ünï@x.example"),
        ("MAIL FROM: a@x.example", "a@x.example"),
        ("MAIL", ""),
    ],
)
def test_senders(line: str, sender: str) -> None:
    (attempt,), _ = attempts_of([session("s", f"{GREETED}\n1 C {line}\n1 S 250 ok")], [])
    assert attempt.sender == sender


def test_who_came_to_no_envelope_is_a_stray() -> None:
    refused = session("s1", "0 S 421 full\n0 - refused", at=2, ended="refused")
    silent = session("s2", "0 - connected", at=1, ended="client closed")
    attempts, strays = attempts_of([refused, silent], [])
    assert attempts == []
    assert [(one.at, one.session, one.reply, one.ended) for one in strays] == [
        (BEGAN + 1, "s2", "", "client closed"),
        (BEGAN + 2, "s1", "421 full", "refused"),
    ]


def test_without_a_transcript_there_is_what_was_kept() -> None:
    messages = [kept("k1", "s1", 5, ["one@x.example", "two@x.example"]), kept("k2", "s2", 4)]
    attempts, strays = attempts_of([Session("s1", BEGAN)], messages)
    assert [(one.at - BEGAN, one.recipient, one.kept) for one in attempts] == [
        (4, "one@x.example", "k2"),
        (5, "one@x.example", "k1"),
        (5, "two@x.example", "k1"),
    ]
    assert strays == []
