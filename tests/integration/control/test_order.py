"""Whatever is sent, every request with an id is answered once, and in the order of the requests."""

from __future__ import annotations

import asyncio
import json
import tempfile
from pathlib import Path
from typing import Any

import uvloop
from harness.control_attacks import MALFORMED
from harness.control_daemon import Switches
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mtad.control.grammar import Role
from mtad.control.server import ControlServer, Limits
from mtad.control.socket import ControlSocket

_METHODS: list[tuple[str, dict[str, Any]]] = [
    ("pid", {}),  # answered in line
    ("ready", {}),  # answered by a task
    ("ready", {"wait": 0.001}),
    ("nosuch", {}),
    ("listener.stop", {}),  # refused: it names no listener
    ("log.reopen", {}),  # fails inside
]
# Refused before they are understood as requests: each has one answer, some under the id 1.
_BROKEN = [line for line, _ in MALFORMED.values() if len(line) < 1_000]

_requests = st.builds(
    lambda method, call_id: {
        "jsonrpc": "2.0",
        "method": method[0],
        "params": method[1],
        **({} if call_id is None else {"id": call_id}),
    },
    st.sampled_from(_METHODS),
    st.none() | st.integers(1_000, 9_999) | st.text(min_size=2, max_size=5),
)
_lines = st.lists(
    st.one_of(
        _requests.map(lambda request: json.dumps(request).encode()),
        st.sampled_from([*_BROKEN, b"", b" ", b"{" + b"x" * 70_000]),
    ),
    max_size=30,
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(_lines, st.lists(st.integers(1, 200), max_size=40), st.booleans(), st.sampled_from([0, 1]))
def test_every_request_is_answered_once_and_in_order(
    lines: list[bytes], cuts: list[int], ended: bool, turn: float
) -> None:
    """``turn`` 0 has every line wait for a turn of its own."""
    data = b"\n".join(lines) + (b"\n" if ended else b"")
    received = uvloop.run(_exchange(data, cuts, Limits(turn=turn)))
    assert [answer["id"] for answer in received] == [
        _expected_id(line) for line in lines if _is_answered(line)
    ]
    for answer in received:
        assert ("result" in answer) != ("error" in answer)


def _is_answered(line: bytes) -> bool:
    return bool(line.strip()) and (line in _BROKEN or b'"id"' in line or b"xxx" in line)


def _expected_id(line: bytes) -> Any:
    """A broken line has the id 1 where it can be read at all; others have their own."""
    try:
        call_id = json.loads(line)["id"]
    except (ValueError, LookupError, TypeError):
        return None
    unread = {"a member twice", "NaN", "half a surrogate pair", "an id too large"}
    unread |= {"an id that is an object"}
    return None if line in [MALFORMED[what][0] for what in unread] else call_id


async def _exchange(data: bytes, cuts: list[int], limits: Limits) -> list[dict[str, Any]]:
    """Return the answers to ``data``, sent in pieces of the sizes ``cuts`` and then the rest."""
    switches = Switches()
    server = ControlServer(
        switches.handlers(), lambda _: frozenset(Role), switches.relay, limits=limits
    )
    with tempfile.TemporaryDirectory() as place:
        path = Path(place) / "control.sock"
        with ControlSocket(path) as control:
            await server.start(control)
            reader, writer = await asyncio.open_unix_connection(path, limit=2**20)
            for cut in cuts:
                writer.write(data[:cut])
                data = data[cut:]
                await asyncio.sleep(0)
            writer.write(data)
            writer.write_eof()
            received = await asyncio.wait_for(reader.read(), 20)
            writer.close()
            await server.close()
    return [json.loads(line) for line in received.splitlines()]
