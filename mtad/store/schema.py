"""The tables of ``mail.db``, which holds everything that was captured.

Workers insert, in groups, under one lock; so ids, which are given inside the transaction, grow in
the order of the commits: who has seen everything up to one has missed nothing. The archive deletes.
"""

from __future__ import annotations

APPLICATION_ID = 0x6D746164
"""``PRAGMA application_id``: the file is ours ("mtad")."""

TABLES = """
CREATE TABLE message (
    id INTEGER PRIMARY KEY,    -- nanoseconds since the epoch, at the commit (mtad.model.ids)
    session INTEGER NOT NULL,  -- session.key
    size INTEGER NOT NULL,     -- octets of the content
    sha256 BLOB NOT NULL,      -- of the content
    envelope BLOB NOT NULL,    -- JSON: mtad.model.envelope.Captured
    body BLOB,                 -- the content,
    file TEXT                  -- or the name of its file in bodies/
) STRICT;
CREATE INDEX large ON message (size) WHERE file IS NOT NULL;  -- the room that bodies/ takes
CREATE TABLE session (
    id INTEGER PRIMARY KEY,       -- of the same sequence as those of messages
    key INTEGER NOT NULL UNIQUE,  -- known from its beginning
    summary BLOB NOT NULL         -- JSON: mtad.model.envelope.SessionSummary
) STRICT;
CREATE TABLE transcript (
    session INTEGER NOT NULL,  -- session.key
    part INTEGER NOT NULL,     -- from 0
    entries BLOB NOT NULL,     -- MessagePack: [[microseconds since the beginning, who, what], ...]
    PRIMARY KEY (session, part)
) STRICT, WITHOUT ROWID;
CREATE TABLE state (
    name TEXT PRIMARY KEY,     -- floor: no id up to this one is given again
    value INTEGER NOT NULL
) STRICT, WITHOUT ROWID;
"""

NEWEST = """
SELECT max(
    ifnull((SELECT max(id) FROM message WHERE id <= :highest), 0),
    ifnull((SELECT max(id) FROM session WHERE id <= :highest), 0),
    ifnull((SELECT value FROM state WHERE name = 'floor' AND value <= :highest), 0)
)
"""
"""The newest id that was given; what is above ``mtad.model.ids.highest`` is nobody's."""

DELIVERIES = """
CREATE TABLE delivery (          -- what is to be sent, and what became of that
    message INTEGER NOT NULL,    -- message.id
    recipient INTEGER NOT NULL,  -- its place in the envelope, from 0; -1: the sender, of a bounce
    hop TEXT NOT NULL,           -- where to: host:port; '' until somebody says
    state TEXT NOT NULL,         -- mtad.store.deliveries.State
    tries INTEGER NOT NULL,      -- that were begun
    due INTEGER NOT NULL,        -- for the next one, in nanoseconds since the epoch
    said TEXT NOT NULL,          -- what the hop answered last, or what else is the matter
    changed INTEGER NOT NULL,    -- grows with each change of a state (state.changes); 0: none yet
    PRIMARY KEY (message, recipient)
) STRICT, WITHOUT ROWID;
CREATE INDEX due ON delivery (hop, due, message) WHERE state = 'waiting';
CREATE INDEX changed ON delivery (changed) WHERE changed > 0;
"""

MIGRATIONS = (TABLES, DELIVERIES)
"""The first makes version 1 of nothing, each that follows the next version."""

VERSION = len(MIGRATIONS)
"""The newest version; ``PRAGMA user_version`` is its number."""
