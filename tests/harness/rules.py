"""Any rule that a file can say: for hypothesis."""

from __future__ import annotations

import string
from typing import Any

from hypothesis import strategies as st

from mtad.config.rules.gates import default_per
from mtad.model.profile import EXTENSIONS, ClientCertificates
from mtad.model.rules import values
from mtad.model.rules.alerts import ALERTS
from mtad.model.rules.values import (
    COMMANDS,
    FACTS,
    MEANT_FOR,
    At,
    Between,
    Bounce,
    Choice,
    Close,
    Cycle,
    Do,
    Flawed,
    Mail,
    Moment,
    Rule,
    Said,
    Shutter,
    Source,
    Tarpit,
    TlsFault,
    When,
    Where,
    Window,
)

# No condition or action of a rule looks odd at these: all is known, and all but a few make sense.
_LATE = (Moment.MESSAGE, Moment.KEPT, Moment.ANSWERED)

_NAMES = st.text(string.ascii_letters + string.digits, min_size=1, max_size=20)
_PRINTABLE = st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=30)
_TIMES = st.integers(0, 10**6).map(lambda number: number / 1000)
_SOME_TIMES = st.integers(1, 10**6).map(lambda number: number / 1000)
_NUMBERS = st.integers(1, 10**6).map(lambda number: number / 1000)
_COUNTS = st.integers(1, 10**12)

_MOMENTS = st.sampled_from(Moment).map(At)
_POSITIONS = st.builds(lambda n: At(Moment.BODY, octets=n), st.integers(1, 10**9)) | st.builds(
    lambda n: At(Moment.BODY, lines=n), st.integers(1, 10**9)
)
_AT = st.one_of(
    st.lists(_MOMENTS | _POSITIONS, min_size=1, max_size=4, unique=True).map(tuple),
    st.just(tuple(map(At, dict.fromkeys(COMMANDS.values())))),
)

_GLOBS = st.text(st.characters(categories=["L", "N", "P", "S"]), max_size=20).filter(
    lambda text: not text.startswith("/")
)
_PATTERNS = st.one_of(
    _GLOBS, st.sampled_from(["", "no", "1.5", "null", "~", "/^a.*b$/", "/[a-z]+/"])
)


