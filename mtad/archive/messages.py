"""One message: shown, given octet by octet, and what is looked for in it."""

from __future__ import annotations

import sqlite3
from base64 import b64decode, b64encode
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

from mtad.archive import content, matching
from mtad.archive.archive import Archive, Method, Params, Result
from mtad.archive.decoding import Octets
from mtad.archive.headers import OCTETS, extract
from mtad.archive.mime import Part, structure_of
from mtad.archive.search import Search, wanted
from mtad.archive.stored import content_of, find
from mtad.archive.summaries import summary
from mtad.control.wire import Code
from mtad.errors import CommandError
from mtad.model import ids
from mtad.store import deliveries, envelopes
from mtad.store.deliveries import SENDER, Delivery, State
from mtad.store.reader import Kept

PIECE_OCTETS = 1_048_576
"""An answer has at most so many of a content."""

READERS = 16
"""Of so many parts the place is remembered up to which they have been read."""

T = TypeVar("T")


async def _of_message(archive: Archive, which: str, work: Callable[[Kept, Octets], T]) -> T:
    """Return what ``work`` makes of a message and its content, in a thread."""

    def read(mail: sqlite3.Connection) -> T:
        kept = find(mail, which)
        with content_of(archive.directory, kept) as octets:
            return work(kept, octets)

    return await archive.mail(read)


async def message_show(archive: Archive, params: Params) -> Result:
    """Answer with all there is to a message, decoded for people."""

    def read(mail: sqlite3.Connection) -> dict[str, Any]:
        kept = find(mail, params["id"])
        with content_of(archive.directory, kept) as octets:
            return _shown(kept, octets, deliveries.of_message(mail, kept.id))

    return {"message": await archive.mail(read)}


def _shown(kept: Kept, octets: Octets, sent: Sequence[Delivery]) -> dict[str, Any]:
    structure = structure_of(octets)
    reading = content.read(octets, structure)
    cut = {"headers": structure.fields_cut, "parts": structure.parts_cut, "text": reading.cut}
    return {
        **summary(kept, extract(octets[:OCTETS], len(octets)), sorted({one.state for one in sent})),
        "sender_options": kept.envelope.sender_options,
        "recipient_options": kept.envelope.recipient_options,
        "terminator": kept.envelope.terminator,
        "deliveries": [_delivery(kept, one) for one in sent],
        "headers": content.header(structure.fields),
        "parts": [_described(octets, part) for part in structure.parts],
        "text": reading.text,
        "links": reading.links,
        "cut": [name for name, is_cut in cut.items() if is_cut],
    }


def _delivery(kept: Kept, one: Delivery) -> dict[str, Any]:
    is_bounce = one.recipient == SENDER
    recipients = kept.envelope.recipients[one.recipient :][:1]
    return {
        "recipient": kept.envelope.sender if is_bounce else "".join(recipients),
        "kind": "bounce" if is_bounce else "forward",
        "hop": one.hop or None,
        "state": one.state,
        "tries": one.tries,
        "due": one.due / 1e9 if one.state == State.WAITING else None,
        "said": one.said,
    }


def _described(octets: Octets, part: Part) -> dict[str, Any]:
    return {
        "number": part.number,
        "type": part.type,
        "charset": part.charset or None,
        "disposition": part.disposition or None,
        "name": part.name or None,
        "size": content.size(octets, part),
    }


async def message_raw(archive: Archive, params: Params) -> Result:
    """Answer with octets of a message as they came, and at the first with its envelope."""
    offset, length = params["offset"], min(params["length"], PIECE_OCTETS)

    def piece(kept: Kept, octets: Octets) -> Result:
        answer = _piece(kept, octets[offset : offset + length], offset, kept.size)
        # JSON inside JSON: a client's octets that are no UTF-8 come through (mtad.store.envelopes).
        envelope = None if offset else envelopes.encode(kept.envelope).decode()
        return {**answer, "sha256": kept.sha256.hex(), "envelope": envelope}

    return await _of_message(archive, params["id"], piece)


async def message_part(archive: Archive, params: Params) -> Result:
    """Answer with octets of the decoded content of a part."""
    number, offset = params["number"], params["offset"]
    length = min(params["length"], PIECE_OCTETS)

    def piece(kept: Kept, octets: Octets) -> Result:
        reader = archive.readers.pop((kept.id, number), None)
        if reader is None or reader.offset != offset:
            reader = content.PartReader(octets, _part(kept, octets, number))
            reader.skip(octets, offset)
        answer = _piece(kept, reader.read(octets, length), offset, reader.size)
        if answer["next"] is not None:
            archive.readers[kept.id, number] = reader
        return answer

    answer = await _of_message(archive, params["id"], piece)
    while len(archive.readers) > READERS:
        archive.readers.pop(next(iter(archive.readers)))
    return answer


def _part(kept: Kept, octets: Octets, number: int) -> Part:
    parts = structure_of(octets).parts
    if number > len(parts):
        raise CommandError(
            f"message {ids.encode(kept.id)} has no part {number} (it has {len(parts)})",
            help="message show lists them",
        )
    return parts[number - 1]


def _piece(kept: Kept, octets: bytes, offset: int, size: int) -> Result:
    end = offset + len(octets)
    return {
        "id": ids.encode(kept.id),
        "size": size,
        "offset": offset,
        "octets": b64encode(octets).decode(),
        "next": end if octets and end < size else None,
    }


async def message_extract(archive: Archive, params: Params) -> Result:
    """Answer with a link, or what a regular expression finds."""
    which = params["id"] or await _newest(archive, params)

    def read(kept: Kept, octets: Octets) -> tuple[str, str, content.Reading]:
        subject = extract(octets[:OCTETS], len(octets)).subject
        return ids.encode(kept.id), subject, content.read(octets, structure_of(octets))

    found, subject, reading = await _of_message(archive, which, read)
    if (number := params["link"]) is not None:
        value = reading.links[number - 1] if number <= len(reading.links) else None
        sought = f"link {number} (it has {len(reading.links)})"
    else:
        value = await matching.first_match(params["code"], [subject, reading.text])
        sought = f"match of {params['code']!r}"
    if value is None:
        raise CommandError(f"message {found} has no {sought}", help="message show has its text")
    return {"id": found, "value": value}


async def _newest(archive: Archive, params: Params) -> str:
    """Return the id of the newest message that a query matches."""
    search = Search(wanted(params["query"], params["run"]))
    await archive.progress.current()
    numbers = await archive.index.read(lambda index: search.newest(index, 1))
    if not numbers:
        raise CommandError("no message matches", help="message wait waits for one")
    return ids.encode(numbers[0])


async def message_import(archive: Archive, params: Params) -> Result:
    """Take a piece of a message; answer, with the last, the id under which it is kept."""
    name = params["upload"]
    try:
        octets = b64decode(params["octets"], validate=True)
    except ValueError as error:
        raise CommandError(f"octets is no base64: {error}", code=Code.INVALID_PARAMS) from None
    archive.uploads.add(name, octets, params["envelope"] or "")
    kept = await archive.uploads.keep(name, params["name"] or "") if params["last"] else None
    return {"id": kept}


METHODS: Mapping[str, Method] = {
    "message.show": message_show,
    "message.raw": message_raw,
    "message.part": message_part,
    "message.extract": message_extract,
    "message.import": message_import,
}
