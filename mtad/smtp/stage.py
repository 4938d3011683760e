"""What can happen to a session besides commands and replies; and how it ends."""

from __future__ import annotations

from enum import StrEnum


class Stage(StrEnum):
    """A stage of a session, in the words of its transcript."""

    CONNECTED = "connected"
    PROXIED = "PROXY header"
    SECURED = "TLS established"
    BECAME = "XCLIENT"
    EARLY = "talked before the greeting"
    PIPELINED = "pipelined out of turn"
    IGNORED = "octets that are not looked at"
    RULE = "rule"

    # The end, in the words of SessionSummary.ended.
    QUIT = "quit"
    CLOSED = "client closed"
    RESET = "reset"
    TIMEOUT = "timeout"
    REFUSED = "refused"
    STOPPED = "listener stopped"
    CUT = "cut"
    NO_PROXY = "PROXY header refused"
    NO_TLS = "TLS failed"
    FAULT = "internal error"
    BROKEN_OFF = "broken off by a rule"


ENDS = frozenset(list(Stage)[list(Stage).index(Stage.QUIT) :])
"""The stages after which nothing more is taken."""
