"""Parameters of MAIL and RCPT: what each means, who may use it, and what each mistake is told."""

from __future__ import annotations

import time
import unicodedata
from collections.abc import Callable
from contextlib import suppress
from dataclasses import astuple, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mtad.smtp.parameters import (
    NO_MAIL_PARAMETERS,
    NO_RCPT_PARAMETERS,
    MailParameters,
    RcptParameters,
    mail_parameters,
    rcpt_parameters,
)
from mtad.smtp.reply import Refusal, Reply

ALL = frozenset({"SIZE", "8BITMIME", "BINARYMIME", "SMTPUTF8", "DSN", "AUTH", "REQUIRETLS"})

Parse = Callable[[str, frozenset[str]], MailParameters | RcptParameters]


def refusal(parse: Parse, text: str, offered: frozenset[str] = ALL) -> Reply:
    with pytest.raises(Refusal) as caught:
        parse(text, offered)
    return caught.value.reply


def test_none_given() -> None:
    assert mail_parameters("", frozenset()) is NO_MAIL_PARAMETERS
    assert rcpt_parameters("", frozenset()) is NO_RCPT_PARAMETERS
    assert MailParameters() == NO_MAIL_PARAMETERS
    assert NO_MAIL_PARAMETERS.body == "7BIT"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("SIZE=0", MailParameters(size=0)),
        ("size=1000", MailParameters(size=1000)),
        ("SIZE=00000000000000000007", MailParameters(size=7)),
        ("SIZE=99999999999999999999", MailParameters(size=10**20 - 1)),
        ("BODY=7BIT", MailParameters(body="7BIT")),
        ("body=8bitmime", MailParameters(body="8BITMIME")),
        ("BODY=BinaryMIME", MailParameters(body="BINARYMIME")),
        ("SmtpUtf8", MailParameters(smtputf8=True)),
        ("RET=full", MailParameters(ret="FULL")),
        ("RET=HDRS", MailParameters(ret="HDRS")),
        ("ENVID=QQ314159", MailParameters(envid="QQ314159")),
        ("ENVID=a+2Bb+20c+3D", MailParameters(envid="a+b c=")),
        (f"ENVID={'e' * 100}", MailParameters(envid="e" * 100)),
        ("AUTH=<>", MailParameters(auth="")),
        ("AUTH=+3C+3E", MailParameters(auth="")),
        ("AUTH=e+3Dmc2@example.com", MailParameters(auth="e=mc2@example.com")),
        ('AUTH="a+20b"@[127.0.0.1]', MailParameters(auth='"a b"@[127.0.0.1]')),
        ("AUTH=jösé+2Bx@exämple.org", MailParameters(auth="jösé+x@exämple.org")),
        ("REQUIRETLS", MailParameters(requiretls=True)),
    ],
)
def test_one_of_mail(text: str, expected: MailParameters) -> None:
    assert mail_parameters(text, ALL) == replace(expected, given=(text,))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("NOTIFY=NEVER", RcptParameters(notify=("NEVER",))),
        ("notify=Success", RcptParameters(notify=("SUCCESS",))),
        ("NOTIFY=DELAY,FAILURE,SUCCESS", RcptParameters(notify=("DELAY", "FAILURE", "SUCCESS"))),
        ("ORCPT=rfc822;user@example.net", RcptParameters(orcpt="rfc822;user@example.net")),
        ("ORCPT=RFC822;a+2Bb@c", RcptParameters(orcpt="RFC822;a+b@c")),
        ("ORCPT=rfc822;postmaster", RcptParameters(orcpt="rfc822;postmaster")),
        ("ORCPT=x400;/s+3Da/;b", RcptParameters(orcpt="x400;/s=a/;b")),
        (f"ORCPT=rfc822;{'o' * 493}", RcptParameters(orcpt=f"rfc822;{'o' * 493}")),
        ("ORCPT=utf-8;jösé@exämple.org", RcptParameters(orcpt="utf-8;jösé@exämple.org")),
        (r"ORCPT=utf-8;j\x{F6}@\x{4F8B}.x", RcptParameters(orcpt="utf-8;jö@例.x")),
        (r"ORCPT=UTF-8;\x{1F600}@x", RcptParameters(orcpt="UTF-8;😀@x")),
        (r"ORCPT=utf-8;\x{10FFFD}@x", RcptParameters(orcpt="utf-8;\U0010fffd@x")),
        (r"ORCPT=utf-8;a\x{2B}b\x{3d}c@x", RcptParameters(orcpt="utf-8;a+b=c@x")),
        (r'ORCPT=utf-8;"a\x{20}\x{5C}\x{22}"@x', RcptParameters(orcpt=r'utf-8;"a \""@x')),
        ("ORCPT=utf-8;a+b@x", RcptParameters(orcpt="utf-8;a+b@x")),
    ],
)
def test_one_of_rcpt(text: str, expected: RcptParameters) -> None:
    assert rcpt_parameters(text, ALL) == replace(expected, given=(text,))


