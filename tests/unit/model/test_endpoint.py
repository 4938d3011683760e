"""Texts of endpoints: what each stands for, what each mistake is told, and the way back."""

from __future__ import annotations

import ipaddress
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mtad.errors import EndpointError
from mtad.model.endpoint import MAX_RANGE, Endpoint, TcpEndpoint, UnixEndpoint, parse_endpoints


@pytest.mark.parametrize(
    ("text", "endpoint"),
    [
        ("0.0.0.0:25", TcpEndpoint("0.0.0.0", 25)),
        ("127.0.0.1:0", TcpEndpoint("127.0.0.1", 0)),
        ("127.0.0.1:65535", TcpEndpoint("127.0.0.1", 65535)),
        ("[::]:25", TcpEndpoint("::", 25)),
        ("[2001:DB8:0:0::1]:25", TcpEndpoint("2001:db8::1", 25)),
        ("[127.0.0.1]:25", TcpEndpoint("127.0.0.1", 25)),
        ("127.0.0.5/32:25", TcpEndpoint("127.0.0.5", 25)),
        ("*:25", TcpEndpoint("*", 25, v6only=False)),
        ("/run/mtad/mx.sock", UnixEndpoint("/run/mtad/mx.sock")),
        ("/run/a:25", UnixEndpoint("/run/a:25")),
        ("/" + "x" * 106, UnixEndpoint("/" + "x" * 106)),
        ("/" + "ü" * 53, UnixEndpoint("/" + "ü" * 53)),
    ],
)
def test_one(text: str, endpoint: Endpoint) -> None:
    assert parse_endpoints(text) == (endpoint,)


def test_what_goes_with_the_text() -> None:
    assert parse_endpoints("[::]:25", v6only=False) == (TcpEndpoint("::", 25, v6only=False),)
    assert parse_endpoints("/run/x", mode=0o600) == (UnixEndpoint("/run/x", 0o600),)


@pytest.mark.parametrize(
    ("text", "first", "last", "count"),
    [
        ("127.0.0.0/24:25", "127.0.0.0:25", "127.0.0.255:25", 256),
        ("127.1.0.0/22:25", "127.1.0.0:25", "127.1.3.255:25", 1024),
        ("127.0.0.2/31:25", "127.0.0.2:25", "127.0.0.3:25", 2),
        ("[fd00::/126]:25", "[fd00::]:25", "[fd00::3]:25", 4),
        ("127.0.0.0/16:25", "127.0.0.0:25", "127.0.255.255:25", MAX_RANGE),
    ],
)
def test_range(text: str, first: str, last: str, count: int) -> None:
    endpoints = parse_endpoints(text)
    assert (str(endpoints[0]), str(endpoints[-1]), len(endpoints)) == (first, last, count)
    assert len(set(endpoints)) == count


