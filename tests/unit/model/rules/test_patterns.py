"""Globs, regular expressions and networks: what each matches, and what is said of a broken one."""

from __future__ import annotations

import re
from fnmatch import fnmatchcase
from ipaddress import ip_address, ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mtad.model.rules.patterns import (
    Network,
    address,
    compile_pattern,
    is_literal,
    literal_ends,
    network,
)

globs = st.text("aB.@*?[]!-", max_size=8)
texts = st.text("aAbB.@[]!-", max_size=8)


@pytest.mark.parametrize(
    ("pattern", "matching", "others"),
    [
        ("bob@example.com", ["bob@example.com", "BOB@Example.COM"], ["xbob@example.com", "bob"]),
        ("*@example.com", ["@example.com", "a@b@EXAMPLE.com"], ["a@example.com.net", "example"]),
        ("bob*", ["bob", "Bobby@x\ny"], ["rob", "xbob"]),
        ("b?b", ["bob", "bib"], ["bb", "boob"]),
        ("b[ai]b", ["bab", "BIB"], ["bob"]),
        ("b[!ai]b", ["bob"], ["bab", "BIB"]),
        ("b[A-C]b", ["bab", "bBb"], ["bdb"]),
        ("a@[[]10.0.0.1]", ["a@[10.0.0.1]"], ["a@1", "a@10.0.0.1"]),
        ("", [""], [" ", "x"]),
        ("*", ["", "x", "\n"], []),
        ("/bob/", ["bob", "xBOBx"], ["bb"]),
        ("/^b+$/", ["b", "BB"], ["", "ab"]),
        ("//", ["", "x"], []),
        ("/", ["/"], ["", "x"]),
        ("/half", ["/half", "/HALF"], ["half"]),
        ("MÜLLER@*", ["müller@x"], ["muller@x"]),
    ],
)
def test_what_a_pattern_matches(pattern: str, matching: list[str], others: list[str]) -> None:
    match = compile_pattern(pattern)
    assert [text for text in matching + others if match(text)] == matching


@pytest.mark.parametrize(
    ("pattern", "said"),
    [
        ("/a(b/", "missing ), unterminated subpattern at character 3 of /a(b/"),
        ("/*/", "nothing to repeat at character 2 of /*/"),
        ("/a(?i)/", "global flags not at the start of the expression at character 3"),
        ("/a{99999999999999999999}/", "too large"),
        (f"/{'(' * 5000}{')' * 5000}/", "recursion"),
    ],
)
def test_a_broken_expression_is_told_with_its_place(pattern: str, said: str) -> None:
    with pytest.raises(ValueError, match=re.escape(said)):
        compile_pattern(pattern)


@given(globs, texts)
def test_a_glob_is_that_of_fnmatch_without_case(pattern: str, text: str) -> None:
    assert compile_pattern(pattern)(text) == fnmatchcase(text.lower(), pattern.lower())


@given(globs, texts)
def test_what_matches_begins_and_ends_as_is_said(pattern: str, text: str) -> None:
    if compile_pattern(pattern)(text):
        head, tail = literal_ends(pattern)
        assert text.lower().startswith(head)
        assert text.lower().endswith(tail)
        assert not is_literal(pattern) or text.lower() == pattern.lower()


@pytest.mark.parametrize(
    ("pattern", "ends"),
    [
        ("*@example.com", ("", "@example.com")),
        ("User-*@example.com", ("user-", "@example.com")),
        ("a[bc]d", ("a", "d")),
        ("Bob", ("bob", "bob")),
        ("/bob/", ("", "")),
        ("*", ("", "")),
    ],
)
def test_what_a_pattern_begins_and_ends_with(pattern: str, ends: tuple[str, str]) -> None:
    assert literal_ends(pattern) == ends


peers = st.ip_addresses().map(str) | st.ip_addresses(v=4).map(lambda four: f"::ffff:{four}")


@given(st.integers(0, 32), st.ip_addresses(v=4), peers)
def test_a_network_of_ipv4_has_its_addresses_in_both_forms(
    bits: int, base: object, peer: str
) -> None:
    wanted = ip_network(f"{base}/{bits}", strict=False)
    found = address(peer)
    plain = ip_address(peer)
    plain = getattr(plain, "ipv4_mapped", None) or plain
    for text in (f"{base}/{bits}", f"::ffff:{base}/{96 + bits}"):
        of, rest, prefix = network(text)
        assert (found.version == of and found.number >> rest == prefix) == (plain in wanted)


@given(st.integers(0, 128), st.ip_addresses(v=6), st.ip_addresses(v=6))
def test_a_network_of_ipv6_has_its_addresses(bits: int, base: object, peer: object) -> None:
    of, rest, prefix = network(f"{base}/{bits}")
    found = address(str(peer))
    inside = ip_address(str(peer)) in ip_network(f"{base}/{bits}", strict=False)
    if found.version == of:
        assert (found.number >> rest == prefix) == inside


def test_an_address_is_a_network_of_its_own() -> None:
    assert network("10.0.0.1") == Network(4, 0, 10 << 24 | 1)
    assert network("::1") == Network(6, 0, 1)


@pytest.mark.parametrize("text", ["10.0.0.0/33", "example.com", "", "::/129", "unix"])
def test_what_is_no_network_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="does not appear"):
        network(text)


@pytest.mark.parametrize("peer", ["unix", "", "[10.0.0.1]", "10.0.0", "mx.example.com"])
def test_who_has_no_address_is_known_by_the_text(peer: str) -> None:
    assert address(peer) == (0, 0, peer)
