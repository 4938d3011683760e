"""Records of TLS before there are keys: a ClientHello that is whole, and alerts in answer to it."""

from __future__ import annotations

_ALERT, _HANDSHAKE = 21, 22  # RFC 8446 section 5.1
_CLIENT_HELLO = 1  # section 4
_RECORD_HEADER, _MESSAGE_HEADER = 5, 4
_VERSION = b"\3\3"  # of all records but the first, whatever is spoken (section 5.1)
_WARNING, _FATAL = 1, 2
_WARNINGS = frozenset({0, 90, 100})  # close_notify, user_canceled (section 6.1), no_renegotiation
# More than any client sends; what goes on after so much is no ClientHello.
_MOST = 16_384


def is_whole(octets: bytes) -> bool:
    """Whether a ClientHello that begins like ``octets`` is complete, or is none at all."""
    message = b""
    at = 0
    while len(octets) >= at + _RECORD_HEADER:
        if octets[at] != _HANDSHAKE:
            return True
        begin = at + _RECORD_HEADER
        at = begin + int.from_bytes(octets[at + 3 : begin], "big")
        message += octets[begin:at]
        if len(message) >= _MESSAGE_HEADER:
            length = int.from_bytes(message[1:_MESSAGE_HEADER], "big")
            if message[0] != _CLIENT_HELLO or len(message) >= _MESSAGE_HEADER + length:
                return True
    return bool(octets) and (octets[0] != _HANDSHAKE or len(octets) >= _MOST)


def alert(number: int) -> bytes:
    """Return a record with an alert, which ends the connection (RFC 8446 section 6)."""
    level = _WARNING if number in _WARNINGS else _FATAL
    return bytes([_ALERT, *_VERSION, 0, 2, level, number])
