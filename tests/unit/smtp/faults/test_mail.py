"""Rules around a message: which is kept, for whom, and what is said of it."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Mapping
from typing import Any

import pytest
from harness.recorded import ended
from harness.ruled import COUNTED, rule, ruled, weighed
from harness.serving import Serving
from msgspec import structs

from mtad.model.listener import Protocol
from mtad.model.profile import Auth
from mtad.model.rules.values import (
    At,
    Between,
    Bounce,
    Close,
    Do,
    Mail,
    Moment,
    Rule,
    Said,
    When,
    Where,
)

_CONTENT = b"Subject: x\r\nX-Test: one\r\n\r\nhello\r\n"
_LATER = Said(450, "4.2.0", "Later")


async def says(served: Serving, *lines: str | bytes) -> bytes:
    """Say hello and all of it at once; return what is answered to that."""
    client = await served.greeted("LHLO c" if served.is_lmtp else "EHLO c")
    client.say(*lines, "QUIT")
    return (await client.rest()).removesuffix(b"221 2.0.0 Bye\r\n")


def mail(*recipients: str, content: bytes = _CONTENT, sender: str = "s@example.org") -> list[Any]:
    rcpts = [f"RCPT TO:<{recipient}>" for recipient in recipients or ("r@example.com",)]
    return [f"MAIL FROM:<{sender}>", *rcpts, "DATA", content + b"."]


def to(recipient: str, at: Moment = Moment.MESSAGE, **do: Any) -> Rule:
    where = Where(recipient=(recipient,))
    return Rule(recipient, (At(at),), Do(**do), where)


# LMTP


async def test_each_recipient_has_an_answer_of_its_own() -> None:
    rules = (
        to("b@*", reply=_LATER),
        to("c@*", reply=Said(250, "2.1.5", "Mine")),
        to("d@*", mute=True),
        to("e@*", raw=b"550 raw\r\n"),
        to("f@*", mail=Mail(discard=True)),
    )
    async with ruled(*rules, protocol=Protocol.LMTP) as served:
        everybody = [f"{name}@example.com" for name in "abcdef"]
        octets = await says(served, *mail(*everybody))
        _, _, said = octets.partition(b"354")
        assert said.split(b"\r\n", 1)[1] == (
            b"250 2.0.0 Ok: kept as id1\r\n450 4.2.0 Later\r\n250 2.1.5 Mine\r\n550 raw\r\n"
            b"250 2.0.0 Ok: kept as id1\r\n"
        )
        (message,) = served.store.messages
        assert message.recipients == ("a@example.com", "c@example.com")
        assert len(message.recipient_options) == 2


async def test_nobody_is_left() -> None:
    async with ruled(to("*", reply=_LATER), protocol=Protocol.LMTP) as served:
        octets = await says(served, *mail("a@b", "c@d"))
        assert octets.endswith(b"450 4.2.0 Later\r\n450 4.2.0 Later\r\n")
        assert not served.store.messages


async def test_a_thousand_recipients_are_asked_about_one_by_one() -> None:
    rules = (to("r7@*", reply=_LATER), to("r500@*", delay=0.01), to("*", mail=Mail(hold=True)))
    async with ruled(*rules, protocol=Protocol.LMTP) as served:
        octets = await says(served, *mail(*(f"r{number}@example.com" for number in range(1000))))
        replies = octets.split(b"\r\n")[-1001:-1]
        assert replies.count(b"450 4.2.0 Later") == 1
        assert replies.index(b"450 4.2.0 Later") == 7
        (message,) = served.store.messages
        assert len(message.recipients) == 999
        assert message.mail == Mail(hold=True)


async def test_recipients_are_weighed_one_by_one() -> None:
    counted = rule(Moment.MESSAGE, when=When(COUNTED.gate, per=("recipient",)), reply=_LATER)
    async with ruled(counted, protocol=Protocol.LMTP) as served:
        saying = asyncio.create_task(says(served, *mail("a@b", "c@d", "e@f")))
        first = await weighed(served, "rule")
        second = await weighed(served, "", number=2)
        await weighed(served, "rule", number=3)
        octets = await saying
        assert octets.endswith(
            b"450 4.2.0 Later\r\n250 2.0.0 Ok: kept as id1\r\n450 4.2.0 Later\r\n"
        )
        assert first.hits[0].key != second.hits[0].key
        assert first.hits[0].octets == len(_CONTENT)
        assert [message.recipients for message in served.store.messages] == [("c@d",)]


async def test_one_that_breaks_off_does_so_behind_the_others() -> None:
    async with ruled(to("b@*", close=Close.FIN), protocol=Protocol.LMTP) as served:
        octets = await says(served, *mail("a@x", "b@x", "c@x"))
        assert octets.endswith(b"250 2.0.0 Ok: kept as id1\r\n250 2.0.0 Ok: kept as id1\r\n")
        assert served.store.messages[0].recipients == ("a@x", "c@x")


async def test_what_is_said_when_it_is_kept_is_said_of_those_it_is_kept_for() -> None:
    rules = (to("b@*", reply=_LATER), rule(Moment.KEPT, "kept", reply=Said(451, "", "Lost")))
    async with ruled(*rules, protocol=Protocol.LMTP) as served:
        octets = await says(served, *mail("a@x", "b@x"))
        assert octets.endswith(b"451 Lost\r\n450 4.2.0 Later\r\n")
        assert len(served.store.messages) == 1


# What is kept, and how


async def test_what_becomes_of_it_is_kept_with_it() -> None:
    bounce = Mail(bounce=Bounce("10.0.0.1:25"))
    async with ruled(rule(Moment.MESSAGE, mail=bounce)) as served:
        await says(served, *mail(), *mail())
        assert [message.mail for message in served.store.messages] == [bounce, bounce]


async def test_what_a_rule_has_said_is_said_once() -> None:
    rules = rule(Moment.MESSAGE, reply=Said(250, "2.0.0", "first"), mail=Mail(hold=True))
    where = Where(sender=("one@*",))
    async with ruled(Rule("r", rules.at, rules.do, where)) as served:
        octets = await says(served, *mail(sender="one@x"), *mail(sender="two@x"))
        assert octets.count(b"250 2.0.0 first\r\n") == 1
        assert octets.endswith(b"250 2.0.0 Ok: kept as id2\r\n")
        assert [message.mail for message in served.store.messages] == [Mail(hold=True), None]


async def test_a_discarded_message_is_counted_and_not_kept() -> None:
    async with ruled(rule(Moment.MESSAGE, mail=Mail(discard=True))) as served:
        octets = await says(served, *mail())
        assert octets.endswith(b"250 2.0.0 Ok\r\n")
        assert not served.store.messages
        assert (served.counts.messages, served.counts.octets) == (1, len(_CONTENT))


async def test_a_store_that_fails_is_not_told_otherwise() -> None:
    rules = rule(Moment.MESSAGE, reply=Said(250, "2.0.0", "fine"), close=Close.FIN)
    async with ruled(rules, rule(Moment.KEPT, "kept", reply=Said(250))) as served:
        served.store.refuse()
        octets = await says(served, *mail())
        assert octets.endswith(b"452 4.3.1 Message not kept: insufficient system storage\r\n")


async def test_no_rule_is_asked_about_what_is_refused_anyway() -> None:
    rules = [rule(at, at.value, reply=Said(250)) for at in (Moment.MESSAGE, Moment.KEPT)]
    async with ruled(*rules) as served:
        octets = await says(served, *mail(content=b"bare\nLF\r\n"))
        assert octets.endswith(b"550 5.6.0 Message refused: it has a bare LF\r\n")
        octets = await says(served, "RCPT TO:<a@b>", "DATA", "MAIL FROM:nobody")
        assert octets.count(b"\r\n") == 3
        assert not served.told


async def test_all_moments_of_one_message() -> None:
    rules = (
        rule(Moment.MAIL, "1", delay=0.01),
        rule(Moment.RCPT, "2", delay=0.01),
        rule(Moment.DATA, "3", reply=Said(354, "", "go")),
        rule(Moment.BODY, "4", delay=0.01),
        rule(At(Moment.BODY, octets=3), "5", delay=0.01),
        rule(At(Moment.BODY, lines=1), "6", delay=0.01),
        rule(Moment.MESSAGE, "7", delay=0.01),
        rule(Moment.KEPT, "8", delay=0.01, reply=Said(250, "", "kept")),
        rule(Moment.ANSWERED, "9", delay=0.01, raw=b"250 more\r\n"),
    )
    async with ruled(*rules) as served:
        octets = await says(served, *mail(), *mail())
        once = (
            b"250 2.1.0 Sender ok\r\n250 2.1.5 Recipient ok\r\n354 go\r\n250 kept\r\n250 more\r\n"
        )
        assert octets == once * 2
        assert served.store.contents == [_CONTENT, _CONTENT]
        summary = await ended(served)
        assert summary.messages == 2


async def test_behind_a_refusal_nothing_is_asked() -> None:
    told = rule(Moment.ANSWERED, "answered", raw=b"250 more\r\n")
    async with ruled(rule(Moment.KEPT, "kept", reply=Said(451)), told) as served:
        assert b"more" not in await says(served, *mail())
    async with ruled(rule(Moment.MESSAGE, reply=Said(451)), told) as served:
        assert b"more" not in await says(served, *mail())


# BDAT


async def test_a_chunk_that_is_refused_is_read_all_the_same() -> None:
    async with ruled(rule(Moment.BDAT, reply=_LATER)) as served:
        octets = await says(served, "MAIL FROM:<a@b>", "RCPT TO:<c@d>", b"BDAT 6\r\nNOOP", "RSET")
        assert octets.endswith(b"450 4.2.0 Later\r\n250 2.0.0 Ok\r\n")


async def test_the_message_of_a_chunk_that_was_refused_is_refused() -> None:
    async with ruled(rule(Moment.BDAT, when=COUNTED, reply=_LATER)) as served:
        saying = asyncio.create_task(
            says(
                served,
                "MAIL FROM:<a@b>",
                "RCPT TO:<c@d>",
                b"BDAT 4\r\nabcdBDAT 4\r\nabcdBDAT 2 LAST",
                "RSET",
            )
        )
        for number, name in enumerate(("", "rule", ""), 1):
            await weighed(served, name, number=number)
        octets = await saying
        assert b"450 4.2.0 Later\r\n450 4.0.0 A rule refuses it\r\n" in octets
        assert not served.store.messages


async def test_places_are_counted_over_chunks() -> None:
    async with ruled(rule(At(Moment.BODY, octets=6), reply=Said(552, "", "enough"))) as served:
        octets = await says(
            served, "MAIL FROM:<a@b>", "RCPT TO:<c@d>", b"BDAT 4\r\nabcdBDAT 4 LAST\r\nefgh"
        )
        # The CRLF behind is a command, as far as that goes.
        assert b"250 2.0.0 Ok\r\n552 enough\r\n500" in octets
        assert not served.store.messages


async def test_the_end_of_chunks() -> None:
    async with ruled(rule(Moment.MESSAGE, reply=_LATER)) as served:
        octets = await says(
            served, "MAIL FROM:<a@b>", "RCPT TO:<c@d>", b"BDAT 4\r\nabcdBDAT 2 LAST", "RSET"
        )
        assert b"250 2.0.0 Ok\r\n450 4.2.0 Later\r\n" in octets


# A handler of aiosmtpd besides


class Handler:
    """Hooks that wait, and one that refuses."""

    async def handle_MAIL(  # noqa: N802
        self, _server: Any, _session: Any, envelope: Any, address: str, _options: list[str]
    ) -> str:
        await asyncio.sleep(0)
        if address.startswith("bad"):
            return "550 5.1.8 Bad"
        envelope.mail_from = address
        return "250 Hooked"

    async def handle_DATA(self, _server: Any, _session: Any, envelope: Any) -> str:  # noqa: N802
        await asyncio.sleep(0)
        return f"250 2.0.0 {len(envelope.content)} octets"


@pytest.fixture
def hooks(monkeypatch: pytest.MonkeyPatch) -> Mapping[str, Any]:
    monkeypatch.setitem(sys.modules, "hooks_for_faults", sys.modules[__name__])
    return {"handler": "hooks_for_faults:Handler"}


async def test_rules_come_before_hooks(hooks: Mapping[str, Any]) -> None:
    rules = (
        Rule("no", (At(Moment.MAIL),), Do(reply=_LATER), Where(sender=("no@*",))),
        rule(Moment.MAIL, "yes", delay=0.01, reply=Said(250, "2.1.0", "Ruled")),
        rule(Moment.MESSAGE, "message", delay=0.01),
    )
    async with ruled(*rules, **hooks) as served:
        octets = await says(served, "MAIL FROM:<no@x>", "MAIL FROM:<bad@x>", *mail())
        assert octets.startswith(
            b"450 4.2.0 Later\r\n550 5.1.8 Bad\r\n250 2.1.0 Ruled\r\n250 2.1.5 Recipient ok\r\n354"
        )
        assert octets.endswith(b"250 2.0.0 %d octets\r\n" % len(_CONTENT))
        assert len(served.store.messages) == 1


@pytest.mark.parametrize("at", [Moment.KEPT, Moment.ANSWERED])
async def test_rules_behind_hooks(at: Moment, hooks: Mapping[str, Any]) -> None:
    async with ruled(rule(at, delay=0.05, raw=b"250 more\r\n"), **hooks) as served:
        began = time.monotonic()
        octets = await says(served, *mail(), "NOOP")
        assert time.monotonic() - began >= 0.05
        assert octets.endswith(b"250 more\r\n250 2.0.0 Ok\r\n")
        assert len(served.store.messages) == 1


# What is known


def _knows(at: Moment, **where: Any) -> Rule:
    return Rule("r", (At(at),), Do(reply=Said(299, "", "known")), Where(**where))


@pytest.mark.parametrize(
    ("rules", "answers"),
    [
        (_knows(Moment.MAIL, sender=("s@example.org",)), 1),
        (_knows(Moment.MAIL, sender=("x@example.org",)), 0),
        (_knows(Moment.MAIL, recipient=("*",)), 0),
        (_knows(Moment.MAIL, helo=("c",)), 1),
        (_knows(Moment.MAIL, peer=("127.0.0.0/8",)), 1),
        (_knows(Moment.MAIL, peer=("unix",)), 0),
        (_knows(Moment.MAIL, tls=False), 1),
        (_knows(Moment.MAIL, tls=True), 0),
        (_knows(Moment.MAIL, user=("*",)), 0),
        (_knows(Moment.RCPT, recipient=("b+run@*",)), 1),
        (_knows(Moment.RCPT, sender=("s@*",), recipient=("a@*",)), 1),
        (_knows(Moment.RCPT, run="run"), 1),
        (_knows(Moment.MAIL, run="run"), 0),
        (_knows(Moment.MESSAGE, run="run"), 1),
        (_knows(Moment.DATA, recipient=("a@*",)), 1),
        (_knows(Moment.MESSAGE, recipient=("b+*",)), 1),
        (_knows(Moment.MESSAGE, header={"x-test": ("one",)}), 1),
        (_knows(Moment.MESSAGE, header={"x-test": ("two",)}), 0),
        (_knows(Moment.KEPT, header={"x-test": ("one",), "subject": ("x",)}), 1),
        (_knows(Moment.KEPT, size=Between(len(_CONTENT), len(_CONTENT))), 1),
        (_knows(Moment.MESSAGE, size=Between(0, len(_CONTENT) - 1)), 0),
        (_knows(Moment.NOOP, sender=("s@*",)), 0),
    ],
)
async def test_what_is_known_when(rules: Rule, answers: int) -> None:
    async with ruled(rules) as served:
        octets = await says(served, "NOOP", *mail("a@example.com", "b+run@example.com"))
        assert octets.count(b"299 known\r\n") == answers


async def test_what_was_known_of_the_last_message_is_forgotten() -> None:
    known = [
        _knows(Moment.MAIL, recipient=("*",)),
        _knows(Moment.MAIL, size=Between(0, None)),
        _knows(Moment.RCPT, header={"x-test": ("one",)}),
        _knows(Moment.RCPT, size=Between(0, None)),
        _knows(Moment.KEPT, sender=("two@*",), recipient=("one@*",)),
        _knows(Moment.MAIL, user=("*",)),
    ]
    rules = [structs.replace(rule, name=str(number)) for number, rule in enumerate(known)]
    async with ruled(*rules) as served:
        octets = await says(
            served, *mail("one@x", sender="one@x"), "NOOP", *mail("two@x", sender="two@x")
        )
        assert b"299" not in octets
        assert len(served.store.messages) == 2


async def test_who_logs_in_between_two_messages() -> None:
    options = {"auth": Auth(before_tls=True)}
    async with ruled(_knows(Moment.MAIL, user=("tim",), helo=("d",)), **options) as served:
        octets = await says(
            served, *mail(), "AUTH PLAIN AHRpbQB4", "MAIL FROM:<>", "EHLO d", "MAIL FROM:<>"
        )
        assert octets.count(b"299 known") == 1
        assert octets.endswith(b"299 known\r\n")


async def test_the_run_of_a_header_comes_first() -> None:
    headed = b"X-Mtad-Run: other\r\n" + _CONTENT
    async with ruled(_knows(Moment.MESSAGE, run="other")) as served:
        assert b"299" in await says(served, *mail("b+run@x", content=headed))
    async with ruled(_knows(Moment.MESSAGE, run="run")) as served:
        assert b"299" not in await says(served, *mail("b+run@x", content=headed))


async def test_the_declared_size() -> None:
    async with ruled(_knows(Moment.RCPT, size=Between(100, 200))) as served:
        octets = await says(served, "MAIL FROM:<> SIZE=150", "RCPT TO:<a@b>", "RSET")
        assert b"299" in octets
        octets = await says(served, "MAIL FROM:<>", "RCPT TO:<a@b>", "RSET")
        assert b"299" not in octets


async def test_who_has_logged_in_and_who_could_not() -> None:
    refused = Rule("r", (At(Moment.AUTH),), Do(reply=Said(454, "", "no")), Where(user=("tim",)))
    options = {"auth": Auth({"tim": "x", "tom": "x"}, before_tls=True)}
    async with ruled(refused, _knows(Moment.MAIL, user=("tom",)), **options) as served:
        tim, wrong = "AUTH PLAIN AHRpbQB4", "AUTH PLAIN AHRpbQB5"
        octets = await says(served, tim, wrong, "AUTH PLAIN AHRvbQB4", "MAIL FROM:<a@b>")
        assert octets.startswith(b"454 no\r\n454 no\r\n235 2.7.0")
        assert octets.endswith(b"299 known\r\n")


async def test_another_client_after_xclient() -> None:
    rules = Rule("r", (At(Moment.MAIL),), Do(reply=_LATER), Where(peer=("192.0.2.0/24",)))
    async with ruled(rules, xclient_from=("127.0.0.0/8",)) as served:
        octets = await says(
            served, "MAIL FROM:<a@b>", "RSET", "XCLIENT ADDR=192.0.2.7", "EHLO c", "MAIL FROM:<a@b>"
        )
        assert octets.startswith(b"250 2.1.0 Sender ok\r\n")
        assert octets.endswith(b"450 4.2.0 Later\r\n")


async def test_who_is_behind_a_proxy() -> None:
    rules = Rule("r", (At(Moment.BANNER),), Do(reply=_LATER), Where(peer=("192.0.2.7",)))
    async with ruled(rules, proxy_from=("127.0.0.0/8",)) as served:
        for address, greeting in (("192.0.2.7", "450"), ("192.0.2.8", "220")):
            client = await served.client()
            client.say(f"PROXY TCP4 {address} 192.0.2.1 1 25")
            assert (await client.reply()).startswith(greeting)
            client.writer.close()


async def test_the_first_rule_decides() -> None:
    rules = (
        Rule("exception", (At(Moment.RCPT),), Do(), Where(recipient=("postmaster@*",))),
        rule(Moment.RCPT, "all", reply=_LATER),
    )
    async with ruled(*rules) as served:
        octets = await says(served, "MAIL FROM:<>", "RCPT TO:<postmaster@x>", "RCPT TO:<a@x>")
        assert octets.endswith(b"250 2.1.5 Recipient ok\r\n450 4.2.0 Later\r\n")


async def test_sessions_have_the_rules_of_their_beginning() -> None:
    async with ruled() as served:
        before = await served.greeted()
        served.rules.replace([rule(Moment.NOOP, reply=_LATER)])
        after = await served.greeted()
        served.rules.replace([])
        assert await before.ask("NOOP") == "250 2.0.0 Ok"
        assert await after.ask("NOOP") == "450 4.2.0 Later"
        assert await (await served.greeted()).ask("NOOP") == "250 2.0.0 Ok"
