"""The kinds of value, one by one."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter, ValidationError

from mtad.config import values

_SIZE = TypeAdapter(values.Size)
_UNITS = {"": 1, "K": 2**10, "M": 2**20, "G": 2**30, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30}


@given(st.integers(1, 1000), st.sampled_from(["", " "]), st.sampled_from(list(_UNITS.items())))
def test_sizes(number: int, space: str, unit: tuple[str, int]) -> None:
    word, factor = unit
    text = f"{number}{space if word else ''}{word}"
    assert _SIZE.validate_python(text) == number * factor


@given(st.integers(0, 2**40))
def test_sizes_in_octets(octets: int) -> None:
    assert _SIZE.validate_python(octets) == _SIZE.validate_python(str(octets)) == octets


@pytest.mark.parametrize(
    "value",
    [
        "",
        "M",
        "1.5M",
        "-1",
        "32MB",
        "32m",
        "1  M",
        "1M ",
        "1_000",
        "٣",
        -1,
        True,
        None,
        1.5,
        2**40 + 1,
        "1025G",
        [],
    ],
)
def test_no_sizes(value: object) -> None:
    with pytest.raises(ValidationError):
        _SIZE.validate_python(value)


@pytest.mark.parametrize(
    ("value", "seconds"),
    [(0, 0), (90, 90), ("90", 90), ("5s", 5), ("15m", 900), ("12 h", 43_200), ("7d", 604_800)],
)
def test_durations(value: object, seconds: int) -> None:
    assert TypeAdapter(values.Duration).validate_python(value) == seconds


@pytest.mark.parametrize(
    "value", ["", "d", "1.5d", "7D", "7 days", "-1", -1, 1.5, True, None, [], "36501d", "1  d"]
)
def test_no_durations(value: object) -> None:
    assert not accepts(values.Duration, value)


def accepts(kind: Any, value: object) -> bool:
    try:
        TypeAdapter(kind).validate_python(value)
    except ValidationError:
        return False
    return True


@pytest.mark.parametrize(
    ("value", "accepted"),
    [
        ("ecuser", True),
        ("first.last", True),
        ("machine$", True),
        ("user@example.com", True),
        ("0day", True),
        (0, True),
        (4294967294, True),
        (4294967295, False),  # (uid_t) -1: setresuid(2) would change nothing
        ("4294967295", False),
        (-1, False),
        ("", False),
        ("-1", False),
        ("007", False),
        ("@adm", False),
        ("a b", False),
        ("a\n", False),
        ("a:b", False),
        ("a/b", False),
        (True, False),
        (1.0, False),
    ],
)
def test_accounts(value: object, accepted: bool) -> None:
    assert accepts(values.Account, value) is accepted


@pytest.mark.parametrize(
    ("value", "accepted"),
    [
        ("@adm", True),
        ("@4", True),
        ("alice", True),
        (0, True),
        ("@", False),
        ("@@a", False),
        ("@-1", False),
        ("@4294967295", False),
        ("@a b", False),
    ],
)
def test_principals(value: object, accepted: bool) -> None:
    assert accepts(values.Principal, value) is accepted


@pytest.mark.parametrize(
    ("value", "accepted"),
    [
        ("", True),
        ("mx", True),
        ("mx.example.com", True),
        ("xn--bcher-kva.example", True),
        ("[192.0.2.1]", True),
        ("[IPv6:2001:db8::1]", True),
        ("[2001:db8::1]", False),
        ("[IPv6:192.0.2.1]", False),
        ("[999.0.2.1]", False),
        ("mx.example.com.", False),
        ("-mx.example.com", False),
        ("mx..example.com", False),
        ("mx example", False),
        ("mx\r\n250 x", False),
        ("mx\n", False),
        ("bücher.example", False),
        ("a" * 64, False),
        (".".join(["a" * 60] * 5), False),
        (25, False),
    ],
)
def test_host_names(value: object, accepted: bool) -> None:
    assert accepts(values.Hostname, value) is accepted


@pytest.mark.parametrize(
    ("value", "accepted"),
    [
        ("a", True),
        ("a" * 63, True),
        ("9-_.", True),
        ("a" * 64, False),
        ("", False),
        ("-a", False),
        (".a", False),
        ("a/b", False),
        ("a\n", False),
        ("ä", False),
        (1, False),
    ],
)
def test_names(value: object, accepted: bool) -> None:
    assert accepts(values.Name, value) is accepted


@pytest.mark.parametrize(
    ("value", "accepted"),
    [("/a", True), ("a", False), ("", False), ("/a\0b", False), ("/a\nb", False), (1, False)],
)
def test_paths(value: object, accepted: bool) -> None:
    assert accepts(values.AbsolutePath, value) is accepted
