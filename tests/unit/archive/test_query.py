"""The language of queries: what each text means, the way back, and what mistakes are told."""

from __future__ import annotations

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from mtad.archive.conditions import Address, Has, Header, Id, Pattern, Size, Time, Value, Words
from mtad.archive.fields import FIELDS
from mtad.archive.query import (
    EVERYTHING,
    MAX_CONDITIONS,
    MAX_DEPTH,
    MAX_LENGTH,
    And,
    Not,
    Or,
    Tree,
    parse,
    show,
)
from mtad.errors import QueryError
from mtad.model import ids

A, B, C = (Words("", Pattern((word,))) for word in "abc")
MESSAGE = "1htpwj0wkxntn"
MAY_4 = 1_777_852_800_000_000_000


@pytest.mark.parametrize(
    ("text", "tree"),
    [
        ("", EVERYTHING),
        ("  ", EVERYTHING),
        ("a b", And((A, B))),
        ("a AND b", And((A, B))),
        ("a OR b c", Or((A, And((B, C))))),
        ("(a OR b) c", And((Or((A, B)), C))),
        ("a (b c)", And((A, B, C))),
        ("-a", Not(A)),
        ("NOT a b", And((Not(A), B))),
        ("-(a OR b)", Not(Or((A, B)))),
        ('"AND"', Words("", Pattern(("AND",)))),
        ("and", Words("", Pattern(("and",)))),
        ('"say \\"hi\\""', Words("", Pattern(('say "hi"',)))),
        ("inv*", Words("", Pattern(("inv", "")))),
        ('"inv*"', Words("", Pattern(("inv*",)))),
        ("well-known", Words("", Pattern(("well-known",)))),
        ('subject:"sign up"', Words("subject", Pattern(("sign up",)))),
        ("FROM:Alice", Address("from", Pattern(("alice",)))),
        ("from:<a@b.example>", Address("from", Pattern(("a@b.example",)))),
        ("sender:<>", Address("sender", Pattern(("",)))),
        ("rcpt:*@b.example", Address("rcpt", Pattern(("", "@b.example")))),
        ("peer:[::1]", Value("peer", Pattern(("::1",)))),
        ("peer:192.0.2.*", Value("peer", Pattern(("192.0.2.", "")))),
        ("peer:unix", Value("peer", Pattern(("unix",)))),
        ("peer:/run/Mx.sock", Value("peer", Pattern(("/run/mx.sock",)))),
        ("lint:bare-lf", Value("lint", Pattern(("bare-lf",)))),
        ("header.X-Test:abc", Header("x-test", Pattern(("abc",)))),
        ('header.X-Test:"a b"', Header("x-test", Pattern(("a b",)))),
        ("has:Attachment", Has("attachment")),
        ("size:>1M", Size(1_048_577, None)),
        ("size:<=10k", Size(None, 10_240)),
        ("size:1k..2KiB", Size(1024, 2048)),
        ("size:7", Size(7, 7)),
        ("after:10m", Time(True, 600_000_000_000, ago=True)),
        ("before:2026-05-04", Time(False, MAY_4)),
        ("after:2026-05-04T02:00:00+02:00", Time(True, MAY_4)),
        (f"after:{MESSAGE}", Time(True, ids.decode(MESSAGE), exclusive=True)),
        (f"id:{MESSAGE.upper()}", Id(ids.decode(MESSAGE))),
        (f"session:{MESSAGE}", Value("session", Pattern((MESSAGE,)))),
    ],
)
def test_meaning(text: str, tree: Tree) -> None:
    assert parse(text) == tree
    assert parse(show(tree)) == tree