def test_several() -> None:
    mail = "SIZE=10  body=8BITMIME SMTPUTF8 ret=HDRS ENVID=x AUTH=<> REQUIRETLS"
    assert mail_parameters(mail, ALL) == MailParameters(
        10, "8BITMIME", True, "HDRS", "x", "", True, tuple(mail.split())
    )
    rcpt = "ORCPT=rfc822;a@b NOTIFY=FAILURE,DELAY"
    assert rcpt_parameters(rcpt, ALL) == RcptParameters(
        ("FAILURE", "DELAY"), "rfc822;a@b", tuple(rcpt.split())
    )


@pytest.mark.parametrize(
    ("parse", "text", "extension"),
    [
        (mail_parameters, "SIZE=1", "SIZE"),
        (mail_parameters, "BODY=8BITMIME", "8BITMIME"),
        (mail_parameters, "BODY=BINARYMIME", "BINARYMIME"),
        (mail_parameters, "SMTPUTF8", "SMTPUTF8"),
        (mail_parameters, "RET=FULL", "DSN"),
        (mail_parameters, "ENVID=x", "DSN"),
        (mail_parameters, "AUTH=<>", "AUTH"),
        (mail_parameters, "REQUIRETLS", "REQUIRETLS"),
        (rcpt_parameters, "NOTIFY=NEVER", "DSN"),
        (rcpt_parameters, "ORCPT=rfc822;a@b", "DSN"),
    ],
)
def test_a_parameter_comes_with_its_extension(parse: Parse, text: str, extension: str) -> None:
    parse(text, frozenset({extension}))
    for offered in (ALL - {extension}, frozenset[str]()):
        reply = refusal(parse, text, offered)
        assert reply[:2] == (555, "5.5.4")
        assert text.partition("=")[0] in reply.text


def test_7bit_comes_with_either_extension() -> None:
    for extension in ("8BITMIME", "BINARYMIME"):
        assert mail_parameters("BODY=7BIT", frozenset({extension})).body == "7BIT"
    assert refusal(mail_parameters, "BODY=7BIT", ALL - {"8BITMIME", "BINARYMIME"}).code == 555


@pytest.mark.parametrize(
    ("parse", "text"),
    [
        (mail_parameters, "XFROB"),
        (mail_parameters, "XFROB=1"),
        (mail_parameters, "SIZE=1 x-Frob=<>"),
        (mail_parameters, "NOTIFY=NEVER"),
        (mail_parameters, "ORCPT=rfc822;a@b"),
        (mail_parameters, "FIELD=1"),
        (mail_parameters, "8BITMIME"),
        (mail_parameters, "XFROB=ö"),
        (rcpt_parameters, "XFROB=1"),
        (rcpt_parameters, "RET=FULL"),
        (rcpt_parameters, "SMTPUTF8"),
        (rcpt_parameters, "NOTIFY=NEVER SIZE=1"),
    ],
)
def test_unknown(parse: Parse, text: str) -> None:
    assert refusal(parse, text)[:2] == (555, "5.5.4")


def test_an_unknown_one_is_named_in_short() -> None:
    assert refusal(mail_parameters, "XFROB=secret").text == "Parameter XFROB is not served here"
    assert len(refusal(mail_parameters, "X" * 12_000).text) < 80


@pytest.mark.parametrize(
    "text",
    [
        "=",
        "=1",
        "SIZE=",
        "SIZE==1",
        "SIZE=1=2",
        "SIZE =1",
        "SIZE= 1",
        "-SIZE=1",
        "S\u0130ZE=1",
        "\u017fIZE=1",
        "SI_ZE=1",
        "SIZE=1\tRET=FULL",
        "SIZE=1\n",
        "SIZE=1\u00a0RET=FULL",
        "\tSIZE=1",
        "SIZE=\x7f",
        "AUTH=\x85",
        "AUTH=a\u2028",
        "AUTH=\udc80@b",
        "<c@d>",
        "ORCPT=utf-8;a=b@c",
    ],
)
def test_malformed(text: str) -> None:
    parse = rcpt_parameters if text.startswith("ORCPT") else mail_parameters
    assert refusal(parse, text)[:2] == (501, "5.5.4")


