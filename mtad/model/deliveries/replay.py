"""The rules that have a session answered as another one was.

Each rule fires once, or as often as the same is done one time after the other; the next one of its
moment follows it. What the server refuses by itself it refuses again, and no rule is asked.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

import msgspec

from mtad.model.deliveries.dialogue import BANNER, Act, Exchange, Reply
from mtad.model.rules.values import COMMANDS, At, Close, Do, First, Moment, Rule, Said, When

_LEAST_DELAY = 0.1
_AUTH = (235, 535)
_LINE_OCTETS = 510
_STATUS = re.compile(r"([245])\.[0-9]{1,3}\.[0-9]{1,3}(?= |\Z)")
_DELAY = re.compile(r"after ([0-9.]+?)(?:\.\.[0-9.]+)? s(?:, |\Z)")
_CLOSES = re.compile("(?:^|, )(?:then )?(fin|rst|half)$")
_ESCAPE = re.compile(r"\\(?:\\|[nrt]|x[0-9a-f]{2}|u[0-9a-f]{4}|U[0-9a-f]{8})")
_OCTET = re.compile(r"\\x([0-9a-f]{2})")


def replay(said: Sequence[Exchange], *, was_refused: bool) -> list[Rule]:
    """Return the rules; ``was_refused``: the server ended the session before it had begun."""
    merged: list[tuple[At, Do, int]] = []
    latest: dict[Moment, int] = {}
    for at, do in _played(said, was_refused=was_refused):
        index = latest.get(at.moment)
        if index is not None and merged[index][:2] == (at, do):
            merged[index] = (at, do, merged[index][2] + 1)
            continue
        latest[at.moment] = len(merged)
        merged.append((at, do, 1))
    return [
        Rule(f"{number:02}-{_name(at)}", (at,), do, when=When(First(count)))
        for number, (at, do, count) in enumerate(merged, 1)
    ]


def _name(at: At) -> str:
    if at.octets:
        return f"byte-{at.octets}"
    return f"line-{at.lines}" if at.lines else at.moment.value


def _played(said: Sequence[Exchange], *, was_refused: bool) -> Iterator[tuple[At, Do]]:
    has_chunks = any(one.verb == "BDAT" and not one.ends_message() for one in said)
    before = 0.0  # when the last reply went
    for exchange in said:
        if exchange.verb == "BDAT" and exchange.ends_message() and has_chunks:
            yield At(Moment.BDAT), Do()  # a rule for chunks is asked about the last one, too
        since = max(exchange.at, before)
        before = max([since, *(reply.at for reply in exchange.replies)])
        acts = [act for act in exchange.acts if not act.is_afterwards]
        decisive = acts.pop() if acts and _is_decisive(acts[-1]) else None
        if len(exchange.replies) > 1:  # LMTP: which act was about which recipient, is not told
            acts = [act for act in acts if act.is_within]
        yield from map(_alone, acts)
        since = max([since, *(act.at + _delay(act) for act in acts)])
        if exchange.replies:
            yield from _answered(exchange, decisive, since, was_refused=was_refused)
        elif decisive is not None:
            yield _alone(decisive)
        yield from (_alone(act) for act in exchange.acts if act.is_afterwards)


def _is_decisive(act: Act) -> bool:
    """Whether the reply to what it was asked about is that of the act."""
    return not act.is_before and (act.has_reply or not act.is_within)


def _alone(act: Act) -> tuple[At, Do]:
    """Return what an act was that has not answered a command."""
    return _moment(act.moment), _do(act, act.replies, _delay(act))


def _delay(act: Act) -> float:
    found = _DELAY.match(act.words)
    return float(found[1]) if found else 0.0


def _answered(
    exchange: Exchange, act: Act | None, since: float, *, was_refused: bool
) -> Iterator[tuple[At, Do]]:
    """Yield how a command was answered: once, but in LMTP a message for each recipient."""
    at = _moment_of(exchange) if act is None else _moment(act.moment)
    first, *others = exchange.replies
    is_shut_out = was_refused and exchange.line == BANNER
    if at is None or (act is None and not (first.is_positive() or is_shut_out)):
        return
    delay = first.at - since
    more = [] if act is None else act.replies
    dos = [_do(act if not others else None, [first, *more], delay if delay > _LEAST_DELAY else 0.0)]
    dos += [_do(act if reply is others[-1] else None, [reply], 0.0) for reply in others]
    if is_shut_out:
        dos = [msgspec.structs.replace(do, close=Close.FIN) for do in dos]
    yield from ((at, do) for do in dos)


def _moment_of(exchange: Exchange) -> At | None:
    """Return the moment at which a rule is asked about a command; None: it is asked about none."""
    code = exchange.replies[0].code
    if exchange.verb == "AUTH" or code in _AUTH:
        return At(Moment.AUTH) if code in _AUTH else None
    if exchange.line == BANNER:
        return At(Moment.BANNER)
    if exchange.ends_message():
        return At(Moment.MESSAGE)
    return At(COMMANDS[exchange.verb]) if exchange.verb in COMMANDS else None


def _moment(words: str) -> At:
    word, _, number = words.partition(" ")
    if number:
        return At(Moment.BODY, **{{"byte": "octets", "line": "lines"}[word]: int(number)})
    return At(Moment(word))


# What is done


def _do(act: Act | None, replies: Sequence[Reply], delay: float) -> Do:
    words = [] if act is None else act.words.split(", ")
    close = _CLOSES.search("" if act is None else act.words)
    is_raw = len(replies) > 1 or (act is not None and act.is_raw)
    said = _said(replies[0]) if replies and not is_raw else None
    raw = b"".join(map(_octets, replies)) if replies and said is None else None
    return Do(
        reply=said,
        raw=raw,
        mute="no reply" in words,
        delay=round(delay, 3),
        silent="silent" in words,
        deaf="deaf" in words,
        close=Close(close[1]) if close else None,
    )


def _said(reply: Reply) -> Said | None:
    """Return a reply as rules have it; None: that would not be the same octets."""
    *others, last = reply.lines
    code = last[:3]
    marks = [*(f"{code}-" for _ in others), f"{code} "]
    if reply.open or reply.code is None or not all(map(_is_plain, reply.lines)):
        return None
    if not all(line.startswith(mark) for line, mark in zip(reply.lines, marks, strict=True)):
        return None
    texts = [line[4:] for line in reply.lines]
    found = [_STATUS.match(text) for text in texts]
    statuses = {one[0] if one and one[1] == code[0] else "" for one in found}
    if len(statuses) > 1:
        return None
    (status,) = statuses
    skip = len(status) + 1 if status else 0
    return Said(int(code), status, "\n".join(text[skip:] for text in texts))


def _is_plain(line: str) -> bool:
    return line.isascii() and line.isprintable() and "\\" not in line and len(line) <= _LINE_OCTETS


def _octets(reply: Reply) -> bytes:
    lines = "\r\n".join(map(_unescaped, reply.lines))
    pieces = _OCTET.split(lines)
    octets = b"".join(
        bytes([int(piece, 16)]) if index % 2 else piece.encode()
        for index, piece in enumerate(pieces)
    )
    return octets if reply.open else octets + b"\r\n"


def _unescaped(line: str) -> str:
    """Return a line without the escapes of mtad.log.printable."""
    return _ESCAPE.sub(lambda escape: escape[0].encode().decode("unicode_escape"), line)
