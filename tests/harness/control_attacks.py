"""Attacks on a control socket. Each takes its path, asserts a clear answer, and leaves it serving.

The caller has both roles, unless an attack says otherwise. ``assert_serves`` is the other half of
each of them: whatever was done, the next client is served.
"""

from __future__ import annotations

import contextlib
import json
import random
import resource
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from mtad.control.peer import caller_of
from mtad.control.wire import LINE_LIMIT

NOBODY = 65_534
PATIENCE = 20.0
"""Seconds after which a test gives up on an answer."""

# Who is sent away may notice while it writes; why, is there to be read.
_SENT_AWAY = (BrokenPipeError, ConnectionResetError)
_PID = b'{"jsonrpc":"2.0","id":7,"method":"pid"}\n'
_MORE_MEMORY = 8 * 2**20
"""Octets by which the daemon may grow meanwhile: far less than any attack here sends."""


def connect(path: Path) -> socket.socket:
    """Return a connection; every wait on it is bounded."""
    client = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    client.settimeout(PATIENCE)
    client.connect(str(path))
    return client


def read_all(client: socket.socket) -> bytes:
    """Return what comes until the end of the connection."""
    chunks = []
    with contextlib.suppress(ConnectionResetError):  # it was closed with something of ours unread
        while chunk := client.recv(65_536):
            chunks.append(chunk)
    return b"".join(chunks)


def exchange(path: Path, data: bytes) -> bytes:
    """Return all answers to ``data``, which ends the client's side."""
    with closing(connect(path)) as client:
        with contextlib.suppress(*_SENT_AWAY):
            client.sendall(data)
            client.shutdown(socket.SHUT_WR)
        return read_all(client)


def answers(data: bytes) -> list[dict[str, Any]]:
    """Return lines of JSON as values."""
    return [json.loads(line) for line in data.splitlines()]


def assert_serves(path: Path) -> None:
    """Assert that a new client is served."""
    (answer,) = answers(exchange(path, _PID))
    assert answer["id"] == 7, answer
    assert answer["result"]["pid"] > 0


def process_of(path: Path) -> Path:
    """Return the place in /proc of the process that listens at ``path``."""
    with closing(connect(path)) as client:
        return Path("/proc") / str(caller_of(client).pid)


@contextmanager
def bounded_memory(path: Path) -> Iterator[None]:
    """Assert that the daemon's resident set never grows by more than it may, and that it serves.

    The kernel keeps the peak, and begins a new one when it is told to (proc(5), clear_refs).
    """
    process = process_of(path)
    (process / "clear_refs").write_text("5")
    before = _peak(process)
    yield
    assert _peak(process) - before < _MORE_MEMORY
    assert_serves(path)


def _peak(process: Path) -> int:
    status = (process / "status").read_text()
    line = next(line for line in status.splitlines() if line.startswith("VmHWM"))
    return int(line.split()[1]) * 1024


def another_uid(path: Path) -> None:
    """Connect as a uid without a role, which the mode of the socket lets in."""
    program = (
        "import socket, sys\n"
        "client = socket.socket(socket.AF_UNIX)\n"
        f"client.settimeout({PATIENCE})\n"
        "client.connect(sys.argv[1])\n"
        "try:\n"
        "    client.sendall(b'listener stop --all\\n')\n"
        "except BrokenPipeError:\n"
        "    pass\n"
        "while data := client.recv(65536):\n"
        "    sys.stdout.buffer.write(data)\n"
    )
    identity = ["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups"]
    done = subprocess.run(
        [*identity, sys.executable, "-I", "-c", program, str(path)],
        capture_output=True,
        timeout=PATIENCE,
        check=False,
    )
    assert done.returncode == 0, done.stderr.decode()
    (answer,) = answers(done.stdout)
    assert answer["error"]["code"] == -32001
    assert str(NOBODY) in answer["error"]["message"]
    assert "control.operate" in answer["error"]["data"]["help"]
    assert_serves(path)


