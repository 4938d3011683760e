"""Every dialogue of this folder: line by line, octet by octet, all at once; in the clear, in TLS.

README.md describes the files.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest
from harness.dialogues import Dialogue, Runner, read
from harness.serving import LOOPBACK, Serving
from harness.tls_peers import client_context, key_pair

from mtad.config.profiles import Profile
from mtad.model.listener import Protocol
from mtad.model.profile import KeyPair

_OCTETS_AT_MOST = 3_000  # sent one by one


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> KeyPair:
    return key_pair(tmp_path_factory.mktemp("tls"), "mx.example")


def cases() -> Iterator[object]:
    for dialogue in read(Path(__file__).parent):
        for over in dialogue.over:
            for how in dialogue.ways:
                if how == "octets" and len(dialogue.octets) > _OCTETS_AT_MOST:
                    continue
                name = f"{dialogue.file}: {dialogue.title} ({how}, {over})"
                yield pytest.param(dialogue, over, how, id=name)


@pytest.mark.parametrize(("dialogue", "over", "how"), list(cases()))
async def test_dialogue(dialogue: Dialogue, over: str, how: str, certificate: KeyPair) -> None:
    profile = Profile.model_validate({"hostname": "mx.example", **dialogue.profile})
    protocol = Protocol.SMTPS if over == "tls" else Protocol(dialogue.protocol)
    served = Serving(LOOPBACK, protocol, profile.value(certificate))
    context = client_context()
    try:
        sock = socket.socket()
        sock.setblocking(False)
        loop = asyncio.get_running_loop()
        await loop.sock_connect(sock, served.listening.getsockname())
        await loop.sock_sendall(sock, dialogue.header)
        reader, writer = await asyncio.open_connection(
            sock=sock,
            ssl=context if over == "tls" else None,
            server_hostname="mx.example" if over == "tls" else None,
            limit=1 << 20,
        )
        runner = Runner(reader, writer, how, enhanced=served_enhanced(profile))
        await runner.run(dialogue, context)
        await served.until(lambda: served.counts.active == 0)
        assert served.store.contents == dialogue.kept
    finally:
        await served.close()


def served_enhanced(profile: Profile) -> bool:
    return "ENHANCEDSTATUSCODES" not in profile.extensions
