"""Deliveries over their attempts, and the numbers that they make."""

from __future__ import annotations

from typing import Any

import pytest
from harness.said import BEGAN, kept, session

from mtad.model.deliveries.attempts import Kept, Session
from mtad.model.deliveries.expected import Expected, Range, judge
from mtad.model.deliveries.report import Closure, Report, report_of

ONE, TWO = "one@x.example", "two@x.example"


def tried(
    name: str,
    at: float,
    *replies: str,
    sender: str = "a@example.org",
    to: tuple[str, ...] = (ONE,),
    size: int | None = None,
) -> Session:
    """Return a session with one transaction, whose recipients get ``replies``, then the content.

    A reply that is "" is not given: the session ends there.
    """
    option = f" SIZE={size}" if size else ""
    lines = ["0 S 220 mx", f"0 C MAIL FROM:<{sender}>{option}", "0 S 250 ok"]
    for recipient, reply in zip(to, replies, strict=False):
        lines += [f"0 C RCPT TO:<{recipient}>", *([f"0 S {reply}"] if reply else [])]
    for reply in replies[len(to) :]:
        lines += ["0 C DATA", "0 S 354 go", "0 C (message of 9 octets)"]
        lines += [f"0 S {reply}"] if reply else []
    return session(name, "\n".join(lines), at=at)


def report(sessions: list[Session], *messages: Kept, **more: Any) -> Report:
    return report_of(sessions, messages, began=BEGAN, ended=BEGAN + 100, **more)


def seen(found: Report) -> list[tuple[str, list[float], list[str]]]:
    """Return identity, times and outcomes of each delivery."""
    return [
        (
            one.identity,
            [attempt.at - BEGAN for attempt in one.attempts],
            [attempt.outcome.value for attempt in one.attempts],
        )
        for one in found.deliveries
    ]


def test_later_then_now() -> None:
    sessions = [
        tried("s1", 1, "450 later"),
        tried("s2", 11, "450 later"),
        tried("s3", 31, "250 ok", "250 kept"),
    ]
    found = report(sessions, kept("k", "s3", 31))
    assert seen(found) == [("<m@x>", [1, 11, 31], ["deferred", "deferred", "accepted"])]
    assert [one.seconds for one in found.intervals(found.deliveries[0])] == [10, 20]
    assert (found.messages, found.duplicates, found.lost, found.overtaken) == (1, 0, 0, 0)
    assert not found.deliveries[0].guessed
    assert found.is_settled()


def test_a_lost_answer_makes_a_duplicate() -> None:
    sessions = [tried("s1", 1, "250 ok", ""), tried("s2", 21, "250 ok", "250 kept")]
    found = report(sessions, kept("k1", "s1", 1), kept("k2", "s2", 21))
    assert seen(found) == [("<m@x>", [1, 21], ["broken", "accepted"])]
    assert found.deliveries[0].kept == ["k1", "k2"]
    assert (found.messages, found.duplicates, found.lost) == (1, 1, 0)


def test_without_message_ids_the_hash_tells() -> None:
    sessions = [tried(f"s{at}", at, "250 ok", "250 kept") for at in (1, 2, 3)]
    same = [kept(f"k{at}", f"s{at}", at, message_id=None, sha256="aa") for at in (1, 2)]
    other = kept("k3", "s3", 3, message_id="", sha256="bb")
    found = report(sessions, *same, other)
    assert (found.messages, found.duplicates) == (2, 1)


def test_the_same_message_for_another_is_no_duplicate() -> None:
    sessions = [tried("s1", 1, "250 ok", "250 kept"), tried("s2", 2, "250", "250 kept", to=(TWO,))]
    found = report(sessions, kept("k1", "s1", 1), kept("k2", "s2", 2, [TWO]))
    assert (found.messages, found.duplicates, len(found.deliveries)) == (1, 0, 2)


def test_recipients_part_and_change_places() -> None:
    """The one is kept at once; the other, later, comes alone, then first of two."""
    sessions = [
        tried("s1", 1, "250 ok", "450 later", "250 kept", to=(ONE, TWO)),
        tried("s2", 5, "450 later", to=(TWO,)),
        tried("s3", 9, "250 ok", "250 ok", "250 kept", to=(TWO, ONE)),
    ]
    found = report(sessions, kept("k1", "s1", 1, [ONE]), kept("k3", "s3", 9, [TWO, ONE]))
    assert seen(found) == [
        ("<m@x>", [1, 9], ["accepted", "accepted"]),
        ("<m@x>", [1, 5, 9], ["deferred", "deferred", "accepted"]),
    ]
    assert (found.messages, found.duplicates, found.lost) == (1, 1, 0)


