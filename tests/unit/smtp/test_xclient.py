"""XCLIENT: what a trusted client may say of another."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import fields

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mtad.smtp.reply import Refusal
from mtad.smtp.xclient import ATTRIBUTES, Client, Unknown, parse


@pytest.mark.parametrize(
    ("argument", "client"),
    [
        ("NAME=spike.example", Client(name="spike.example")),
        ("NAME=[UNAVAILABLE]", Client(name=Unknown.UNAVAILABLE)),
        ("NAME=[tempunavail]", Client(name=Unknown.TEMPUNAVAIL)),
        ("ADDR=192.0.2.1", Client(addr="192.0.2.1")),
        ("ADDR=IPV6:2001:DB8:0::1", Client(addr="2001:db8::1")),
        ("ADDR=ipv6:::1", Client(addr="::1")),
        ("ADDR=[UNAVAILABLE]", Client(addr=Unknown.UNAVAILABLE)),
        ("PORT=0", Client(port=0)),
        ("PORT=65535", Client(port=65_535)),
        ("PORT=[UNAVAILABLE]", Client(port=Unknown.UNAVAILABLE)),
        ("PROTO=SMTP", Client(proto="SMTP")),
        ("PROTO=esmtp", Client(proto="ESMTP")),
        ("HELO=client.example", Client(helo="client.example")),
        ("HELO=[192.0.2.1]", Client(helo="[192.0.2.1]")),
        ("HELO=my+20computer", Client(helo="my computer")),
        ("HELO=" + "x" * 255, Client(helo="x" * 255)),
        ("LOGIN=tim+40example", Client(login="tim@example")),
        ("LOGIN=j+C3+BCrgen", Client(login="jürgen")),
        ("LOGIN=a+2Bb+3Dc", Client(login="a+b=c")),
        ("LOGIN=[UNAVAILABLE]", Client(login=Unknown.UNAVAILABLE)),
        ("DESTADDR=192.0.2.25 DESTPORT=25", Client(destaddr="192.0.2.25", destport=25)),
        (
            "name=a.example  aDDr=192.0.2.1 PORT=1 ",
            Client(name="a.example", addr="192.0.2.1", port=1),
        ),
        ("HELO=[TEMPUNAVAIL]", Client(helo="[TEMPUNAVAIL]")),
    ],
)
def test_what_is_said(argument: str, client: Client) -> None:
    assert parse(argument) == client


@pytest.mark.parametrize(
    "argument",
    [
        "",
        "   ",
        "NAME",
        "NAME=",
        "=x",
        "ADDR = 192.0.2.1",
        "FOO=bar",
        "ADDR=192.0.2.1 ADDR=192.0.2.2",
        "ADDR=192.0.2.1 addr=192.0.2.1",
        "NAME=[192.0.2.1]",
        "NAME=a..example",
        "NAME=-a.example",
        "NAME=a+0Ab",
        "NAME=" + "a." * 128 + "example",
        "ADDR=192.0.2.256",
        "ADDR=192.0.2.01",
        "ADDR=2001:db8::1",
        "ADDR=[192.0.2.1]",
        "ADDR=IPV6:192.0.2.1",
        "ADDR=IPV6:fe80::1%25eth0",
        "ADDR=IPV6:fe80::1%eth0",
        "ADDR=localhost",
        "ADDR=[TEMPUNAVAIL]",
        "PORT=65536",
        "PORT=01",
        "PORT=-1",
        "PORT=+2B1",
        "PORT=+D9+A1",  # an Arabic digit
        "PORT=",
        "PROTO=LMTP",
        "PROTO=[UNAVAILABLE]",
        "HELO=",
        "HELO=a+0D+0Ab",
        "HELO=a+00b",
        "HELO=a+7F",
        "HELO=a+C2+85",
        "HELO=" + "x" * 256,
        "HELO=" + "+C3+BC" * 128,
        "LOGIN=a+2",
        "LOGIN=a+2b",  # xtext has upper-case digits
        "LOGIN=a=b",
        "LOGIN=jürgen",
        "LOGIN=+FF",
        "LOGIN=\udcff",
        "NAME=a.example\tADDR=192.0.2.1",
        "NAME=a.example\x1cADDR=192.0.2.1",
    ],
)
def test_what_is_refused(argument: str) -> None:
    with pytest.raises(Refusal) as raised:
        parse(argument)
    assert raised.value.reply[:2] == (501, "5.5.4")


def test_each_attribute_that_is_announced_can_be_said() -> None:
    assert [field.name.upper() for field in fields(Client)] == list(ATTRIBUTES)


@given(
    st.lists(
        st.builds(
            "{}={}".format,
            st.sampled_from([*ATTRIBUTES, "x"]),
            st.text(max_size=12) | st.sampled_from(["[UNAVAILABLE]", "192.0.2.1", "25", "SMTP"]),
        ),
        max_size=4,
    ).map(" ".join)
)
def test_any_text_is_a_client_or_a_refusal(argument: str) -> None:
    client = Client(name="refused.example")
    with suppress(Refusal):
        client = parse(argument)
    said = [value for field in fields(client) if (value := getattr(client, field.name)) is not None]
    assert said
    assert not any("\n" in value or "\0" in value for value in said if isinstance(value, str))
