"""PROXY headers: what is taken, what is refused, whole and octet by octet."""

from __future__ import annotations

import socket
import struct
from dataclasses import replace
from ipaddress import ip_address

import pytest
from aiosmtpd.proxy_protocol import AF, PROTO, V2_CMD, ProxyTLV, get_proxy
from hypothesis import given
from hypothesis import strategies as st

from mtad.smtp.proxy import Address, Header, ProxyError, parse, proxy_data

SIGNATURE = b"\r\n\r\n\0\r\nQUIT\n"
INET = (
    socket.inet_aton("192.0.2.1") + socket.inet_aton("192.0.2.25") + struct.pack("!HH", 40_000, 25)
)
INET6 = (
    socket.inet_pton(socket.AF_INET6, "2001:db8::1")
    + socket.inet_pton(socket.AF_INET6, "2001:db8::25")
    + struct.pack("!HH", 40_000, 25)
)
UNIX = b"/run/client".ljust(108, b"\0") + b"/run/mx".ljust(108, b"\0")
VECTOR = b"\x05\0\x03abc"  # UNIQUE_ID


def block(payload: bytes, *, version: int = 0x21, kind: int = 0x11) -> bytes:
    return SIGNATURE + bytes((version, kind)) + len(payload).to_bytes(2, "big") + payload


def step_by_step(octets: bytes) -> tuple[Header, int] | None:
    """Parse as the octets arrive, one after the other."""
    for end in range(len(octets) + 1):
        if (parsed := parse(bytearray(octets[:end]))) is not None:
            return parsed
    return None


V4 = (("192.0.2.1", 40_000), ("192.0.2.25", 25))
V6 = (("2001:db8::1", 40_000), ("2001:db8::25", 25))

VALID: dict[str, tuple[bytes, AF, PROTO, tuple[Address, Address] | None]] = {
    "v1-tcp4": (b"PROXY TCP4 192.0.2.1 192.0.2.25 40000 25\r\n", AF.INET, PROTO.STREAM, V4),
    "v1-tcp6": (b"PROXY TCP6 2001:DB8:0::1 2001:db8::25 40000 25\r\n", AF.INET6, PROTO.STREAM, V6),
    "v1-ports": (
        b"PROXY TCP4 0.0.0.0 255.255.255.255 0 65535\r\n",
        AF.INET,
        PROTO.STREAM,
        (("0.0.0.0", 0), ("255.255.255.255", 65_535)),
    ),
    "v1-unknown": (b"PROXY UNKNOWN\r\n", AF.UNSPEC, PROTO.UNSPEC, None),
    "v1-unknown-with-text": (b"PROXY UNKNOWN \xff\0 1  2\r\n", AF.UNSPEC, PROTO.UNSPEC, None),
    "v1-unknown-with-lf": (b"PROXY UNKNOWN \n\r\r\n", AF.UNSPEC, PROTO.UNSPEC, None),
    "v1-longest": (b"PROXY UNKNOWN ".ljust(105, b"x") + b"\r\n", AF.UNSPEC, PROTO.UNSPEC, None),
    "v2-inet": (block(INET), AF.INET, PROTO.STREAM, V4),
    "v2-inet-udp": (block(INET, kind=0x12), AF.INET, PROTO.DGRAM, V4),
    "v2-inet-vectors": (block(INET + VECTOR + b"\x04\0\0"), AF.INET, PROTO.STREAM, V4),
    "v2-inet6": (block(INET6, kind=0x21), AF.INET6, PROTO.STREAM, V6),
    "v2-unix": (block(UNIX, kind=0x31), AF.UNIX, PROTO.STREAM, ("/run/client", "/run/mx")),
    "v2-unix-abstract": (
        block(b"\0abstract".ljust(108, b"\0") + b"/mx".ljust(108, b"y"), kind=0x31),
        AF.UNIX,
        PROTO.STREAM,
        ("", "/mx".ljust(108, "y")),
    ),
    "v2-unspec": (block(b"anything", kind=0), AF.UNSPEC, PROTO.UNSPEC, None),
    "v2-local": (block(b"", version=0x20, kind=0), AF.UNSPEC, PROTO.UNSPEC, None),
    "v2-local-with-a-family": (
        block(b"\1" * 5, version=0x20, kind=0xFF),
        AF.UNSPEC,
        PROTO.UNSPEC,
        None,
    ),
    "v2-longest": (
        block(INET + b"\x04" + struct.pack("!H", 4065) + bytes(4065)),
        AF.INET,
        PROTO.STREAM,
        V4,
    ),
}