def test_what_is_never_kept_is_lost() -> None:
    sessions = [
        tried("s1", 1, "550 never"),
        tried("s2", 2, "450 later", to=(TWO,)),
        tried("s3", 3, "250 ok", "250 thrown away", sender="b@example.org"),
    ]
    found = report(sessions)
    assert (found.messages, found.lost) == (0, 3)
    assert not found.is_settled()


def test_what_was_accepted_does_not_come_again() -> None:
    """So what is refused afterwards is another message."""
    sessions = [tried("s1", 1, "250 ok", "250 kept"), tried("s2", 2, "550 never")]
    found = report(sessions, kept("k1", "s1", 1))
    assert seen(found) == [("<m@x>", [1], ["accepted"]), ("", [2], ["refused"])]
    assert found.lost == 1


def test_sizes_tell_messages_apart() -> None:
    sessions = [
        tried("s1", 1, "450 later", size=10),
        tried("s2", 2, "450 later", size=20),
        tried("s3", 3, "250 ok", "250 kept", size=20),
        tried("s4", 4, "450 later", size=10),
        tried("s5", 5, "250 ok", "250 kept", size=10),
        tried("s6", 6, "450 later", size=30),
    ]
    found = report(
        sessions, kept("k3", "s3", 3, message_id="<20>"), kept("k5", "s5", 5, message_id="<10>")
    )
    assert [one[:2] for one in seen(found)] == [("<10>", [1, 4, 5]), ("<20>", [2, 3]), ("", [6])]
    assert (found.lost, any(one.guessed for one in found.deliveries)) == (1, False)
    assert found.overtaken == 1


def test_messages_that_nobody_can_tell_apart_are_dealt_attempts_in_turn() -> None:
    sessions = [tried(f"s{at}", at, "450 later") for at in (1, 2, 11, 12)]
    sessions += [tried(f"s{at}", at, "250 ok", "250 kept") for at in (21, 22)]
    messages = [kept(f"k{at}", f"s{at}", at, message_id=f"<{at}>") for at in (21, 22)]
    found = report(sessions, *messages)
    assert [one[:2] for one in seen(found)] == [("<21>", [1, 11, 21]), ("<22>", [2, 12, 22])]
    assert all(one.guessed for one in found.deliveries)


def test_one_that_is_there_already_takes_no_turn() -> None:
    sessions = [
        tried("s1", 1, "250 ok", "250 kept"),
        tried("s2", 2, "450 later"),
        tried("s3", 3, "250 ok", "250 kept"),
    ]
    messages = [kept("k1", "s1", 1, message_id="<1>"), kept("k3", "s3", 3, message_id="<3>")]
    found = report(sessions, *messages)
    assert [one[:2] for one in seen(found)] == [("<1>", [1]), ("<3>", [2, 3])]
    assert not any(one.guessed for one in found.deliveries)


def without_recipient(name: str, at: float, sender: str = "a@example.org") -> Session:
    text = f"0 S 220 mx\n0 C MAIL FROM:<{sender}>\n0 S 451 later"
    return session(name, text, at=at)


def test_a_sender_that_is_refused_is_refused_for_all_its_recipients() -> None:
    sessions = [
        without_recipient("s1", 1),
        tried("s2", 2, "250 ok", "250 ok", "250 kept", to=(ONE, TWO)),
        without_recipient("s3", 3),
    ]
    found = report(sessions, kept("k2", "s2", 2, [ONE, TWO]))
    assert [(one.recipient, one.sender) for one in found.deliveries] == [
        (ONE, "a@example.org"),
        (TWO, "a@example.org"),
        (None, "a@example.org"),
    ]
    assert [one[1] for one in seen(found)] == [[1, 2], [1, 2], [3]]
    assert found.lost == 1


def test_the_order_is_that_of_the_first_attempts() -> None:
    sessions = [
        tried("s1", 1, "450 later"),
        tried("s2", 2, "250 ok", "250 kept", to=(TWO,)),
        tried("s3", 3, "250 ok", "250 kept"),
    ]
    messages = [kept("k2", "s2", 2, [TWO], message_id="<2>"), kept("k3", "s3", 3)]
    assert report(sessions, *messages).overtaken == 1
    assert report(sessions[1:], *messages).overtaken == 0


