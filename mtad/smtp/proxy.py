"""The PROXY protocol, versions 1 and 2 (haproxy, doc/proxy-protocol.txt): who the client is.

A header is either a line of at most 107 octets or a binary block. Blocks are taken up to 4096
octets: the addresses, and room for type-length-value vectors with a client certificate. The vectors
are checked for their lengths, and otherwise left to handlers; a CRC32C among them is not verified.
"""

from __future__ import annotations

import re
import struct
from dataclasses import dataclass
from ipaddress import AddressValueError, IPv4Address, IPv6Address, ip_address

from aiosmtpd.proxy_protocol import AF, PROTO, V2_CMD, ProxyData

Address = tuple[str, int] | str
"""Host and port; or the path of a unix socket, "" for an unnamed or abstract one."""

_LINE_LIMIT = 107
_BLOCK_LIMIT = 4096

_LINE_START = b"PROXY "
_LINE = re.compile(
    rb"PROXY (?:UNKNOWN(?: .*)?|TCP(?P<family>[46]) (?P<source>[0-9A-Fa-f:.]+) "
    rb"(?P<destination>[0-9A-Fa-f:.]+) (?P<ports>(?:0|[1-9][0-9]{0,4}) (?:0|[1-9][0-9]{0,4})))",
    re.DOTALL,
)

_SIGNATURE = b"\r\n\r\n\0\r\nQUIT\n"
_COMMANDS = {0x20: V2_CMD.LOCAL, 0x21: V2_CMD.PROXY}  # the version is in the upper half
_FIXED = struct.Struct("!12sBBH")  # signature, version and command, family and protocol, length
_VECTOR = struct.Struct("!BH")  # type, length
_PATH = 108  # sun_path of unix(7)

_UNSPEC = 0x00
_INET = struct.Struct("!4s4sHH")
_INET6 = struct.Struct("!16s16sHH")
_UNIX = struct.Struct(f"!{_PATH}s{_PATH}s")
_KINDS = {
    _UNSPEC: (AF.UNSPEC, PROTO.UNSPEC, struct.Struct("")),
    0x11: (AF.INET, PROTO.STREAM, _INET),
    0x12: (AF.INET, PROTO.DGRAM, _INET),
    0x21: (AF.INET6, PROTO.STREAM, _INET6),
    0x22: (AF.INET6, PROTO.DGRAM, _INET6),
    0x31: (AF.UNIX, PROTO.STREAM, _UNIX),
    0x32: (AF.UNIX, PROTO.DGRAM, _UNIX),
}


class ProxyError(Exception):
    """What came is no PROXY header. The text is for the log only."""


@dataclass(frozen=True, slots=True)
class Header:
    """A PROXY header: ``source`` is the client, ``destination`` what it connected to.

    Both are None where the connection's own ends count: for UNKNOWN, UNSPEC and LOCAL. ``command``
    is None in version 1. ``raw`` is the whole header; ``rest`` what follows the addresses: the
    vectors, or all that had to be ignored.
    """

    version: int
    raw: bytes
    command: V2_CMD | None = None
    family: AF = AF.UNSPEC
    protocol: PROTO = PROTO.UNSPEC
    source: Address | None = None
    destination: Address | None = None
    rest: bytes = b""


def parse(buffer: bytes | bytearray) -> tuple[Header, int] | None:
    """Return the header that ``buffer`` begins with and its length; None: more is needed.

    Raises:
        ProxyError: it begins with no header, or with one that is not valid.
    """
    if _LINE_START.startswith(buffer[: len(_LINE_START)]):
        header = _parse_line(bytes(buffer[:_LINE_LIMIT]))
    elif _SIGNATURE.startswith(buffer[: len(_SIGNATURE)]):
        header = _parse_block(bytes(buffer[:_BLOCK_LIMIT]))
    else:
        raise ProxyError(f"no PROXY header: {bytes(buffer[:16])!r}")
    return None if header is None else (header, len(header.raw))