@pytest.mark.parametrize("case", VALID)
def test_a_header_is_read_whole_and_octet_by_octet_and_what_follows_is_left(case: str) -> None:
    octets, family, protocol, ends = VALID[case]
    parsed = parse(octets)
    assert parsed is not None
    header, consumed = parsed
    assert (consumed, header.raw, header.version) == (len(octets), octets, int(case[1]))
    assert (header.family, header.protocol) == (family, protocol)
    assert (header.source, header.destination) == (ends or (None, None))
    assert step_by_step(octets) == parsed
    for follower in (b"\0", b"EHLO client.example\r\n", b"\x16\x03\x01", octets):
        assert parse(octets + follower) == parsed


def test_the_longest_headers_are_as_long_as_allowed() -> None:
    assert len(VALID["v1-longest"][0]) == 107
    assert len(VALID["v2-longest"][0]) == 4096


def test_command_and_rest() -> None:
    commands = {case: parsed[0].command for case in VALID if (parsed := parse(VALID[case][0]))}
    assert {case for case, command in commands.items() if command is None} == {
        case for case in VALID if case.startswith("v1")
    }
    local = {case for case, command in commands.items() if command is V2_CMD.LOCAL}
    assert local == {"v2-local", "v2-local-with-a-family"}
    for case, rest in {
        "v1-unknown-with-text": b" \xff\0 1  2",
        "v2-inet-vectors": VECTOR + b"\x04\0\0",
        "v2-local-with-a-family": b"\1" * 5,
        "v2-inet": b"",
    }.items():
        parsed = parse(VALID[case][0])
        assert parsed is not None
        assert parsed[0].rest == rest


INVALID = {
    "something-else": b"EHLO x\r\n",
    "tls": b"\x16\x03\x01\x02\0\x01\0",
    "lower-case": b"proxy UNKNOWN\r\n",
    "leading-space": b" PROXY UNKNOWN\r\n",
    "crlf": b"\r\n\r\n\r\n",
    "v1-no-protocol": b"PROXY \r\n",
    "v1-family": b"PROXY TCP9 192.0.2.1 192.0.2.25 1 2\r\n",
    "v1-udp": b"PROXY UDP4 192.0.2.1 192.0.2.25 1 2\r\n",
    "v1-protocol-in-lower-case": b"PROXY tcp4 192.0.2.1 192.0.2.25 1 2\r\n",
    "v1-unknown-and-more": b"PROXY UNKNOWN9\r\n",
    "v1-two-spaces": b"PROXY TCP4  192.0.2.1 192.0.2.25 1 2\r\n",
    "v1-trailing-space": b"PROXY TCP4 192.0.2.1 192.0.2.25 1 2 \r\n",
    "v1-field-missing": b"PROXY TCP4 192.0.2.1 192.0.2.25 1\r\n",
    "v1-field-too-many": b"PROXY TCP4 192.0.2.1 192.0.2.25 1 2 3\r\n",
    "v1-tab": b"PROXY TCP4 192.0.2.1\t192.0.2.25 1 2\r\n",
    "v1-wrong-family": b"PROXY TCP4 2001:db8::1 2001:db8::2 1 2\r\n",
    "v1-wrong-family-6": b"PROXY TCP6 192.0.2.1 192.0.2.25 1 2\r\n",
    "v1-mixed-families": b"PROXY TCP4 192.0.2.1 ::1 1 2\r\n",
    "v1-octet": b"PROXY TCP4 192.0.2.256 192.0.2.25 1 2\r\n",
    "v1-octet-leading-zero": b"PROXY TCP4 192.0.02.1 192.0.2.25 1 2\r\n",
    "v1-three-octets": b"PROXY TCP4 192.0.2 192.0.2.25 1 2\r\n",
    "v1-host-name": b"PROXY TCP4 localhost 192.0.2.25 1 2\r\n",
    "v1-scope": b"PROXY TCP6 fe80::1%eth0 ::1 1 2\r\n",
    "v1-brackets": b"PROXY TCP6 [::1] ::1 1 2\r\n",
    "v1-port": b"PROXY TCP4 192.0.2.1 192.0.2.25 65536 2\r\n",
    "v1-port-leading-zero": b"PROXY TCP4 192.0.2.1 192.0.2.25 01 2\r\n",
    "v1-port-zeroes": b"PROXY TCP4 192.0.2.1 192.0.2.25 1 00\r\n",
    "v1-port-sign": b"PROXY TCP4 192.0.2.1 192.0.2.25 +1 2\r\n",
    "v1-port-digits": "PROXY TCP4 192.0.2.1 192.0.2.25 \u0661 2\r\n".encode(),
    "v1-bare-lf": b"PROXY TCP4 192.0.2.1 192.0.2.25 1 2\nEHLO x\r\n",
    "v1-too-long": b"PROXY UNKNOWN ".ljust(106, b"x") + b"\r\n",
    "v1-endless": b"PROXY UNKNOWN ".ljust(107, b"x"),
    "v2-version": block(INET, version=0x11),
    "v2-version-3": block(INET, version=0x31),
    "v2-command": block(INET, version=0x22),
    "v2-family": block(INET, kind=0x41),
    "v2-protocol": block(INET, kind=0x13),
    "v2-no-protocol": block(INET, kind=0x10),
    "v2-no-family": block(INET, kind=0x01),
    "v2-inet-too-short": block(INET[:-1]),
    "v2-inet-empty": block(b""),
    "v2-inet6-too-short": block(INET, kind=0x21),
    "v2-unix-too-short": block(UNIX[:-1], kind=0x31),
    "v2-too-long": SIGNATURE + b"\x21\x11" + struct.pack("!H", 4081),
    "v2-too-long-local": SIGNATURE + b"\x20\0" + struct.pack("!H", 65_535),
    "v2-vector-without-length": block(INET + VECTOR + b"\x04\0"),
    "v2-vector-too-long": block(INET + b"\x04\0\x04abc"),
}


