"""Dialogues as files: read, and run against a server (tests/dialogues/README.md)."""

from __future__ import annotations

import asyncio
import re
import ssl
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

Step = tuple[str, Any]
"""A kind ("send", "expect", "rest", "tls" or "end") and octets or a pattern, if it has any."""

_ESCAPE = re.compile(r"\\(x[0-9a-f]{2}|[rn0\\])")
_ESCAPES = {"r": "\r", "n": "\n", "0": "\0", "\\": "\\"}
_REPEATED = re.compile(r"\{(.+?)\*([0-9]+)\}")
# A greeting, and the reply to EHLO, have no status (RFC 2034 section 4).
_BARE = re.compile(r"2[25]0[ -]mx\.example|3")
_STATUS = re.compile(r"([245])\.[0-9]{1,3}\.[0-9]{1,3} ")
_PATIENCE = 10.0


@dataclass
class Dialogue:
    """One dialogue of a file."""

    file: str
    title: str
    profile: dict[str, Any] = field(default_factory=dict)
    protocol: str = "smtp"
    over: tuple[str, ...] = ("plain", "tls")
    ways: tuple[str, ...] = ("lines", "octets", "whole")
    header: bytes = b""
    greeting: str = "220 mx.example ESMTP mtad"
    steps: list[Step] = field(default_factory=list)
    kept: list[bytes] = field(default_factory=list)

    @property
    def octets(self) -> bytes:
        """All that the client says."""
        return b"".join(what for kind, what in self.steps if kind == "send")

    def add(self, line: str) -> None:
        """Take one line of the file."""
        kind, _, text = line.partition(":")
        _LINES[kind](self, text.removeprefix(" "))

    def _speak_lmtp(self, protocol: str) -> None:
        self.protocol, self.over = protocol, ("plain",)
        self.greeting = "220 mx.example LMTP mtad"

    def _say_hello(self, _: str) -> None:
        verb = b"LHLO" if self.protocol == "lmtp" else b"EHLO"
        self.steps.append(("send", verb + b" client.example\r\n"))
        self.steps += [("expect", "250-mx.example"), ("rest", "")]

    def _shake_hands(self, _: str) -> None:
        self.steps.append(("tls", ""))
        self.over = ("plain",)
        self.ways = tuple(way for way in self.ways if way != "whole")

    def _expect(self, text: str) -> None:
        self.steps.append(("rest", "") if text == "..." else ("expect", text))


_LINES: dict[str, Callable[[Dialogue, str], None]] = {
    "profile": lambda dialogue, text: setattr(dialogue, "profile", yaml.safe_load(text)),
    "protocol": Dialogue._speak_lmtp,
    "over": lambda dialogue, text: setattr(dialogue, "over", (text,)),
    "only": lambda dialogue, text: setattr(dialogue, "ways", (text,)),
    "header": lambda dialogue, text: setattr(dialogue, "header", _octets(text)),
    "greeting": lambda dialogue, text: setattr(dialogue, "greeting", text),
    "hello": Dialogue._say_hello,
    "C": lambda dialogue, text: dialogue.steps.append(("send", _octets(text) + b"\r\n")),
    "c": lambda dialogue, text: dialogue.steps.append(("send", _octets(text))),
    "S": Dialogue._expect,
    "TLS": Dialogue._shake_hands,
    "end": lambda dialogue, _: dialogue.steps.append(("end", "")),
    "K": lambda dialogue, text: dialogue.kept.append(_octets(text)),
}


def read(folder: Path) -> Iterator[Dialogue]:
    """Yield the dialogues of all files in ``folder``."""
    for path in sorted(folder.glob("*.txt")):
        dialogue: Dialogue | None = None
        for line in path.read_text().splitlines():
            if line.startswith("== "):
                if dialogue is not None:
                    yield dialogue
                dialogue = Dialogue(path.stem, line[3:])
            elif line and not line.startswith("#"):
                assert dialogue is not None, f"{path}: {line}"
                dialogue.add(line)
        if dialogue is not None:
            yield dialogue


class Runner:
    """The client of one dialogue; ``how`` is "lines", "octets" or "whole"."""

    def __init__(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, how: str, enhanced: bool
    ) -> None:
        self._reader, self._writer = reader, writer
        self._how = how
        self._enhanced = enhanced
        self._reply: list[str] = []  # the lines so far of a reply that is not complete
        self._line: str | None = None  # read, but not yet matched

    async def run(self, dialogue: Dialogue, tls: ssl.SSLContext) -> None:
        """Say everything, and compare every line."""
        steps: list[Step] = [("expect", dialogue.greeting), *dialogue.steps]
        if steps[-1][0] != "end":
            bye = "221 2.0.0 Bye" if self._enhanced else "221 Bye"
            steps += [("send", b"QUIT\r\n"), ("expect", bye), ("end", "")]
        if self._how == "whole":
            self._writer.write(b"".join(what for kind, what in steps if kind == "send"))
        async with asyncio.timeout(_PATIENCE):
            for kind, what in steps:
                await self._take(kind, what, tls)

    async def _take(self, kind: str, what: Any, tls: ssl.SSLContext) -> None:
        match kind:
            case "send" if self._how == "lines":
                self._writer.write(what)
            case "send" if self._how == "octets":
                for octet in what:
                    self._writer.write(bytes((octet,)))
                    await asyncio.sleep(0)
            case "expect":
                line = await self._next()
                pattern = ".*".join(map(re.escape, what.split("*")))
                assert re.fullmatch(pattern, line), f"{line!r} is not {what!r}"
                self._line = None
            case "rest":
                while self._reply:
                    await self._next()
                    self._line = None
            case "tls":
                await self._writer.start_tls(tls, server_hostname="mx.example")
            case "end":
                assert await self._reader.read(-1) == b""
                self._writer.close()

    async def _next(self) -> str:
        """Return the next line, whose form is right."""
        if self._line is None:
            octets = await self._reader.readline()
            assert octets.endswith(b"\r\n"), f"the connection has ended after {octets!r}"
            assert len(octets) <= 512
            line = self._line = octets[:-2].decode()
            assert line.isprintable()
            self._reply.append(line)
            if line[3] == " ":
                self._check_reply()
                self._reply.clear()
            else:
                assert line[3] == "-", line
        return self._line

    def _check_reply(self) -> None:
        """One code, and a status of its class on every line, or none at all."""
        assert len({line[:3] for line in self._reply}) == 1, self._reply
        bare = _BARE.match(self._reply[0])
        for line in self._reply:
            status = _STATUS.match(line[4:])
            if bare or not self._enhanced:
                assert status is None, line
            else:
                assert status is not None, line
                assert status[1] == line[0], line


def _octets(text: str) -> bytes:
    text = _REPEATED.sub(lambda repeated: repeated[1] * int(repeated[2]), text)
    pieces: list[bytes] = []
    at = 0
    for escape in _ESCAPE.finditer(text):
        pieces.append(text[at : escape.start()].encode())
        one = escape[1]
        pieces.append(bytes.fromhex(one[1:]) if one[0] == "x" else _ESCAPES[one].encode())
        at = escape.end()
    return b"".join([*pieces, text[at:].encode()])