def test_a_closed_listener_sees_nothing() -> None:
    sessions = [
        tried("s1", 1, "450 later"),
        tried("s2", 11, "450 later"),
        tried("s3", 41, "250 ok", "250 kept"),
    ]
    closed = [Closure(BEGAN + 15, BEGAN + 35), Closure(BEGAN + 50, BEGAN + 60)]
    found = report(sessions, kept("k3", "s3", 41), closures=closed)
    intervals = list(found.intervals(found.deliveries[0]))
    assert [(one.seconds, one.is_blind) for one in intervals] == [(10, False), (30, True)]


def test_what_is_before_or_after_is_left_out() -> None:
    sessions = [tried(f"s{at}", at, "450 later") for at in (-1, 1, 101)]
    sessions += [session("x", "0 S 421 full", at=101)]
    found = report(sessions)
    assert [one[1] for one in seen(found)] == [[1]]
    assert found.strays == ()


def test_a_run_has_nothing_but_its_own() -> None:
    tagged = "two+ci@x.example"
    sessions = [
        tried("s1", 1, "250 ok", "250 kept"),
        tried("s2", 2, "450 later", to=(tagged,)),
        tried("s3", 3, "250 ok", "250 kept", to=(TWO,)),
        session("s4", "0 S 421 full", at=4),
    ]
    messages = [kept("k1", "s1", 1), kept("k3", "s3", 3, [TWO], run="ci", message_id="<3>")]
    found = report(sessions, *messages, run="ci")
    assert [one.recipient for one in found.deliveries] == [tagged, TWO]
    assert (found.messages, found.lost, found.strays) == (1, 1, ())
    assert len(report(sessions, *messages).strays) == 1


def retried() -> Report:
    """Return the report on one that came after 10 and 30 seconds, one that came once."""
    sessions = [
        tried("s1", 1, "450 later"),
        tried("s2", 11, "450 later"),
        tried("s3", 41, "250 ok", "250 kept"),
        tried("s4", 50, "250 ok", "250 kept", to=(TWO,)),
    ]
    return report(sessions, kept("k3", "s3", 41), kept("k4", "s4", 50, [TWO], message_id="<4>"))


@pytest.mark.parametrize(
    ("expected", "verdict"),
    [
        ({"messages": 2}, ("2", "2", True)),
        ({"messages": 0}, ("0", "2", False)),
        ({"duplicates": 0}, ("0", "0", True)),
        ({"duplicates": 1}, ("1", "0", False)),
        ({"lost": 0}, ("0", "0", True)),
        ({"order": True}, ("kept", "kept", True)),
        ({"attempts": Range(1, 3)}, ("1 to 3", "1 to 3", True)),
        ({"attempts": Range(2)}, ("2 or more", "1 to 3", False)),
        ({"first_retry": Range(5, 10)}, ("5 to 10 s", "10 s", True)),
        ({"first_retry": Range(0, 9.5)}, ("0 to 9.5 s", "10 s", False)),
        ({"intervals": Range(10, 30)}, ("10 to 30 s", "10 to 30 s", True)),
        ({"intervals": Range(10, 29)}, ("10 to 29 s", "10 to 30 s", False)),
    ],
)
def test_verdicts(expected: dict[str, Any], verdict: tuple[str, str, bool]) -> None:
    (found,) = judge(retried(), Expected(**expected))
    assert (found.what, found.expected, found.found, found.ok) == (next(iter(expected)), *verdict)


def test_order_that_is_not_kept() -> None:
    sessions = [tried("s1", 1, "450 later"), tried("s2", 2, "250 ok", "250 kept", to=(TWO,))]
    sessions.append(tried("s3", 3, "250 ok", "250 kept"))
    messages = [kept("k2", "s2", 2, [TWO], message_id="<2>"), kept("k3", "s3", 3)]
    (found,) = judge(report(sessions, *messages), Expected(order=True))
    assert (found.found, found.ok) == ("1 overtaken", False)


def test_a_retry_that_does_not_come() -> None:
    once = report([tried("s1", 1, "450 later")])
    (late,) = judge(once, Expected(first_retry=Range(0, 60)))
    assert (late.found, late.ok) == ("none, and 1 missing", False)
    (not_due,) = judge(once, Expected(first_retry=Range(0, 120)))
    assert (not_due.found, not_due.ok) == ("none", False)


def test_nothing_is_expected_and_nothing_comes() -> None:
    assert judge(report([]), Expected()) == []
    (found,) = judge(report([]), Expected(attempts=Range(1)))
    assert (found.found, found.ok) == ("none", False)
