"""Rules in a few words."""

from __future__ import annotations

import pytest

from mtad.model.rules.values import (
    After,
    At,
    Between,
    Bounce,
    Chance,
    Choice,
    Close,
    Cycle,
    Do,
    Every,
    First,
    Flawed,
    Greylist,
    Mail,
    Moment,
    Nth,
    Quota,
    Rate,
    Said,
    Shutter,
    Tarpit,
    TlsFault,
    When,
    Where,
    Window,
)
from mtad.model.rules.words import at_words, do_words, ordinal, when_words, where_words


@pytest.mark.parametrize(
    ("ats", "words"),
    [
        ((At(Moment.RCPT),), "rcpt"),
        ((At(Moment.MAIL), At(Moment.BODY)), "mail, body"),
        ((At(Moment.BODY, octets=1000), At(Moment.BODY, lines=20)), "byte 1000, line 20"),
    ],
)
def test_moments(ats: tuple[At, ...], words: str) -> None:
    assert at_words(ats) == words


@pytest.mark.parametrize(
    ("where", "words"),
    [
        (Where(), ""),
        (Where(recipient=("*@x",), tls=False), "recipient *@x, tls no"),
        (
            Where(listener=("mx",), peer=("10.0.0.0/8", "unix"), helo=("/x/",), tls=True),
            "listener mx, peer 10.0.0.0/8 or unix, helo /x/, tls yes",
        ),
        (Where(user=("u",), sender=("",), run="ci-7"), 'user u, sender "", run ci-7'),
        (Where(size=Between(1 << 20 | 1)), "size >1M"),
        (Where(size=Between(most=(100 << 10) - 1)), "size <100K"),
        (Where(size=Between(10, 1 << 30)), "size 10..1G"),
        (Where(size=Between()), "size >=0"),
        (Where(size=Between(1)), "size >0"),
        (Where(header={"x-a": ("1", "2"), "x-b": ("",)}), 'header x-a: 1 or 2, x-b: ""'),
    ],
)
def test_conditions(where: Where, words: str) -> None:
    assert where_words(where) == words


@pytest.mark.parametrize(
    ("when", "words"),
    [
        (When(), ""),
        (When(Nth(3)), "nth 3"),
        (When(Every(10), seed=7), "every 10"),
        (When(First(3), per=("peer", "sender")), "first 3 per peer, sender"),
        (When(After(3)), "after 3"),
        (When(Chance(0.125)), "chance 0.125"),
        (When(Greylist(300)), "greylist 300 s"),
        (When(Rate(10)), "rate 10 in 60 s"),
        (When(Rate(1, growth=2.0)), "rate 1 in 60 s, times 2 each"),
        (When(Quota(1 << 20), per=("recipient",)), "quota 1M per recipient"),
        (
            When(First(1), daily=(Window(7200, 14400), Window(79200, 61)), cycle=Cycle(5, 25)),
            "first 1; daily 02:00-04:00, 22:00-00:01:01; 5 s of every 30 s",
        ),
    ],
)
def test_times_and_gates(when: When, words: str) -> None:
    assert when_words(when) == words


@pytest.mark.parametrize(
    ("do", "words"),
    [
        (Do(), "nothing"),
        (Do(reply=Said(450, "4.2.0"), close=Close.FIN), "450 4.2.0, then fin"),
        (Do(reply=Said(250, text="one\ntwo")), "250 one / two"),
        (Do(close=Close.RST), "rst"),
        (Do(delay=2.5, close=Close.HALF), "after 2.5 s, then half"),
        (Do(delay=2, jitter=1, mute=True), "after 2..3 s, no reply"),
        (Do(jitter=1), "after 0..1 s"),
        (Do(raw=b"250 ok\r\n", repeat=3), "8 raw octets, 3 times"),
        (Do(raw=b""), "0 raw octets"),
        (Do(tarpit=Tarpit(1, 2, 60)), "tarpit"),
        (Do(send_rate=1, read_rate=100), "sends 1 octets a second, reads 100 octets a second"),
        (Do(silent=True, deaf=True), "silent, deaf"),
        (Do(hide=("STARTTLS", "SIZE")), "without STARTTLS, SIZE"),
        (Do(tls=TlsFault(Flawed.EXPIRED, maximum_version="1.2")), "tls expired, at most 1.2"),
        (
            Do(tls=TlsFault(minimum_version="1.3", client_certificates="require", alert=40)),
            "tls at least 1.3, client certificates: require, alert 40",
        ),
        (Do(mail=Mail(discard=True)), "discard"),
        (Do(mail=Mail(hold=True, forward="h:25")), "hold, forward to h:25"),
        (Do(mail=Mail(bounce=Bounce("h:25", "5.1.1"))), "bounce 5.1.1 through h:25"),
        (Do(listener=Shutter(20)), "listener closed for 20 s"),
        (Do(listener=Shutter(2, deaf=True)), "listener deaf for 2 s"),
        (
            Do(one_of=(Choice(9, Do()), Choice(0.5, Do(close=Close.RST)))),
            "one of 9: nothing | 0.5: rst",
        ),
    ],
)
def test_actions(do: Do, words: str) -> None:
    assert do_words(do) == words


def test_ordinals() -> None:
    assert [ordinal(number) for number in (1, 2, 3, 4)] == ["1st", "2nd", "3rd", "4th"]
    assert [ordinal(number) for number in (11, 12, 13, 21)] == ["11th", "12th", "13th", "21st"]
    assert [ordinal(number) for number in (101, 111, 1013)] == ["101st", "111th", "1013th"]
