"""docs/faults.md, "Recipes": a sender meets what each promises."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import pytest
from harness import scenes, troubles
from harness.checkout import CHECKOUT
from harness.daemon import until
from harness.faulty import Faulty, faulty
from harness.pages import Row, rows
from harness.scenes import (
    Scene,
    Some,
    after,
    announces,
    answers,
    each,
    fate,
    late,
    login,
    many,
    message,
    strikes,
)

pytestmark = [pytest.mark.integration, pytest.mark.root]

ROWS = rows(CHECKOUT / "docs" / "faults.md", "Recipes")

SENT = fate(message())
TOO_MANY = "421 4.7.0 Too many messages"


class Check(NamedTuple):
    """What a scene shows with a recipe, of which something is ``changed`` lest it take too long.

    ``kept``: how many messages there are more, afterwards.
    """

    scene: Scene
    seen: object
    changed: tuple[str, str] = ("", "")
    kept: int | None = None


CHECKS = {
    "421 at once": Check(strikes("CONNECT"), ("421 4.3.2 Too busy", "fin")),
    "a port where nobody answers": Check(troubles.unanswered, True),
    "the banner after 40 s": Check(late("CONNECT"), ("2", 1), ("40", "1")),
    "one byte a second": Check(troubles.drips, True),
    "a server that reads slowly": Check(troubles.blocked, True),
    "a server that stops reading": Check(troubles.blocked, True),
    "the connection lost in the body": Check(troubles.lost_in_content, "rst"),
    "accepted, and lost before the 250: the sender sends twice": Check(
        each(SENT, SENT), ["rst", "250"], kept=2
    ),
    "lost before the dot's reply, and not accepted": Check(
        each(SENT, SENT), ["fin", "250"], kept=1
    ),
    "no answer to the dot": Check(SENT, "silence", kept=1),
    "450 at first, then 250": Check(each(SENT, SENT), ["450 4.3.0 Try again", "250"]),
    "greylisting, 60 s": Check(
        each(SENT, SENT, after(2.1, SENT)),
        ["450 4.2.0 Greylisted", "450 4.2.0 Greylisted", "250"],
        ("60", "2"),
    ),
    "no such user": Check(
        each(fate(message(recipient="nobody@example.com")), SENT),
        ["550 5.1.1 No such user", "250"],
    ),
    "one user only": Check(
        each(fate(message(recipient="ann@example.com")), SENT), ["250", "550 5.1.1 No such user"]
    ),
    "a full mailbox": Check(
        each(fate(message(recipient="full@example.com")), SENT),
        ["452 4.2.2 Mailbox full", "250"],
    ),
    "a mailbox that gets full": Check(
        each(*[fate(message(size=6000))] * 2, fate(message(recipient="b@example.com", size=6000))),
        ["250", "452 4.2.2 Over quota", "250"],
        kept=2,
    ),
    "a rate limit by recipient, as Gmail has it": Check(
        each(SENT, SENT, SENT, SENT, fate(message(recipient="b@example.com"))),
        [*["250"] * 3, "450 4.2.1 The user is receiving mail too quickly", "250"],
    ),
    "a rate limit by client": Check(each(*[SENT] * 4), [*["250"] * 3, TOO_MANY]),
    "a warm-up: 1 a minute, then 2, then 4": Check(
        each(SENT, SENT, after(3.1, SENT), SENT, SENT),
        ["250", TOO_MANY, "250", "250", TOO_MANY],
        ("60", "3"),
    ),
    "down for maintenance, every night": Check(
        strikes("CONNECT"),
        ("421 4.3.2 Down for maintenance", "fin"),
        ("02:00-04:00", "00:00-24:00"),
    ),
    "up and down": Check(
        each(*[after(0.2, scenes.greeting)] * 11),
        Some("421 4.3.2 Too busy"),
        ("{on: 5, off: 25}", "{on: 1, off: 1}"),
    ),
    "a port that is closed for 20 s": Check(
        each(SENT, scenes.greeting, after(3.5, SENT)), ["250", "refused", "250"], ("20", "3")
    ),
    "a full backlog for 20 s": Check(
        each(SENT, troubles.in_backlog, SENT), ["250", True, "250"], ("20", "2")
    ),
    "a tarpit": Check(troubles.slower, [1, 2, 4], ("base: 1", "base: 0.4")),
    "a certificate that has expired": Check(troubles.certificate, False),
    "STARTTLS stripped": Check(announces("STARTTLS"), False),
    "STARTTLS refused": Check(fate(["EHLO", "STARTTLS"]), "454 4.7.0 TLS not available"),
    "a handshake that never ends": Check(troubles.handshake, False),
    "no mail in clear": Check(SENT, "530 5.7.0 Must issue a STARTTLS command first"),
    "no login today": Check(fate(login()), "454 4.7.0 Temporary authentication failure"),
    "HELO only": Check(answers("EHLO", "HELO"), ["500", "250"]),
    "refused for its content": Check(
        each(fate(message(subject="The lottery is yours")), SENT),
        ["554 5.7.1 Message rejected", "250"],
    ),
    "two replies for one command": Check(troubles.said_to("MAIL"), b"250 ok\r\n250 ok\r\n"),
    "half a reply": Check(troubles.said_to("MAIL"), b"250 o"),
    "accepted, never delivered": Check(SENT, "250", kept=0),
    "accepted, then bounced": Check(SENT, "250", kept=2),
    "accepted, and relayed, in staging": Check(SENT, "250", kept=2),
    "one command of twenty fails, one way or another": Check(many(), Some("250"), ("30", "0.1")),
}


def test_every_recipe_is_checked() -> None:
    assert [row.title for row in ROWS] == list(CHECKS)


@pytest.fixture(scope="module")
def daemon() -> Iterator[Faulty]:
    with faulty() as running:
        yield running


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.title)
def test_the_sender_meets_it(daemon: Faulty, row: Row) -> None:
    """With the recipe it is seen, or kept; without, not."""
    check = CHECKS[row.title]
    port = daemon.daemon.port()
    before = kept(daemon)
    without = check.scene(port), kept(daemon) - before
    before = kept(daemon)
    hop = f"127.0.0.1:{daemon.daemon.port('hop')}"
    texts = [text.replace(*check.changed).replace("10.0.0.1:25", hop) for text in row.code]
    with daemon.rules(texts):
        assert check.scene(port) == check.seen
        if check.kept is None:
            assert without[0] != check.seen
        else:
            assert without != (check.seen, check.kept)
            more = check.kept
            until(lambda: kept(daemon) >= before + more)
            assert kept(daemon) == before + more


def kept(daemon: Faulty) -> int:
    count: int = daemon.daemon.call("message.count")["count"]
    return count
