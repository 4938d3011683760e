"""Which parameters of an envelope a hop is told."""

from __future__ import annotations

import pytest

from mtad.archive.outgoing import parameters
from mtad.archive.outgoing.parameters import UnfitError

MAIL = ("SIZE=9", "body=8BITMIME", "SMTPUTF8", "RET=HDRS", "ENVID=a+2Bb", "AUTH=<>")
RCPT = ("NOTIFY=SUCCESS,FAILURE", "ORCPT=rfc822;a@b")


@pytest.mark.parametrize(
    ("offers", "mail", "rcpt"),
    [
        ("", [], []),
        ("size", ["SIZE=7"], []),
        ("8bitmime", ["body=8BITMIME"], []),
        ("binarymime", [], []),
        ("smtputf8", ["SMTPUTF8"], []),
        ("dsn", ["RET=HDRS", "ENVID=a+2Bb"], list(RCPT)),
        ("auth", [], []),
    ],
)
def test_only_what_is_offered(offers: str, mail: list[str], rcpt: list[str]) -> None:
    offered = frozenset(offers.split())
    assert parameters.of_sender(MAIL, 7, offered) == mail
    assert parameters.taken(RCPT, offered) == rcpt


@pytest.mark.parametrize(
    ("given", "extension"),
    [("BODY=BINARYMIME", "binarymime"), ("BODY=7BIT", "8bitmime"), ("REQUIRETLS", "requiretls")],
)
def test_values_that_need_another_extension(given: str, extension: str) -> None:
    assert parameters.of_sender([given], 7, frozenset({extension})) == [given]


def test_what_cannot_be_done_without() -> None:
    with pytest.raises(UnfitError, match=r"REQUIRETLS.*5\.7\.30"):
        parameters.of_sender(["requiretls"], 7, frozenset({"size"}))
    with pytest.raises(UnfitError, match=r"SMTPUTF8.*ä@b.*5\.6\.7"):
        parameters.check_address("ä@b", frozenset({"8bitmime"}))
    parameters.check_address("ä@b", frozenset({"smtputf8"}))
    parameters.check_address("a@b", frozenset())


def test_octets_are_those_that_came() -> None:
    words = parameters.command("RCPT", "TO:<ä\udcff@b>", ["ORCPT=utf-8;ä"])
    assert words == [b"RCPT", b"TO:<\xc3\xa4\xff@b>", b"ORCPT=utf-8;\xc3\xa4"]
