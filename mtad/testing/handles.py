"""What the asynchronous client gives out: messages and listeners, to be asked for more."""

from __future__ import annotations

from base64 import b64decode
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import msgspec

from mtad.errors import ExpectationError
from mtad.testing.model import Details, Summary

if TYPE_CHECKING:
    from mtad.testing.asynchronous import AsyncMtad

_PIECE_OCTETS = 2**20

__tracebackhide__ = True
"""See mtad.testing.asynchronous."""


@dataclass(frozen=True, kw_only=True)
class AsyncMessage(Summary):
    """A message; what a list does not have of it is asked for when it is wanted."""

    _mtad: AsyncMtad = field(repr=False, compare=False)

    async def raw(self) -> bytes:
        """Return the octets of the message as they were sent, after dot-unstuffing."""
        return await self._octets("message.raw")

    async def part(self, number: int) -> bytes:
        """Return the decoded content of the part ``number``."""
        return await self._octets("message.part", number=number)

    async def details(self) -> Details:
        """Return headers, parts, text and links."""
        return msgspec.convert(
            (await self._mtad.call("message.show", id=self.id))["message"], Details
        )

    async def link(self, number: int = 1) -> str:
        """Return the link ``number`` of the text or HTML, counted from 1."""
        return await self._extracted(link=number)

    async def code(self, regex: str) -> str:
        """Return what ``regex`` finds in subject or text: its first group, or the whole match."""
        return await self._extracted(code=regex)

    async def transcript(self) -> str:
        """Return what was said in the session that brought it, with times in seconds."""
        return await self._mtad.transcript(self)

    async def _octets(self, method: str, **params: Any) -> bytes:
        octets, offset = bytearray(), 0
        while offset is not None:
            piece = await self._mtad.call(
                method, id=self.id, offset=offset, length=_PIECE_OCTETS, **params
            )
            octets += b64decode(piece["octets"])
            offset = piece["next"]
        return bytes(octets)

    async def _extracted(self, **what: Any) -> str:
        value: str = (await self._mtad.call("message.extract", id=self.id, **what))["value"]
        return value


@dataclass(frozen=True)
class AsyncListener:
    """A listener, to be closed and opened as a test wants it."""

    _mtad: AsyncMtad = field(repr=False)
    name: str

    async def stop(self) -> None:
        """Close it: connections are refused from now on, and sessions are reset."""
        await self._mtad.call("listener.stop", selectors=[self.name], cut=True, wait=True)

    async def start(self) -> None:
        """Open it, where it was before.

        Raises:
            ExpectationError: it cannot be opened.
        """
        answer = await self._mtad.call("listener.start", selectors=[self.name])
        if not answer["ok"]:
            errors = [row["error"]["text"] for row in answer["listeners"] if row["error"]]
            raise ExpectationError("; ".join(errors))

    async def endpoint(self) -> tuple[str, int]:
        """Return the address and port of a TCP listener."""
        shown = (await self._mtad.call("listener.show", name=self.name))["listener"]
        host, _, port = (shown["bound"] or shown["endpoint"]).rpartition(":")
        return host.strip("[]"), int(port)


@dataclass(frozen=True)
class AsyncRule:
    """A fault rule that is there while the block runs."""

    _mtad: AsyncMtad = field(repr=False)
    name: str
    text: str

    async def __aenter__(self) -> AsyncRule:
        """Add it: whoever connects from now on meets it."""
        run = self._mtad.run or None
        await self._mtad.call("rule.add", name=self.name, text=self.text, for_run=run)
        return self

    async def __aexit__(self, *_: object) -> None:
        """Remove it, unless that has been done already."""
        if any(rule.name == self.name for rule in await self._mtad.rules()):
            await self._mtad.call("rule.remove", names=[self.name])

    async def fired(self) -> int:
        """Return how often it has acted."""
        fired: int = (await self._mtad.call("rule.show", name=self.name))["rule"]["fired"]
        return fired