@pytest.mark.parametrize(
    ("text", "says", "help"),
    [
        ("", "'' is not an address and a port", "write 0.0.0.0:25"),
        ("25", "'25' is not an address and a port", "write 0.0.0.0:25"),
        ("127.0.0.1", "is not an address and a port", "127.0.0.1:2525"),
        ("127.0.0.1:", "is not an address and a port", "127.0.0.1:2525"),
        ("127.0.0.1:smtp", "is not an address and a port", "127.0.0.1:2525"),
        ("127.0.0.1:-1", "is not an address and a port", "127.0.0.1:2525"),
        ("127.0.0.1:٢٥", "is not an address and a port", "127.0.0.1:2525"),
        ("127.0.0.1:25\n", "is not an address and a port", "127.0.0.1:2525"),
        ("::1:25", "is not an address and a port", "[::1]:25"),
        ("[::1:25", "is not an address and a port", "[::1]:25"),
        ("run/mx.sock", "is not an address and a port", "/run/mtad/mx.sock"),
        ("127.0.0.1:65536", "port 65536 in '127.0.0.1:65536' is above 65535", "write"),
        (":25", "'' in ':25' is no IP address", "*:25 for all addresses"),
        ("[]:25", "'' in '[]:25' is no IP address", "write"),
        ("[*]:25", "'*' in '[*]:25' is no IP address", "*:25 for all addresses"),
        ("127.0.0.256:25", "'127.0.0.256' in '127.0.0.256:25' is no IP address", "write"),
        ("127.1:25", "'127.1' in '127.1:25' is no IP address", "write"),
        ("127.0.0.01:25", "is no IP address", "write"),
        (" 127.0.0.1:25", "is no IP address", "write"),
        ("localhost:25", "'localhost' in 'localhost:25' is no IP address", "a name may stand for"),
        ("[fe80::1%eth0]:25", "'fe80::1%eth0' in '[fe80::1%eth0]:25' names an interface", "alone"),
        ("127.0.0.1/24:25", "127.0.0.1/24 in '127.0.0.1/24:25' has host bits set", "127.0.0.0/24"),
        ("127.0.0.0/33:25", "is no IP address", "127.0.0.0/24:25 for a range"),
        ("127.1.0.0/15:25", "has host bits set", "write 127.0.0.0/15"),
        ("10.0.0.0/15:25", "'10.0.0.0/15:25' has 131072 addresses", "at most 65536"),
        ("[::/0]:25", "addresses", "at most 65536"),
        ("/" + "x" * 107, "its path has 108 octets", "at most 107 octets"),
        ("/" + "ü" * 54, "its path has 109 octets", "at most 107 octets"),
        ("/run/\0", "characters that cannot be seen", "/run/mtad/mx.sock"),
        ("/run/a\nb", "characters that cannot be seen", "/run/mtad/mx.sock"),
        ("/run/\ud800", "characters that cannot be seen", "/run/mtad/mx.sock"),
        ("/run/\u202e", "characters that cannot be seen", "/run/mtad/mx.sock"),
    ],
)
def test_mistake(text: str, says: str, help: str) -> None:  # noqa: A002 (the field's word)
    with pytest.raises(EndpointError) as caught:
        parse_endpoints(text)
    assert says in caught.value.message
    assert help in caught.value.help
    str(caught.value).encode()  # whatever was written, the message can be


ports = st.integers(0, 65535)


@given(st.ip_addresses(), ports)
def test_addresses_come_back(address: ipaddress.IPv4Address, port: int) -> None:
    """Of both families; the text of an endpoint is read as the same endpoint."""
    endpoint = TcpEndpoint(str(address), port)
    assert parse_endpoints(str(endpoint)) == (endpoint,)


@given(ports)
def test_all_addresses_come_back(port: int) -> None:
    (endpoint,) = parse_endpoints(f"*:{port}")
    assert parse_endpoints(str(endpoint)) == (endpoint,)


@given(st.text(st.characters(categories=["L", "N", "P"]), max_size=40))
def test_paths_come_back(path: str) -> None:
    assert parse_endpoints(str(UnixEndpoint("/" + path)))[0] == UnixEndpoint("/" + path)


@given(st.ip_addresses(v=4), st.integers(22, 32), ports)
def test_ranges(address: ipaddress.IPv4Address, length: int, port: int) -> None:
    """Either host bits are set, or every address of the network is there, once, in order."""
    network = ipaddress.ip_network(f"{address}/{length}", strict=False)
    text = f"{address}/{length}:{port}"
    if address == network.network_address:
        assert parse_endpoints(text) == tuple(TcpEndpoint(str(one), port) for one in network)
    else:
        with pytest.raises(EndpointError, match="host bits"):
            parse_endpoints(text)


@given(st.text(max_size=60) | st.from_regex(r"[\[\]0-9a-f:./*%]{0,40}", fullmatch=True))
def test_any_text_is_an_endpoint_or_an_endpoint_error(text: str) -> None:
    with suppress(EndpointError):
        assert parse_endpoints(text)
