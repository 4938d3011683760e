"""Rules in a few words, for tables: when they are asked, of whom, which hits, what they do."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from mtad.model.rules.values import (
    After,
    AnyGate,
    At,
    Between,
    Chance,
    Do,
    Every,
    First,
    Greylist,
    Moment,
    Nth,
    Quota,
    Rate,
    Said,
    When,
    Where,
    Window,
)


def at_words(ats: Sequence[At]) -> str:
    """Return "rcpt", "byte 1000", "message, kept"."""
    return ", ".join(map(_at, ats))


def _at(at: At) -> str:
    if at.octets:
        return f"byte {at.octets}"
    if at.lines:
        return f"line {at.lines}"
    return at.moment.value if at.moment is not Moment.BODY else "body"


def where_words(where: Where) -> str:
    """Return "recipient *@example.com, tls no"; "" where nothing has to be true."""
    wanted = ((fact, condition_words(where, fact)) for fact in _WANTED)
    return ", ".join(f"{fact} {words}" for fact, words in wanted if words)


def condition_words(where: Where, fact: str) -> str:
    """Return what a fact has to be: "*@example.com", "no", ">1M"; "" if it may be anything."""
    value = getattr(where, fact)
    return "" if value in (None, (), {}, "") else _WANTED[fact](value)


def patterns_words(patterns: Sequence[str]) -> str:
    """Return "a or b"; what is empty is ``""``."""
    return " or ".join(pattern or '""' for pattern in patterns)


def size_words(size: Between) -> str:
    """Return ">1M", "<100K", "10..20"."""
    if size.most is None:
        return f">{octets_words(size.least - 1)}" if size.least else ">=0"
    if not size.least:
        return f"<{octets_words(size.most + 1)}"
    return f"{octets_words(size.least)}..{octets_words(size.most)}"


_WANTED: dict[str, Callable[[Any], str]] = {
    **dict.fromkeys(("listener", "peer", "helo", "user", "sender", "recipient"), patterns_words),
    "tls": lambda wanted: "yes" if wanted else "no",
    "size": size_words,
    "header": lambda wanted: ", ".join(
        f"{name}: {patterns_words(patterns)}" for name, patterns in wanted.items()
    ),
    "run": str,
}


def octets_words(octets: int) -> str:
    """Return a size as it is written: "1M", "1500"."""
    for unit, mark in ((1 << 30, "G"), (1 << 20, "M"), (1 << 10, "K")):
        if octets and octets % unit == 0:
            return f"{octets // unit}{mark}"
    return str(octets)


def when_words(when: When) -> str:
    """Return "first 3 per peer, sender", "chance 0.1; daily 02:00-04:00"; "" for always."""
    per = f" per {', '.join(when.per)}" if when.per else ""
    gate = "" if when.gate is None else gate_words(when.gate) + per
    return "; ".join(words for words in (gate, time_words(when)) if words)


def time_words(when: When) -> str:
    """Return "daily 02:00-04:00", "5 s of every 30 s"; "" for always."""
    found = []
    if when.daily:
        found.append(f"daily {', '.join(map(_window, when.daily))}")
    if when.cycle is not None:
        found.append(f"{when.cycle.on:g} s of every {when.cycle.on + when.cycle.off:g} s")
    return "; ".join(found)


def gate_words(gate: AnyGate) -> str:
    """Return "first 3", "every 10", "greylist 60 s", "rate 10 in 60 s", "quota 1M"."""
    match gate:
        case (
            Nth(number=number) | Every(number=number) | First(number=number) | After(number=number)
        ):
            return f"{type(gate).__name__.lower()} {number}"
        case Chance(probability=probability):
            return f"chance {probability:g}"
        case Greylist(delay=delay):
            return f"greylist {delay:g} s"
        case Rate(growth=growth):
            grows = "" if growth == 1 else f", times {growth:g} each"
            return f"rate {gate.limit:g} in {gate.seconds:g} s{grows}"
        case Quota(octets=octets):
            return f"quota {octets_words(octets)}"


def ordinal(number: int) -> str:
    """Return "1st", "22nd", "113th"."""
    ending = "th" if number % 100 in (11, 12, 13) else _ENDINGS.get(number % 10, "th")
    return f"{number}{ending}"


_ENDINGS = {1: "st", 2: "nd", 3: "rd"}


def _window(window: Window) -> str:
    return f"{_clock(window.begin)}-{_clock(window.end)}"


def _clock(second: int) -> str:
    seconds = f":{second % 60:02}" if second % 60 else ""
    return f"{second // 3600:02}:{second // 60 % 60:02}{seconds}"


def do_words(do: Do) -> str:
    """Return "after 2 s, 450 4.2.0 Try again, then fin"; "nothing" where nothing happens."""
    if do.one_of:
        return "one of " + " | ".join(
            f"{choice.weight:g}: {do_words(choice.do)}" for choice in do.one_of
        )
    found = [words for describe in _DONE if (words := describe(do))]
    if do.close is not None:
        found.append(f"then {do.close.value}" if found else do.close.value)
    return ", ".join(found) or "nothing"


def said_words(said: Said) -> str:
    """Return a reply on one line: "450 4.2.0 Try again later"."""
    text = said.text.replace("\n", " / ")
    return " ".join(word for word in (str(said.code), said.status, text) if word)


def _delay(do: Do) -> str:
    if not do.delay and not do.jitter:
        return ""
    most = f"..{do.delay + do.jitter:g}" if do.jitter else ""
    return f"after {do.delay:g}{most} s"


def _raw(do: Do) -> str:
    if do.raw is None:
        return ""
    times = f", {do.repeat} times" if do.repeat != 1 else ""
    return f"{len(do.raw)} raw octets{times}"


def _rates(do: Do) -> str:
    rates = (("sends", do.send_rate), ("reads", do.read_rate))
    return ", ".join(f"{verb} {rate:g} octets a second" for verb, rate in rates if rate)


def _listener(do: Do) -> str:
    if do.listener is None:
        return ""
    return f"listener {'deaf' if do.listener.deaf else 'closed'} for {do.listener.seconds:g} s"


def _tls(do: Do) -> str:
    if do.tls is None:
        return ""
    found = [do.tls.certificate.value] if do.tls.certificate else []
    if do.tls.minimum_version:
        found.append(f"at least {do.tls.minimum_version}")
    if do.tls.maximum_version:
        found.append(f"at most {do.tls.maximum_version}")
    if do.tls.client_certificates:
        found.append(f"client certificates: {do.tls.client_certificates}")
    if do.tls.alert is not None:
        found.append(f"alert {do.tls.alert}")
    return f"tls {', '.join(found)}"


def _mail(do: Do) -> str:
    if do.mail is None:
        return ""
    found = [word for word in ("discard", "hold") if getattr(do.mail, word)]
    if do.mail.forward:
        found.append(f"forward to {do.mail.forward}")
    if do.mail.bounce is not None:
        found.append(f"bounce {do.mail.bounce.status} through {do.mail.bounce.hop}")
    return ", ".join(found)


_DONE: tuple[Callable[[Do], str], ...] = (
    _delay,
    lambda do: "tarpit" if do.tarpit else "",
    lambda do: said_words(do.reply) if do.reply else "",
    _raw,
    lambda do: "no reply" if do.mute else "",
    lambda do: "silent" if do.silent else "",
    lambda do: "deaf" if do.deaf else "",
    _rates,
    lambda do: f"without {', '.join(do.hide)}" if do.hide else "",
    _tls,
    _mail,
    _listener,
)