def endless_line(path: Path, octets: int = 10_000_000) -> None:
    """Send a line of ``octets``, and a request behind it on the same connection."""
    with bounded_memory(path):
        received = exchange(path, b'{"x": "' + b"x" * octets + b'"}\n' + _PID)
        first, second = answers(received)
        assert first["error"]["code"] == -32700
        assert str(LINE_LIMIT) in first["error"]["message"]
        assert second["result"]["pid"] > 0


def silence(path: Path, timeout: float) -> None:
    """Send half a line and wait; ``timeout`` is what the daemon allows a line, in seconds."""
    with closing(connect(path)) as client:
        client.sendall(b'{"jsonrpc"')
        began = time.monotonic()
        (answer,) = answers(read_all(client))
        assert timeout * 0.9 <= time.monotonic() - began < timeout * 2 + 3
        assert answer["error"]["code"] == -32700
        assert "has not ended" in answer["error"]["message"]
    assert_serves(path)


def drip(path: Path, timeout: float) -> None:
    """Send a line octet by octet: none of them is a reason to wait longer for its end."""
    with closing(connect(path)) as client:
        client.settimeout(timeout / 20)
        deadline = time.monotonic() + timeout * 2 + 3
        received = b""
        while not received:
            assert time.monotonic() < deadline
            try:
                client.sendall(b"x")
                received = client.recv(65_536)
            except TimeoutError:
                continue
        assert b"has not ended" in received
    assert_serves(path)


def crowd(path: Path, number: int = 1_000) -> tuple[int, int]:
    """Hold ``number`` connections at once; return how many were served, and how many told "busy".

    Every one gets a clear answer.
    """
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    clients = [connect(path) for _ in range(number)]
    served = busy = 0
    for client in clients:
        with contextlib.suppress(*_SENT_AWAY):
            client.sendall(_PID)
        line = client.makefile("rb").readline()
        answer = json.loads(line)
        if "result" in answer:
            served += 1
        else:
            assert answer["error"]["code"] == -32002, answer
            busy += 1
    for client in clients:
        client.close()
    deadline = time.monotonic() + PATIENCE
    while b'"result"' not in exchange(path, _PID):  # it has yet to hear that they are gone
        assert time.monotonic() < deadline
    return served, busy


def noise(path: Path, seed: int, octets: int = 200_000) -> None:
    """Send random octets, then a request: it is answered all the same."""
    data = random.Random(seed).randbytes(octets)
    with bounded_memory(path):
        received = exchange(path, data + b"\n" + _PID)
        assert answers(received.splitlines()[-1])[0]["result"]["pid"] > 0


MALFORMED: dict[str, tuple[bytes, int]] = {
    "deep": (b"[" * 60_000, -32700),
    "deep in a request": (
        b'{"jsonrpc":"2.0","id":1,"method":"pid","params":' + b"[" * 60_000,
        -32700,
    ),
    "not closed": (b'{"jsonrpc":"2.0"', -32700),
    "a batch": (b'[{"jsonrpc":"2.0","id":1,"method":"pid"}]', -32600),
    "a member twice": (b'{"jsonrpc":"2.0","id":1,"method":"pid","method":"shutdown"}', -32700),
    "NaN": (b'{"jsonrpc":"2.0","id":1,"method":"ready","params":{"wait":NaN}}', -32700),
    "not UTF-8": (b'{"jsonrpc":"2.0","id":"\xff","method":"pid"}', -32700),
    "a NUL": (b'{"jsonrpc":"2.0","id":"\0","method":"pid"}', -32700),
    "half a surrogate pair": (b'{"jsonrpc":"2.0","id":"\\ud800","method":"pid"}', -32700),
    "digits without end": (b'{"jsonrpc":"2.0","method":"pid","id":' + b"9" * 5_000 + b"}", -32700),
    "an id too large": (b'{"jsonrpc":"2.0","id":9223372036854775808,"method":"pid"}', -32600),
    "an id that is an object": (b'{"jsonrpc":"2.0","id":{},"method":"pid"}', -32600),
    "another version": (b'{"jsonrpc":"1.0","id":1,"method":"pid"}', -32600),
    "no method": (b'{"jsonrpc":"2.0","id":1}', -32600),
    "an unknown member": (b'{"jsonrpc":"2.0","id":1,"method":"pid","x":1}', -32600),
    "an unknown method": (b'{"jsonrpc":"2.0","id":1,"method":"listener.stpo"}', -32601),
    "params by position": (b'{"jsonrpc":"2.0","id":1,"method":"pid","params":[1]}', -32602),
    "an unknown parameter": (
        b'{"jsonrpc":"2.0","id":1,"method":"listener.stop","params":{"selector":["mx"]}}',
        -32602,
    ),
    "a wrong type": (
        b'{"jsonrpc":"2.0","id":1,"method":"listener.stop","params":{"selectors":"mx"}}',
        -32602,
    ),
    "infinite seconds": (
        b'{"jsonrpc":"2.0","id":1,"method":"ready","params":{"wait":1e999}}',
        -32602,
    ),
}
"""Lines that are no good call, by what is wrong, each with the code of its error."""