@pytest.mark.parametrize("case", INVALID)
def test_what_is_no_header_is_refused_whole_and_octet_by_octet(case: str) -> None:
    with pytest.raises(ProxyError):
        parse(INVALID[case])
    with pytest.raises(ProxyError):
        step_by_step(INVALID[case])


@pytest.mark.parametrize(
    "case", ["v2-version", "v2-command", "v2-family", "v2-inet-too-short", "v2-too-long"]
)
def test_a_block_is_refused_before_it_has_come(case: str) -> None:
    with pytest.raises(ProxyError):
        parse(INVALID[case][:16])


@pytest.mark.parametrize("octets", [b"E", b"PROXX", b"\r\n\r\n\0\r\nQUIX"])
def test_what_cannot_become_a_header_is_not_waited_for(octets: bytes) -> None:
    assert parse(octets[:-1]) is None
    with pytest.raises(ProxyError):
        parse(octets)


def outcome(parsing: object, octets: bytes) -> object:
    assert callable(parsing)
    try:
        return parsing(octets)
    except ProxyError:
        return ProxyError


@given(
    st.one_of(
        st.binary(max_size=60),
        st.binary(max_size=120).map(b"PROXY ".__add__),
        st.from_regex(rb"PROXY TCP[46] [0-9a-f:.]{1,12} [0-9a-f:.]{1,12} [0-9]+ [0-9]+\r\n"),
        st.builds(
            block,
            st.binary(max_size=300),
            version=st.sampled_from([0x20, 0x21, 0x21, 0x12, 0x2F]),
            kind=st.sampled_from([0, 0x11, 0x12, 0x21, 0x31, 0x32, 0xF1]),
        ),
        st.builds(block, st.binary(max_size=30).map(INET.__add__)),
    ),
    st.binary(max_size=8),
)
def test_nothing_but_a_header_or_its_error_and_the_pace_is_no_matter(
    octets: bytes, follower: bytes
) -> None:
    whole = outcome(parse, octets + follower)
    assert outcome(step_by_step, octets + follower) == whole
    if isinstance(whole, tuple):
        header, consumed = whole
        assert header.raw == (octets + follower)[:consumed]
        assert parse(header.raw) == whole


class Octets:
    """What aiosmtpd's own parser reads from."""

    def __init__(self, octets: bytes) -> None:
        self.left = octets

    async def read(self, count: int = -1) -> bytes:
        taken, self.left = self.left[:count], self.left[count:]
        return taken

    readexactly = read

    async def readuntil(self, separator: bytes = b"\n") -> bytes:
        return await self.read(self.left.index(separator) + 1)


@pytest.mark.parametrize(
    # aiosmtpd reads the line of version 1 to its first LF, and the family of LOCAL.
    "case",
    sorted(VALID.keys() - {"v1-unknown-with-lf", "v2-local-with-a-family"}),
)
async def test_a_hook_gets_what_aiosmtpd_would_have_given_it(case: str) -> None:
    octets = VALID[case][0]
    theirs = await get_proxy(Octets(octets))
    parsed = parse(octets)
    assert parsed is not None
    ours = proxy_data(parsed[0])
    assert ours.valid
    assert theirs.valid
    for field in (
        "version", "command", "family", "protocol", "src_addr", "dst_addr", "src_port", "dst_port",
        "rest", "whole_raw", "tlv_start", "error",
    ):  # fmt: skip
        assert getattr(ours, field) == getattr(theirs, field), field


def test_a_hook_sees_addresses_and_vectors() -> None:
    parsed = parse(VALID["v2-inet-vectors"][0])
    assert parsed is not None
    data = proxy_data(parsed[0])
    assert (data.src_addr, data.src_port) == (ip_address("192.0.2.1"), 40_000)
    assert isinstance(data.tlv, ProxyTLV)
    assert data.tlv["UNIQUE_ID"] == b"abc"
    unknown = proxy_data(replace(parsed[0], source=None, destination=None, family=AF.UNSPEC))
    assert (unknown.src_addr, unknown.src_port, unknown.dst_addr) == (None, None, None)
