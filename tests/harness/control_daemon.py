"""A control server in a process of its own, whose listeners are only switches.

``python control_daemon.py OPTIONS`` serves until it is told to shut down; OPTIONS is JSON: path,
mode, roles (uid → roles) and limits. A line on its standard error says that it serves. ``log
reopen`` fails inside, on purpose.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
from collections.abc import AsyncGenerator, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import uvloop

from mtad import log
from mtad.control.calls import Relayed
from mtad.control.commands import COMMANDS
from mtad.control.grammar import Command, Role
from mtad.control.peer import Caller
from mtad.control.server import ControlServer, Handler, Limits
from mtad.control.socket import ControlSocket
from mtad.errors import ListenerError, MtadError
from mtad.ipc.questions import Form
from mtad.supervisor.events import Events

_ROOT = Path(__file__).parents[2]


class Switches:
    """The handlers: two listeners that can be switched on and off, and what shows that."""

    def __init__(self) -> None:
        self.states = {"mx": "running", "lab": "stopped"}
        self.events = Events()
        self.end = asyncio.Event()

    def handlers(self) -> dict[str, Handler]:
        """Return a handler for each command."""
        own = [name for name, command in COMMANDS.items() if not command.relayed]
        handlers: dict[str, Handler] = {name: self.nothing for name in own if name != "help"}
        return handlers | {
            "listener.list": self.rows,
            "listener.start": lambda caller, params: self.switch("running", caller, params),
            "listener.stop": lambda caller, params: self.switch("stopped", caller, params),
            "pid": lambda caller, params: {"pid": os.getpid()},
            "ready": self.ready,
            "events": lambda caller, params: self.watch(),
            "log.reopen": self.fail,
            "shutdown": self.shutdown,
        }

    async def relay(self, command: Command, params: dict[str, Any], form: Form) -> Relayed:
        """Answer as if another process did."""
        return Relayed(msgspec.json.encode({"params": params, "form": form}))

    def nothing(self, caller: Caller, params: dict[str, Any]) -> dict[str, Any]:
        return {"ok": True, **params}

    def rows(self, caller: Caller, params: dict[str, Any]) -> dict[str, Any]:
        return {"listeners": [{"name": n, "state": s} for n, s in self.states.items()]}

    def switch(self, state: str, caller: Caller, params: dict[str, Any]) -> dict[str, Any]:
        for name in params["selectors"] or self.states:
            if name not in self.states:
                raise ListenerError(f"no listener is called {name!r}", help="list shows them all")
            self.states[name] = state
            self.events.publish(f"listener.{state}", listener=name)
        return {"ok": True, **self.rows(caller, params)}

    async def ready(self, caller: Caller, params: dict[str, Any]) -> dict[str, Any]:
        """Wait until every switch is on."""
        events = self.events.follow()
        try:
            async with asyncio.timeout(params["wait"] or 0):
                while set(self.states.values()) != {"running"}:
                    await anext(events)
        except TimeoutError:
            return {"ok": False, "ready": False, "waited": params["wait"] is not None}
        finally:
            await events.aclose()
            self.events.publish("wait.ended")
        return {"ok": True, "ready": True}

    async def watch(self) -> AsyncGenerator[dict[str, Any], None]:
        events = self.events.follow()
        try:
            async for item in events:
                yield item
        finally:
            await events.aclose()
            self.events.publish("watch.ended")

    def fail(self, caller: Caller, params: dict[str, Any]) -> dict[str, Any]:
        raise ZeroDivisionError("the secret cause")

    def shutdown(self, caller: Caller, params: dict[str, Any]) -> dict[str, Any]:
        self.end.set()
        return {"ok": True}


async def serve(options: Mapping[str, Any]) -> None:
    """Serve until ``shutdown`` or SIGTERM."""
    log.configure("json")
    switches = Switches()
    roles = {int(uid): frozenset(map(Role, names)) for uid, names in options["roles"].items()}
    server = ControlServer(
        switches.handlers(),
        lambda caller: roles.get(caller.uid, frozenset()),
        switches.relay,
        limits=Limits(**options["limits"]),
    )
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, switches.end.set)
    with ControlSocket(Path(options["path"]), options["mode"]) as control:
        await server.start(control)
        sys.stderr.write("serving\n")
        await switches.end.wait()
        await server.close()


@dataclass
class ControlDaemon:
    """The process, as a test has it."""

    path: Path
    log: Path
    process: subprocess.Popen[str]

    def logged(self, name: str) -> list[dict[str, Any]]:
        """Return what was logged under ``name``."""
        lines = [json.loads(line) for line in self.log.read_text().splitlines()]
        return [line for line in lines if line["event"] == name]


@contextmanager
def control_daemon(
    directory: Path,
    *,
    mode: int = 0o660,
    roles: Mapping[int, Sequence[str]] | None = None,
    **limits: float,
) -> Iterator[ControlDaemon]:
    """Yield a daemon that serves at ``directory/control.sock``; the caller may do everything.

    Raises:
        MtadError: it did not come to serve; with what it said instead.
    """
    path, log_file = directory / "control.sock", directory / "log"
    everything = {os.getuid(): [role.value for role in Role]}
    options = {"path": str(path), "mode": mode, "roles": {**everything, **(roles or {})}}
    with log_file.open("a") as log_output:
        process = subprocess.Popen(
            [sys.executable, __file__, json.dumps({**options, "limits": limits})],
            env={**os.environ, "PYTHONPATH": str(_ROOT)},
            stdout=log_output,
            stderr=subprocess.PIPE,
            text=True,
        )
    with process:
        try:
            assert process.stderr is not None
            if (said := process.stderr.readline()) != "serving\n":
                raise MtadError((said + process.stderr.read()).strip())
            yield ControlDaemon(path, log_file, process)
        finally:
            process.terminate()


def main() -> int:
    """Serve, or say why not."""
    try:
        uvloop.run(serve(json.loads(sys.argv[1])))
    except MtadError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
