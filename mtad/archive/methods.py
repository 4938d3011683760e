"""What the archive answers: each method of the table of commands that is relayed to it.

A room that answers something has a table METHODS of its own; they are put together here.
"""

from __future__ import annotations

from collections.abc import Mapping

from mtad.archive import deleting, listing, messages, sessions, statistics, upkeep, waiting
from mtad.archive.archive import Archive, Method, Params, Result
from mtad.archive.outgoing import releasing
from mtad.model import ids
from mtad.store.reader import newest


async def message_cursor(archive: Archive, _: Params) -> Result:
    """Answer the newest id that is committed."""
    return {"cursor": ids.encode(await archive.mail(newest))}


METHODS: Mapping[str, Method] = {
    "message.cursor": message_cursor,
    **deleting.METHODS,
    **listing.METHODS,
    **messages.METHODS,
    **releasing.METHODS,
    **sessions.METHODS,
    **statistics.METHODS,
    **upkeep.METHODS,
    **waiting.METHODS,
}
