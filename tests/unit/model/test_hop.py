"""Where mail may be sent on to."""

from __future__ import annotations

import pytest

from mtad.errors import EndpointError
from mtad.model.hop import Hop, parse_hop


@pytest.mark.parametrize(
    ("text", "hop"),
    [
        ("192.0.2.1:25", Hop("192.0.2.1", 25)),
        ("[2001:DB8:0::1]:2525", Hop("2001:db8::1", 2525)),
        ("localhost:1", Hop("localhost", 1)),
        ("mail_pit.staging:65535", Hop("mail_pit.staging", 65535)),
        ("mx-1.example.org.:25", Hop("mx-1.example.org.", 25)),
    ],
)
def test_a_hop(text: str, hop: Hop) -> None:
    assert parse_hop(text) == hop
    assert parse_hop(str(hop)) == hop


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "not a host and a port"),
        ("mx.example.org", "not a host and a port"),
        (":25", "not a host and a port"),
        ("2001:db8::1:25", "not a host and a port"),
        ("/run/mx.sock", "not a host and a port"),
        ("mx:0", "port 0"),
        ("mx:65536", "port 65536"),
        ("192.0.2.256:25", "no IP address"),
        ("192.0.2:25", "no IP address"),
        ("[192.0.2.1]:25", "no IP address"),
        ("[fe80::1%eth0]:25", "not a host and a port"),
        ("-mx:25", "no name"),
        ("mx..example:25", "no name"),
        ("mx example:25", "no name"),
        ("mx\r\n:25", "no name"),
    ],
)
def test_what_is_none(text: str, says: str) -> None:
    with pytest.raises(EndpointError, match=says) as raised:
        parse_hop(text)
    assert raised.value.help
