"""The control wire: JSON-RPC 2.0, one object a line. Pure: octets in, values out, and back.

A line ends with LF (a CR before it is ignored) and has at most LINE_LIMIT octets. Batches are not
accepted: a line is one request. Whatever arrives, nothing here raises: a line that is no request
becomes a Failure, which is answered like any other.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum
from typing import Any, NoReturn

import msgspec

from mtad.errors import CommandError

LINE_LIMIT = 65_536
"""Octets of a line, without its end."""

_MAX_ID = 2**63


class Code(IntEnum):
    """Error codes: those of JSON-RPC 2.0 section 5.1, and mtad's own from -32000 down."""

    PARSE_ERROR = -32700
    INVALID_REQUEST = -32600
    METHOD_NOT_FOUND = -32601
    INVALID_PARAMS = -32602
    INTERNAL_ERROR = -32603
    REFUSED = -32000
    NOT_PERMITTED = -32001
    BUSY = -32002


Id = str | int | None


@dataclass(frozen=True, slots=True)
class Request:
    """One call. ``notification``: it has no id, and is carried out without an answer."""

    method: str
    params: dict[str, Any]
    id: Id = None
    notification: bool = False


@dataclass(frozen=True, slots=True)
class Failure:
    """A line that is no request; ``id`` is its id as far as it could be read."""

    error: CommandError
    id: Id = None


class LineBuffer:
    """Cuts what arrives into lines, in memory bounded by one line and one read.

    A line that is too long comes out once, cut to ``limit + 1`` octets; its rest is dropped.
    """

    def __init__(self, limit: int = LINE_LIMIT) -> None:
        self._limit = limit
        self._data = bytearray()
        self._searched = 0
        self._dropping = False

    def feed(self, data: bytes) -> None:
        """Add what has arrived."""
        self._data += data

    def __len__(self) -> int:
        return len(self._data)

    @property
    def unfinished(self) -> bool:
        """Whether a line has begun; meaningful once ``pop`` has returned None."""
        return bool(self._data) or self._dropping

    def pop(self) -> bytes | None:
        """Return the next line without its LF, or None when the rest is not a whole line."""
        while (end := self._data.find(b"\n", self._searched)) >= 0:
            line = bytes(self._data[: min(end, self._limit + 1)])
            del self._data[: end + 1]
            self._searched = 0
            if not self._dropping:
                return line
            self._dropping = False
        return self._unfinished_line()

    def _unfinished_line(self) -> bytes | None:
        self._searched = len(self._data)
        if not self._dropping and self._searched <= self._limit:
            return None
        head = None if self._dropping else bytes(self._data[: self._limit + 1])
        self._dropping = True
        self._data.clear()
        self._searched = 0
        return head

    def finish(self) -> bytes | None:
        """Return what is left at the end of the input: a line without LF counts as a line."""
        rest = bytes(self._data)
        self._data.clear()
        self._searched = 0
        return rest or None


def is_json(line: bytes) -> bool:
    """Whether ``line`` is meant as JSON; anything else is a plain command."""
    return line.lstrip()[:1] in (b"{", b"[")


def text_of(line: bytes) -> str:
    """Return the line as text.

    Raises:
        CommandError: it is too long, or not UTF-8, or holds a NUL.
    """
    if len(line) > LINE_LIMIT:
        raise CommandError(
            f"a line of more than {LINE_LIMIT} octets",
            code=Code.PARSE_ERROR,
            help="one request a line; the whole line was dropped",
        )
    try:
        text = line.decode("utf-8")
    except UnicodeDecodeError as error:
        raise CommandError(
            f"not UTF-8: {error.reason} at octet {error.start}", code=Code.PARSE_ERROR
        ) from None
    if "\0" in text:
        raise CommandError(f"a NUL at character {text.index(chr(0))}", code=Code.PARSE_ERROR)
    return text.strip(" \t\r")


