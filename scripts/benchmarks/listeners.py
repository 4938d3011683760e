"""How long it takes to close and reopen a listener on port 25, and to open and close 1,000.

Run by `scripts/bench listeners`, as root, in a network namespace of its own. Prints a table, and
with --json the figures. HAProxy's `disable frontend` and `enable frontend` are measured in turn
with ours where HAProxy is installed.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import signal
import smtplib
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

PROGRAMS = Path(sys.executable).parent
WORKERS = 2

CONFIG = """
security: {{user: ecuser, capabilities: "cap_net_bind_service+ep"}}
listeners:
  mx: {{listen: "127.0.0.1:25"}}
  many: {{listen: "127.1.0.0/22:25", enabled: false}}
control: {{socket: {home}/run/control.sock}}
store: {{directory: {home}/store}}
workers: {workers}
log: {{target: {home}/log/mtad.log}}
pid_file: null
"""

# As root: only newer versions can keep a capability (setcap), and root may bind again.
HAPROXY = """
global
    stats socket {home}/haproxy.sock mode 600 level admin
defaults
    mode tcp
    timeout client 5s
    timeout server 5s
    timeout connect 5s
frontend mx
    bind 127.0.0.2:25
    default_backend none
backend none
"""


class Lines:
    """A unix socket that answers one thing at a time."""

    def __init__(self, path: Path, end: bytes) -> None:
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.connect(str(path))
        self._end = end

    def ask(self, line: str) -> bytes:
        self._socket.sendall(line.encode() + b"\n")
        answer = b""
        while not answer.endswith(self._end):
            answer += self._socket.recv(1 << 20)
        return answer


def rpc(lines: Lines, method: str, **params: object) -> dict[str, Any]:
    request = {"jsonrpc": "2.0", "id": 1, "method": method, "params": params}
    answer = json.loads(lines.ask(json.dumps(request)))
    if "error" in answer or not answer["result"].get("ok", True):
        sys.exit(f"{method}: {answer}")
    result: dict[str, Any] = answer["result"]
    return result


def timed(action: Callable[[], object]) -> float:
    """Return milliseconds."""
    start = time.perf_counter()
    action()
    return (time.perf_counter() - start) * 1_000


def spread(figures: list[float]) -> dict[str, float]:
    ordered = sorted(figures)
    return {
        "cycles": len(ordered),
        "median_ms": round(statistics.median(ordered), 3),
        "p99_ms": round(ordered[int(len(ordered) * 0.99)], 3),
        "max_ms": round(ordered[-1], 3),
    }


def start(running: ExitStack, appears: Path, *command: str | Path) -> None:
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL)
    running.callback(process.wait)
    running.callback(process.terminate)
    deadline = time.monotonic() + 10
    while not appears.exists():
        if process.poll() is not None or time.monotonic() > deadline:
            sys.exit(f"{command[0]} did not start")
        time.sleep(0.01)


def cycles(home: Path, count: int) -> dict[str, dict[str, float]]:
    mtad = Lines(home / "run" / "control.sock", b"\n")
    haproxy = Lines(home / "haproxy.sock", b"\n> ") if (home / "haproxy.sock").exists() else None
    if haproxy:
        haproxy.ask("prompt")

    def ours() -> None:
        rpc(mtad, "listener.stop", selectors=["mx"])
        rpc(mtad, "listener.start", selectors=["mx"])

    def theirs() -> None:
        assert haproxy is not None
        haproxy.ask("disable frontend mx")
        haproxy.ask("enable frontend mx")

    quiet, with_mail, other = [], [], []
    for number in range(count):
        quiet.append(timed(ours))
        if haproxy:
            other.append(timed(theirs))
        if number % 4 == 0:
            with smtplib.SMTP("127.0.0.1", 25) as client:
                client.sendmail("a@example.org", ["b@example.com"], b"Subject: x\r\n\r\n")
                # One session is open while the listener is stopped: it drains.
                client.mail("a@example.org")
                with_mail.append(timed(ours))
    result = {"stop+start": spread(quiet), "stop+start, one session draining": spread(with_mail)}
    if other:
        result["HAProxy disable+enable frontend"] = spread(other)
    return result


def thousand(home: Path, rounds: int) -> dict[str, dict[str, float]]:
    mtad = Lines(home / "run" / "control.sock", b"\n")
    # 127.1.0.0/22 has 1,024 addresses; a thousand of them.
    names = [f"many/{a}" for a in (f"127.1.{n // 256}.{n % 256}" for n in range(1_000))]
    opened, closed = [], []
    for _ in range(rounds):
        opened.append(timed(lambda: rpc(mtad, "listener.start", selectors=names)))
        with socket.create_connection(("127.1.3.231", 25), timeout=5) as client:
            assert client.recv(100).startswith(b"220 ")
        closed.append(timed(lambda: rpc(mtad, "listener.stop", selectors=names)))
    return {"open 1,000 listeners": spread(opened), "close 1,000 listeners": spread(closed)}


def replaced(home: Path, rounds: int) -> dict[str, dict[str, float]]:
    """Kill a worker of a fresh daemon each time: a row of deaths is answered by growing pauses."""
    took = []
    for _ in range(rounds):
        with ExitStack() as running:
            path = home / "run" / "control.sock"
            start(running, path, PROGRAMS / "mtad", "run", home / "mtad.yaml")
            control = Lines(path, b"\n")
            rpc(control, "ready", wait=10)

            def serving(control: Lines = control) -> list[int]:
                rows = rpc(control, "workers")["workers"]
                return [row["pid"] for row in rows if row["state"] == "serving"]

            while len(before := serving()) < WORKERS:
                time.sleep(0.01)

            def kill_and_wait(before: list[int] = before) -> None:
                os.kill(before[0], signal.SIGKILL)
                while len(set(serving()) - {before[0]}) < WORKERS:
                    time.sleep(0.002)

            took.append(timed(kill_and_wait))
    return {"kill -9 of a worker to a new one": spread(took)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cycles", type=int, default=1_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    with tempfile.TemporaryDirectory(prefix="mtad-bench-") as name, ExitStack() as running:
        home = Path(name)
        home.chmod(0o755)
        (home / "mtad.yaml").write_text(CONFIG.format(home=home, workers=WORKERS))
        (home / "haproxy.cfg").write_text(HAPROXY.format(home=home))
        start(running, home / "run" / "control.sock", PROGRAMS / "mtad", "run", home / "mtad.yaml")
        if program := shutil.which("haproxy"):
            start(running, home / "haproxy.sock", program, "-db", "-q", "-f", home / "haproxy.cfg")
        rpc(Lines(home / "run" / "control.sock", b"\n"), "ready", wait=10)
        result = cycles(home, options.cycles) | thousand(home, options.rounds)
        running.close()
        result |= replaced(home, options.rounds)
    if options.json:
        print(json.dumps(result, indent=1))
        return
    print(
        f"{os.cpu_count()} cores, kernel {platform.release()}, Python {platform.python_version()}"
    )
    for what, figures in result.items():
        print(f"{what:36} " + "  ".join(f"{key} {value:g}" for key, value in figures.items()))


if __name__ == "__main__":
    main()