def _several(one: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.lists(one, min_size=1, max_size=3, unique=True).map(tuple)


def _perhaps(**kinds: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    return st.fixed_dictionaries({}, optional=kinds)


_SIZES = st.one_of(
    st.builds(Between, st.integers(1, 2**40)),
    st.lists(st.integers(0, 2**40), min_size=2, max_size=2).map(lambda two: Between(*sorted(two))),
)
_EARLY_WHERE = {
    "listener": _several(_PATTERNS),
    "peer": _several(
        st.ip_addresses().map(lambda one: f"{one}/{one.max_prefixlen}")
        | st.sampled_from(["unix", "10.0.0.0/8", "2001:db8::/32"])
    ),
    "tls": st.booleans(),
}
_LATE_WHERE = _EARLY_WHERE | {
    "helo": _several(_PATTERNS),
    "user": _several(_PATTERNS),
    "sender": _several(_PATTERNS),
    "recipient": _several(_PATTERNS),
    "size": _SIZES,
    "header": st.dictionaries(_NAMES.map(str.lower), _several(_PATTERNS), min_size=1, max_size=2),
    "run": st.text(st.characters(categories=["L", "N"]), min_size=1, max_size=20),
}

_GATES = st.one_of(
    st.none(),
    *(st.builds(kind, _COUNTS) for kind in (values.Nth, values.Every, values.First, values.After)),
    st.builds(values.Chance, st.floats(0, 1).map(lambda number: round(number, 9))),
    st.builds(
        values.Greylist, _SOME_TIMES, _SOME_TIMES.map(lambda number: 2000 + number), _SOME_TIMES
    ),
    st.builds(values.Rate, _NUMBERS, _SOME_TIMES, st.just(0.0) | _NUMBERS),
    st.builds(values.Rate, _NUMBERS, _SOME_TIMES, st.just(0.0), st.integers(1, 1000).map(float)),
    st.builds(values.Quota, st.integers(0, 2**40)),
)
_DAYTIMES = st.lists(st.integers(0, 86_400), min_size=2, max_size=2, unique=True)
_WINDOWS = _DAYTIMES.filter(lambda two: two[0] < 86_400).map(lambda two: Window(*two))

_REPLIES = st.builds(
    lambda code, detail, lines: Said(
        code, f"{code // 100}.{detail}" if detail and code // 100 != 3 else "", "\n".join(lines)
    ),
    st.integers(200, 399),
    st.sampled_from(["", "0.0", "7.26", "123.999"]),
    # What looks like a status at the beginning of a text is one.
    st.lists(_PRINTABLE.filter(lambda text: text[:1] not in "0123456789"), min_size=1, max_size=3),
)
_TLS = st.one_of(
    st.builds(TlsFault, alert=st.integers(0, 255) | st.sampled_from(list(ALERTS.values()))),
    _perhaps(
        certificate=st.sampled_from(Flawed),
        minimum_version=st.sampled_from(["1.0", "1.1"]),
        maximum_version=st.sampled_from(["1.1", "1.2", "1.3"]),
        client_certificates=st.sampled_from(ClientCertificates).map(str),
    )
    .filter(bool)
    .map(lambda options: TlsFault(**options)),
)
_HOPS = st.sampled_from(["10.0.0.1:25", "mx.example.com:2525", "[::1]:25"])
_MAIL = st.one_of(
    st.sampled_from([Mail(discard=True), Mail(hold=True)]),
    st.builds(Mail, hold=st.booleans(), forward=_HOPS),
    st.builds(Bounce, _HOPS, st.sampled_from(["5.0.0", "4.4.7"]), _PRINTABLE).map(
        lambda bounce: Mail(bounce=bounce)
    ),
)
_ACTIONS = {
    "delay": _TIMES,
    "jitter": _TIMES,
    "tarpit": st.builds(Tarpit, _SOME_TIMES, st.integers(1, 1000).map(float), _SOME_TIMES),
    "send_rate": _NUMBERS,
    "read_rate": _NUMBERS,
    "silent": st.booleans(),
    "deaf": st.booleans(),
    "listener": st.builds(Shutter, _SOME_TIMES, st.booleans()),
    "hide": _several(st.sampled_from(EXTENSIONS)),
    "tls": _TLS,
    "mail": _MAIL,
}
_ANSWERS = (
    _perhaps(reply=_REPLIES, close=st.sampled_from(Close)),
    _perhaps(
        raw=st.binary(min_size=1, max_size=30).map(lambda raw: b"250" + raw),
        repeat=st.integers(1, 99),
    ),
    _perhaps(mute=st.just(True)),
)


@st.composite
def _do(draw: st.DrawFn, at: tuple[At, ...]) -> Do:
    """Return actions that mean something at all of these moments."""
    moments = {one.moment for one in at}
    chosen = draw(
        _perhaps(**{name: kind for name, kind in _ACTIONS.items() if moments <= MEANT_FOR[name]})
    )
    answer = draw(st.one_of(_ANSWERS))
    if "raw" not in answer:
        answer.pop("repeat", None)
    if "mail" in chosen and not {"reply", "raw"} & answer.keys():
        answer = {}
        chosen |= {"silent": False, "deaf": False}
    return Do(**chosen, **{name: one for name, one in answer.items() if moments <= MEANT_FOR[name]})


@st.composite
def rules(draw: st.DrawFn) -> Rule:
    """Return a rule that was added, and that `load_rule` can make."""
    at = draw(_AT)
    do = draw(_do(at))
    if draw(st.integers(0, 3)) == 0:
        weights = draw(st.lists(_NUMBERS, min_size=1, max_size=3))
        do = Do(one_of=tuple(Choice(weight, draw(_do(at))) for weight in weights))
    is_late = any(one.moment in _LATE for one in at)
    where = Where(**draw(_perhaps(**(_LATE_WHERE if is_late else _EARLY_WHERE))))
    gate = draw(_GATES)
    if isinstance(gate, values.Quota) and not (is_late and len(at) == 1):
        gate = None
    facts = list(FACTS) if is_late else ["listener", "peer"]
    per = draw(
        st.just(default_per(gate, do))
        | st.lists(st.sampled_from(facts), max_size=3, unique=True).map(tuple)
    )
    options = draw(
        _perhaps(
            seed=st.integers(0, 2**53 - 1),
            daily=_several(_WINDOWS),
            cycle=st.builds(Cycle, _SOME_TIMES, _SOME_TIMES),
        )
    )
    return Rule(
        name=draw(_NAMES),
        at=at,
        do=do,
        where=where,
        when=When(gate, per, **options),
        hits=draw(st.just(0) | _COUNTS),
        seconds=draw(_TIMES),
        enabled=draw(st.booleans()),
        source=Source.ADDED,
    )