@pytest.mark.parametrize(
    ("text", "says", "caret"),
    [
        ("form:alice x", "no field 'form'; did you mean 'from'?", "^~~~"),
        ("x http://y.example", "no field 'http'", "  ^~~~"),
        ("a header.:x", "a header is named as in header.X-Test:abc", "  ^~~~~~~~~"),
        ("a from:", "an address, a domain or a name is missing", "  ^~~~~"),
        ('a subject:"b', "this quotation mark has no other", "          ^"),
        ("a (b c", "this parenthesis is not closed", "  ^"),
        ("a) b", "this parenthesis closes none", " ^"),
        ("a OR", "a condition is missing here", "    ^"),
        ("a OR OR b", "a condition is missing here", "     ^~"),
        ("()", "a condition is missing here", " ^"),
        ("a AND -", "there is no letter and no digit", "      ^"),
        ("a *b", "a star among words stands at the end of one", "  ^~"),
        ("has:wings", "what a message may have is attachment, auth", "^~~~~~~~~"),
        ("lint:bare-fl", "would have minded is bare-cr, bare-lf, nul", "^~~~~~~~~~~~"),
        ("peer:192.0.2.1:4711", "an IP address, without a port", "^~~~~~~~~~~~~~~~~~~"),
        ("peer:mx.example", "an IP address, without a port", "^~~~~~~~~~~~~~~"),
        ("size:big", "a size is a number", "^~~~~~~~"),
        ("after:tomorrow", "a time is 2026-05-04", "^~~~~~~~~~~~~~"),
        ("after:0001-01-01", "a time is from 1970 to 2262", "^~~~~~~~~~~~~~~~"),
        ("id:zz", "an id has 13 digits", "^~~~~"),
        ("日本 form:x", "no field 'form'", "     ^~~~"),
        ("a\tform:x", "no field 'form'", "  ^~~~"),
    ],
)
def test_mistakes(text: str, says: str, caret: str) -> None:
    with pytest.raises(QueryError) as error:
        parse(text)
    reason, _, pointer = error.value.message.split("\n")
    assert says in reason
    assert pointer == f"    {caret}"
    assert error.value.query == text
    assert 0 <= error.value.position <= len(text)


def test_a_mistake_far_behind_is_shown_with_what_is_near() -> None:
    with pytest.raises(QueryError) as error:
        parse(f"{'word ' * 50}form:x {'word ' * 40}")
    _, shown, pointer = error.value.message.split("\n")
    assert len(shown) < 100
    assert shown[pointer.index("^") :].startswith("form:x")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("a" * (MAX_LENGTH + 1), f"at most {MAX_LENGTH} characters"),
        ("a " * (MAX_CONDITIONS + 1), f"at most {MAX_CONDITIONS} conditions"),
        ("(" * (MAX_DEPTH + 2) + "a", f"more than {MAX_DEPTH} parentheses"),
        ("NOT " * (MAX_DEPTH + 2) + "a", f"more than {MAX_DEPTH} parentheses"),
    ],
)
def test_bounds(text: str, says: str) -> None:
    with pytest.raises(QueryError, match=says):
        parse(text)


def test_the_bounds_themselves_are_taken() -> None:
    parse("a " * MAX_CONDITIONS)
    parse("(" * MAX_DEPTH + "a" + ")" * MAX_DEPTH)
    parse("a" * MAX_LENGTH)


NAMES = [*FIELDS, "header.X-Test", "header.", "nofield", ""]
VALUES = st.one_of(
    st.text(max_size=8),
    st.sampled_from(
        ["a*", "*@b", '"c d"', ">1k", "1..2", "10m", "2026-05-04", MESSAGE, "<>", "[]"]
    ),
    st.sampled_from(["attachment", "<a*b>", "<<>>", "[[::1]]", '"', '\\"', "-", "OR"]),
)
CONDITIONS = st.builds(
    lambda name, value: f"{name}:{value}" if name else value, st.sampled_from(NAMES), VALUES
)
QUERIES = st.lists(
    st.one_of(CONDITIONS, st.sampled_from(["(", ")", "OR", "AND", "NOT", "-"])), max_size=9
).map(" ".join)


@given(st.one_of(st.text(max_size=60), QUERIES))
@example("from:<a*b>")
@example('"" * -')
@example("size:<0")
@example("before:9999999999w")
def test_any_text_is_a_tree_or_an_error(text: str) -> None:
    parsed = _parsed(text)

    if isinstance(parsed, QueryError):
        assert 0 <= parsed.position <= len(text)
    else:
        assert parse(show(parsed)) == parsed


def _parsed(text: str) -> Tree | QueryError:
    try:
        return parse(text)
    except QueryError as error:
        return error