def decode(line: bytes) -> Request | Failure:
    """Read one line (JSON-RPC 2.0 section 4)."""
    try:
        value = _parse(text_of(line))
    except CommandError as error:
        return Failure(error)
    if not isinstance(value, dict):
        return _invalid("a batch is not accepted", help="send one request a line")
    call_id = value.get("id")
    if not _is_id(call_id):
        return _invalid("the id is neither text nor a 64-bit integer nor null")
    known = {"jsonrpc", "id", "method", "params"}
    if value.get("jsonrpc") != "2.0":
        return _invalid('"jsonrpc" is not "2.0"', call_id)
    if not isinstance(value.get("method"), str):
        return _invalid('"method" is not text', call_id)
    if extra := value.keys() - known:
        return _invalid(f"{min(extra)!r} is no member of a request", call_id)
    params = value.get("params", {})
    if not isinstance(params, dict):
        return Failure(
            CommandError(
                '"params" is not an object',
                code=Code.INVALID_PARAMS,
                help="parameters go by name, not by position",
            ),
            call_id,
        )
    return Request(value["method"], params, call_id, "id" not in value)


def _is_id(value: object) -> bool:
    if isinstance(value, int) and not isinstance(value, bool):
        return -_MAX_ID <= value < _MAX_ID
    return value is None or isinstance(value, str)


def _invalid(reason: str, call_id: Id = None, *, help: str = "") -> Failure:  # noqa: A002
    hint = help or '{"jsonrpc": "2.0", "id": 1, "method": "listener.list", "params": {}}'
    return Failure(CommandError(reason, code=Code.INVALID_REQUEST, help=hint), call_id)


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"the member {twice!r} is there twice")
    return members


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


# json rather than msgspec: msgspec keeps the last of two members of one name, in silence, and does
# not look into what it skips.
_decoder = json.JSONDecoder(object_pairs_hook=_unique, parse_constant=_no_constant)


def _parse(text: str) -> Any:
    try:
        value = _decoder.decode(text)
        if "\\u" in text:  # half a surrogate pair is no character, and could not be written back
            json.dumps(value, ensure_ascii=False).encode("utf-8")
    except json.JSONDecodeError as error:
        reason = f"not JSON: {error.msg} at character {error.pos}"
    except UnicodeEncodeError:
        reason = "not JSON: half a surrogate pair"
    except RecursionError:
        reason = "not JSON that could be read: it is nested too deeply"
    except ValueError as error:  # ours, and that of int() for thousands of digits
        reason = f"not JSON: {error}"
    else:
        return value
    raise CommandError(reason, code=Code.PARSE_ERROR)


_encoder = msgspec.json.Encoder()
_CONTROL = re.compile(rb"\x7f|\xc2[\x80-\x9f]")


def encoded(value: Any) -> bytes:
    """Return ``value`` as JSON in which every control character is escaped (RFC 8259 section 7).

    DEL and C1 controls need not be, but whoever shows a line on a terminal would be moved by them.
    """
    return escaped(_encoder.encode(value))


def escaped(octets: bytes) -> bytes:
    """Return JSON without the control characters that it may have."""
    if b"\x7f" in octets or b"\xc2" in octets:
        return _CONTROL.sub(lambda found: b"\\u%04x" % ord(found[0].decode()), octets)
    return octets


def result_line(call_id: Id, result: Mapping[str, Any] | msgspec.Raw) -> bytes:
    """Return the answer to a request that was carried out."""
    return encoded({"jsonrpc": "2.0", "id": call_id, "result": result}) + b"\n"


def error_line(call_id: Id, error: CommandError) -> bytes:
    """Return the answer to a request that was not carried out."""
    body: dict[str, Any] = {"code": int(error.code), "message": error.message}
    if error.help:
        body["data"] = {"help": error.help}
    return encoded({"jsonrpc": "2.0", "id": call_id, "error": body}) + b"\n"


def notification_line(method: str, params: Mapping[str, Any] | msgspec.Raw) -> bytes:
    """Return one item of a stream, as a notification from the daemon."""
    return encoded({"jsonrpc": "2.0", "method": method, "params": params}) + b"\n"


def request_line(call_id: Id, method: str, params: Mapping[str, Any]) -> bytes:
    """Return a request, as a client sends it."""
    call = {"jsonrpc": "2.0", "id": call_id, "method": method, "params": params}
    return encoded(call) + b"\n"