BAD_VALUES = {
    "SIZE takes": ["", "=abc", "=-1", "=+1", "=1e3", "=1_0", "=0x1", "=" + "1" * 21, "=\u0661"],
    "BODY takes": ["", "=FROBNICATE", "=8BIT", "=7", "=SMTPUTF8", "=b\u0131narymime"],
    "SMTPUTF8 takes": ["=1", "=SMTPUTF8"],
    "REQUIRETLS takes": ["=1", "=YES"],
    "RET takes": ["", "=NONE", "=FULL,HDRS", "=HDR\u017f"],
    "ENVID takes": ["", "=" + "e" * 101, "=+00", "=+0D+0A", "=a+7F", "=a+2", "=\u00f6", "=+C3+B6"],
    "AUTH takes": [
        "",
        "=<",
        "=a",
        "=@b",
        "=a@",
        "=a..b@c",
        "=<a@b>",
        "=+00@b",
        "=a+0A@b",
        "=a@b+2",
    ],
    "NOTIFY takes": [
        "",
        "=,",
        "=OFTEN",
        "=NEVER,SUCCESS",
        "=SUCCESS,NEVER",
        "=NEVER,NEVER",
        "=SUCCESS,success",
        "=SUCCESS,",
        "=,SUCCESS",
        "=SUCCESS;DELAY",
        "=\u017fUCCESS",
        "=SUCCE\u00df",
    ],
    "ORCPT takes": [
        "",
        "=a@b",
        "=;a@b",
        "=rfc822;",
        "=rfc822",
        "=rfc@822;a@b",
        "=rfc822;a+0Ab",
        "=rfc822;a+2",
        "=rfc822;+C3+B6@b",
        "=rfc822;\u00f6@b",
        "=\u00fctf-8;a@b",
        "=utf-8;",
        "=utf-8;a",
        "=utf-8;a..b@c",
        r"=utf-8;\x{0A}@b",
        r"=utf-8;\x{0}@b",
        r"=utf-8;\x{80}@b",
        r"=utf-8;\x{2028}@b",
        r"=utf-8;\x{D800}@b",
        r"=utf-8;\x{110000}@b",
        r"=utf-8;\x{0010FFFF}@b",
        r"=utf-8;\x{@b",
        r"=utf-8;a\b@c",
        "=rfc822;" + "o" * 494,
    ],
}


@pytest.mark.parametrize(
    ("says", "value"), [(says, value) for says, values in BAD_VALUES.items() for value in values]
)
def test_bad_value(says: str, value: str) -> None:
    keyword = says.split()[0]
    parse = rcpt_parameters if keyword in ("NOTIFY", "ORCPT") else mail_parameters
    reply = refusal(parse, keyword.lower() + value)
    assert reply[:2] == (501, "5.5.4")
    assert reply.text.startswith(says)
    assert reply.text.isascii()
    assert reply.text.isprintable()


@pytest.mark.parametrize(
    ("parse", "one"),
    [
        (mail_parameters, "SIZE=1"),
        (mail_parameters, "BODY=7BIT"),
        (mail_parameters, "SMTPUTF8"),
        (mail_parameters, "ENVID=x"),
        (mail_parameters, "AUTH=<>"),
        (mail_parameters, "REQUIRETLS"),
        (rcpt_parameters, "NOTIFY=NEVER"),
        (rcpt_parameters, "ORCPT=rfc822;a@b"),
    ],
)
def test_given_twice(parse: Parse, one: str) -> None:
    reply = refusal(parse, f"{one} {one.lower()}")
    assert reply == (501, "5.5.4", f"{one.partition('=')[0]} is given twice")


@pytest.mark.parametrize(
    "text",
    [
        "X" * 200_000,
        "SIZE=" + "1" * 200_000,
        "SIZE=1 " * 30_000,
        " " * 200_000 + "=",
        "AUTH=" + "a." * 100_000,
        "AUTH=" + "+2B" * 70_000 + "@b",
        "NOTIFY=" + "SUCCESS," * 25_000,
        "ORCPT=utf-8;" + r"\x{" * 60_000,
        "ORCPT=" + "a" * 200_000,
    ],
    ids=lambda text: text[:12].strip(),
)
def test_time_is_linear(text: str) -> None:
    """What is quadratic takes minutes for so much; a command has a few thousand octets."""
    began = time.process_time()
    for parse in (mail_parameters, rcpt_parameters):
        with suppress(Refusal):
            parse(text, ALL)
    assert time.process_time() - began < 2


keywords = st.sampled_from(
    ["SIZE", "BODY", "SMTPUTF8", "RET", "ENVID", "AUTH", "REQUIRETLS", "NOTIFY", "ORCPT", "X"]
)
values = st.sampled_from(
    ["1", "7BIT", "FULL", "x", "<>", "a@b", "NEVER", "DELAY", "rfc822;a@b", "utf-8;ö@b"]
) | st.text(max_size=8)


def outcome(parse: Parse, text: str) -> Reply | MailParameters | RcptParameters:
    try:
        return parse(text, ALL)
    except Refusal as refused:
        return refused.reply


@given(st.lists(st.builds("{}={}".format, keywords, values) | keywords | st.text(), max_size=4))
def test_any_text_is_parameters_or_refused(words: list[str]) -> None:
    """What is taken was sent, and is harmless wherever it is written; so is what is answered."""
    text = " ".join(words)
    for parse in (mail_parameters, rcpt_parameters):
        found = outcome(parse, text)
        if isinstance(found, Reply):
            assert found.code in (501, 555)
            assert found.text.isascii()
            assert found.text.isprintable()
            continue
        assert " ".join(found.given) == " ".join(word for word in text.split(" ") if word)
        for value in astuple(found):
            for one in value if isinstance(value, tuple) else (str(value),):
                one.encode()
                assert len(one.splitlines()) <= 1
                assert not any(unicodedata.category(character) == "Cc" for character in one)