def _parse_line(octets: bytes) -> Header | None:
    line, end, _ = octets.partition(b"\r\n")
    if not end:
        if len(octets) == _LINE_LIMIT:
            raise ProxyError(f"a PROXY line of more than {_LINE_LIMIT} octets")
        return None
    match = _LINE.fullmatch(line)
    if match is None:
        raise ProxyError(f"not a PROXY line: {line!r}")
    raw = line + end
    if match["family"] is None:
        return Header(version=1, raw=raw, rest=line.removeprefix(b"PROXY UNKNOWN"))
    family, kind = (AF.INET, IPv4Address) if match["family"] == b"4" else (AF.INET6, IPv6Address)
    ports = [int(port) for port in match["ports"].split()]
    try:
        hosts = [str(kind(match[end].decode())) for end in ("source", "destination")]
    except AddressValueError as error:
        raise ProxyError(f"a PROXY line with a wrong address: {error}") from error
    if max(ports) > 0xFFFF:
        raise ProxyError(f"a PROXY line with a port above 65535: {max(ports)}")
    source, destination = zip(hosts, ports, strict=True)
    return Header(1, raw, None, family, PROTO.STREAM, source, destination)


def _parse_block(octets: bytes) -> Header | None:
    if len(octets) < _FIXED.size:
        return None
    _, version_and_command, kind, length = _FIXED.unpack_from(octets)
    if version_and_command not in _COMMANDS:
        raise ProxyError(f"a PROXY block of version and command {version_and_command:#04x}")
    command = _COMMANDS[version_and_command]
    if command is V2_CMD.LOCAL:  # whatever family it names (section 2.2)
        kind = _UNSPEC
    if kind not in _KINDS:
        raise ProxyError(f"a PROXY block of family and protocol {kind:#04x}")
    family, protocol, addresses = _KINDS[kind]
    if not addresses.size <= length <= _BLOCK_LIMIT - _FIXED.size:
        raise ProxyError(f"a PROXY block with {length} octets of {family.name}")
    raw = octets[: _FIXED.size + length]
    if len(raw) < _FIXED.size + length:
        return None
    rest = raw[_FIXED.size + addresses.size :]
    if kind == _UNSPEC:
        return Header(2, raw, command, rest=rest)
    _check_vectors(rest)
    source, destination = _ends(family, *addresses.unpack_from(raw, _FIXED.size))
    return Header(2, raw, command, family, protocol, source, destination, rest)


def _ends(family: AF, source: bytes, destination: bytes, *ports: int) -> tuple[Address, Address]:
    if family is AF.UNIX:
        return _path(source), _path(destination)
    return (str(ip_address(source)), ports[0]), (str(ip_address(destination)), ports[1])


def _path(octets: bytes) -> str:
    return octets.partition(b"\0")[0].decode("utf-8", "surrogateescape")


def _check_vectors(octets: bytes) -> None:
    at = 0
    while at < len(octets):
        if at + _VECTOR.size > len(octets):
            raise ProxyError("a PROXY block with a vector cut short")
        kind, length = _VECTOR.unpack_from(octets, at)
        at += _VECTOR.size + length
        if at > len(octets):
            raise ProxyError(
                f"a PROXY block with a vector {kind:#04x} of {length} octets, cut short"
            )


def proxy_data(header: Header) -> ProxyData:
    """Return ``header`` as aiosmtpd has it, for the ``handle_PROXY`` hook of a handler."""
    fields: dict[str, object] = {
        "command": header.command,
        "family": header.family,
        "protocol": header.protocol,
        "rest": header.rest,
        "whole_raw": bytearray(header.raw),
    }
    if header.family is AF.UNIX:
        fields["src_addr"], fields["dst_addr"] = _UNIX.unpack_from(header.raw, _FIXED.size)
    for end, address in (("src", header.source), ("dst", header.destination)):
        if isinstance(address, tuple):
            fields[f"{end}_addr"] = ip_address(address[0])
            fields[f"{end}_port"] = address[1]
    if header.version == 2 and header.family is not AF.UNSPEC and header.rest:
        fields["tlv_start"] = len(header.raw) - len(header.rest)

    data = ProxyData(version=header.version)
    for name, value in fields.items():
        setattr(data, name, value)
    return data
