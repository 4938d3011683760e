"""Transcripts as text, and the sessions they are of."""

from __future__ import annotations

from typing import Any

from harness.serving import Serving
from mtad.model.envelope import SessionSummary


async def ended(served: Serving, number: int = 1) -> SessionSummary:
    """Wait until so many sessions have ended, and return the summary of the last."""
    store = served.store
    await served.until(lambda: len(store.summaries) >= number)
    assert len(store.summaries) == number
    return store.summaries[-1]


def entries_of(served: Serving, key: int) -> list[Any]:
    """Return the entries of a session; its parts are whole, and in order."""
    parts = [(part, entries) for one, part, entries in served.store.transcripts if one == key]
    assert [part for part, _ in parts] == list(range(len(parts)))
    entries = [entry for _, part in parts for entry in part]
    times = [at for at, who, _ in entries if who != "C"]
    assert times == sorted(times)
    heard = [at for at, who, _ in entries if who == "C"]
    assert heard == sorted(heard)
    return entries


async def transcript(served: Serving, number: int = 1) -> list[str]:
    """Wait for the end of a session, and return its transcript: ``C EHLO x``, ``S 250 x``."""
    summary = await ended(served, number)
    return [f"{who} {_text(what)}" for _, who, what in entries_of(served, summary.key)]


def _text(what: Any) -> str:
    if isinstance(what, dict):
        assert sorted(what) == ["message", "octets"]
        return f"{what['octets']} octets{' of a message' if what['message'] else ''}"
    assert isinstance(what, bytes)
    return what.decode("latin-1").replace("\r\n", "\n").rstrip("\n")