def malformed(path: Path, line: bytes, code: int) -> str:
    """Send ``line`` and return the one error it gets, which has ``code``."""
    first, second = answers(exchange(path, line + b"\n" + _PID))
    assert first["error"]["code"] == code, first
    assert second["id"] == 7
    assert_serves(path)
    return str(first["error"]["message"])


def deaf_client(path: Path, requests: int = 200_000) -> None:
    """Send requests and read no answer, until the daemon takes no more."""
    with bounded_memory(path), closing(connect(path)) as client:
        client.settimeout(1.0)
        line = b'{"jsonrpc":"2.0","id":1,"method":"help"}\n'
        taken = 0
        try:
            for _ in range(requests):
                taken += client.send(line)
        except TimeoutError:
            pass
        assert taken < requests * len(line), "the daemon took everything from a deaf client"
        assert_serves(path)


def flood(path: Path, seconds: float = 2.0) -> float:
    """Send as many requests as the daemon takes; return how long others wait meanwhile, at worst.

    None of the requests has an answer. Both times are in seconds.
    """
    flooding = threading.Event()
    flooding.set()

    def send() -> None:
        lines = b'{"jsonrpc":"2.0","method":"help"}\n' * 1_000
        with closing(connect(path)) as client:
            while flooding.is_set():
                client.sendall(lines)

    worst, deadline = 0.0, time.monotonic() + seconds
    with bounded_memory(path):
        sending = threading.Thread(target=send)
        sending.start()
        try:
            while (began := time.monotonic()) < deadline:
                assert_serves(path)
                worst = max(worst, time.monotonic() - began)
        finally:
            flooding.clear()
            sending.join()
    return worst


def deaf_watcher(path: Path, happen: Callable[[], None]) -> int:
    """Follow the events without reading, while ``happen`` makes many; return how many were lost.

    Those that are told and those that are lost are told apart, in memory that is bounded.
    """
    with bounded_memory(path), closing(connect(path)) as client:
        client.sendall(b'{"jsonrpc":"2.0","id":1,"method":"events"}\n')
        lines = client.makefile("rb")
        assert json.loads(lines.readline())["id"] == 1
        happen()
        lost = 0
        while not lost:
            item = json.loads(lines.readline())["params"]
            lost = item["count"] if item["event"] == "events.lost" else 0
    return lost


def planted(path: Path, kind: str, victim: Path) -> None:
    """Put something that is no socket where the socket will be; ``victim`` must survive it."""
    victim.write_text("precious")
    match kind:
        case "symlink":
            path.symlink_to(victim)
        case "dangling symlink":
            path.symlink_to(victim.with_name("nowhere"))
        case "file":
            path.write_text("precious")
        case "directory":
            path.mkdir()
        case "lock symlink":
            path.with_name(path.name + ".lock").symlink_to(victim)
