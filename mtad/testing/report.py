"""What the report of a failed test says of the mail that it sent, or tried to."""

from __future__ import annotations

import time
from collections.abc import Iterator

from mtad.errors import MtadError
from mtad.testing.asynchronous import KEPT_SECONDS
from mtad.testing.daemon import Daemon
from mtad.testing.synchronous import Mtad

_MOST_SESSIONS = 10
_LOG_LINES = 20


def sections(daemon: Daemon, client: Mtad, since: float) -> list[tuple[str, str]]:
    """Return titles and texts: the last sessions that began after ``since``, the end of the log."""
    return [*_transcripts(client, since), ("mtad: log", daemon.log_tail(_LOG_LINES))]


def _transcripts(client: Mtad, since: float) -> Iterator[tuple[str, str]]:
    time.sleep(KEPT_SECONDS)  # the last one may have ended just now
    try:
        sessions = [session for session in client.sessions() if session.began >= since]
        if not sessions:
            yield "mtad", "no session has ended since the test began"
        if len(sessions) > _MOST_SESSIONS:
            yield "mtad", f"{len(sessions)} sessions; these are the last {_MOST_SESSIONS}"
        for session in sessions[-_MOST_SESSIONS:]:
            title = f"mtad: session {session.id} at {session.listener}, {session.ended}"
            yield title, client.transcript(session)
    except MtadError as error:  # the test has failed already, and this must not hide why
        yield "mtad", f"no transcripts: {error}"
