r"""What is known of a message or a session as JSON, and back, octet for octet.

A client's octets that are no UTF-8 are surrogates in our text (PEP 383). UTF-8 has none: in the
JSON they are written with a backslash, ``\udcff``, which RFC 8259 section 8.2 allows.
"""

from __future__ import annotations

import json
from typing import TypeVar

import msgspec

from mtad.model.envelope import Captured, SessionSummary

Known = TypeVar("Known", Captured, SessionSummary)

_encode = msgspec.json.Encoder().encode


def encode(known: Captured | SessionSummary) -> bytes:
    """Return the JSON of ``known``."""
    try:
        return _encode(known)
    except UnicodeEncodeError:
        return json.dumps(msgspec.to_builtins(known)).encode()


def decode(octets: bytes, kind: type[Known]) -> Known:
    """Return what ``encode`` had. Raises ValueError for anything else."""
    try:
        try:
            return msgspec.json.decode(octets, type=kind)
        except msgspec.DecodeError:  # of surrogates, too
            return msgspec.convert(json.loads(octets), kind, strict=False)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
