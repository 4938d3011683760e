"""What mtactl does about mail besides asking once, and showing the answer.

A function here carries out a command of mtad.cli.local. It returns a result to show, or None if all
is printed; with --json, ``as_json``, there is a result. It raises CommandError, UnavailableError.
"""

from __future__ import annotations

import hashlib
import json
import secrets
import sys
from array import array
from base64 import b64decode, b64encode
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from mtad.cli import exporting, importing
from mtad.cli.exporting import Exported
from mtad.cli.importing import Found
from mtad.control.client import ControlClient
from mtad.errors import CommandError
from mtad.model import ids

# A multiple of 3: pieces of base64 are put together.
_RAW_OCTETS = 786_432
# In base64, and the envelope with each quote escaped, they go into one line (mtad.control.wire).
_IMPORT_OCTETS = 32_768
_ENVELOPE_CHARACTERS = 8_192
_PAGE = 1_000

Params = dict[str, Any]
Result = dict[str, Any]
Carry = Callable[[ControlClient, Params, bool], Result | None]


# message raw, message part


def octets_of(method: str) -> Carry:
    """Return what prints the octets that ``method`` gives, piece by piece."""

    def carry_out(client: ControlClient, params: Params, as_json: bool) -> Result | None:
        output = params.pop("output", None)
        if output is None and as_json:
            return client.call(method, **params)
        pieces = _pieces(client, method, **params)
        if output is None:
            for piece in pieces:
                sys.stdout.buffer.write(piece)
            return None
        with _told(Path(output)), exporting.new_file(Path(output)) as file:
            return {"file": output, "octets": sum(map(file.write, pieces))}

    return carry_out


def _pieces(
    client: ControlClient, method: str, offset: int = 0, length: int | None = None, **params: Any
) -> Iterator[bytes]:
    at: int | None = offset
    while at is not None and (length is None or at < offset + length):
        most = _RAW_OCTETS if length is None else min(_RAW_OCTETS, offset + length - at)
        answer = client.call(method, **params, offset=at, length=most)
        yield b64decode(answer["octets"])
        params["id"], at = answer["id"], answer["next"]  # latest may be another one now


# message export


def export(client: ControlClient, params: Params, _: bool) -> Result:
    """Write what matches to files."""
    path, form = Path(params.pop("path")), params.pop("format")
    if path.name == "-":  # the path is absolute by now
        raise CommandError(
            "message export writes files, not to the standard output",
            help="name a file; message raw prints a message, --json message list all of them",
        )
    count = 0
    with _told(path), exporting.FORMATS[form](path) as write:
        for number in reversed(_matching(client, params)):
            message = _fetched(client, ids.encode(number), with_summary=form == "jsonl")
            if message is not None:
                write(message)
                count += 1
    return {"exported": count}


def _matching(client: ControlClient, which: Params) -> array[int]:
    """Return the ids of the messages that match, the newest first; eight octets for each."""
    found = array("q")
    query, more = which.pop("query", ""), True
    while more:
        older = f"before:{ids.encode(found[-1])}" if found else ""
        both = f"({query}) {older}" if query and older else query or older
        page = client.call("message.list", **which, query=both, limit=_PAGE)
        found.extend(ids.decode(row["id"]) for row in page["messages"])
        more = page["more"] and bool(page["messages"])
    return found


def _fetched(client: ControlClient, which: str, *, with_summary: bool) -> Exported | None:
    """Return the message ``which``; None if it has been deleted meanwhile."""
    try:
        first = client.call("message.raw", id=which, length=_RAW_OCTETS)
    except CommandError:
        if client.call("message.count", query=f"id:{which}")["count"]:
            raise
        return None
    rows = client.call("message.list", query=f"id:{which}")["messages"] if with_summary else [{}]
    envelope = json.loads(first["envelope"])
    return Exported(which, envelope, rows[0] if rows else {}, _verified(client, first))


def _verified(client: ControlClient, first: Result) -> Iterator[bytes]:
    """Yield the octets of a message. Raises CommandError: they are not those that came."""
    sha256 = hashlib.sha256()
    for octets in _first_and_rest(client, first):
        sha256.update(octets)
        yield octets
    if sha256.hexdigest() != first["sha256"]:
        raise CommandError(
            f"the content of message {first['id']} has changed: its sha256 is "
            f"{sha256.hexdigest()}, and was {first['sha256']}",
            help="store check looks at all of them",
        )


def _first_and_rest(client: ControlClient, first: Result) -> Iterator[bytes]:
    yield b64decode(first["octets"])
    if first["next"] is not None:
        yield from _pieces(client, "message.raw", offset=first["next"], id=first["id"])


# message import


def import_(client: ControlClient, params: Params, _: bool) -> Result:
    """Have the messages of files kept."""
    count = 0
    try:
        for path in map(Path, params["files"]):
            with _told(path):
                for number, found in enumerate(importing.messages(path, params.get("format")), 1):
                    with _of_message(path, number):
                        _upload(client, found)
                    count += 1
    except CommandError as error:
        reason = f"{error.message} ({count} are imported)"
        raise CommandError(reason, code=error.code, help=error.help) from None
    return {"imported": count}


@contextmanager
def _of_message(path: Path, number: int) -> Iterator[None]:
    """Have errors say which message of a file they are about."""
    try:
        yield
    except CommandError as error:
        reason = f"{path}: message {number}: {error.message}"
        raise CommandError(reason, code=error.code, help=error.help) from None


def _upload(client: ControlClient, found: Found) -> None:
    name = secrets.token_hex(16)
    envelope = json.dumps(found.envelope) if found.envelope else ""
    chunks = _chunks(found.pieces)
    chunk = next(chunks, b"")
    last = False
    while not last:
        piece, envelope = envelope[:_ENVELOPE_CHARACTERS], envelope[_ENVELOPE_CHARACTERS:]
        following = next(chunks, None)
        last = following is None and not envelope
        call = {"upload": name, "octets": b64encode(chunk).decode(), "last": last}
        client.call("message.import", **call, name=found.source, envelope=piece)
        chunk = following or b""


def _chunks(pieces: Iterator[bytes]) -> Iterator[bytes]:
    """Yield what is in ``pieces`` in chunks that go into a line; no more than one is held."""
    rest = bytearray()
    for piece in pieces:
        rest += piece
        while len(rest) >= _IMPORT_OCTETS:
            yield bytes(rest[:_IMPORT_OCTETS])
            del rest[:_IMPORT_OCTETS]
    if rest:
        yield bytes(rest)


@contextmanager
def _told(path: Path) -> Iterator[None]:
    """Have the errors of files as such, with their reason; but a reader that is gone is not one."""
    try:
        yield
    except (BrokenPipeError, ConnectionError):
        raise
    except OSError as error:
        raise CommandError(
            f"{error.filename or path}: {error.strerror or error}",
            help="check the path, its owner and the free space",
        ) from error
