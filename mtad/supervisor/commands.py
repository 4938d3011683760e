"""What each control command does; mtad.control.commands says which there are, and their words."""

from __future__ import annotations

import asyncio
import os
import platform
import sys
import time
from collections.abc import AsyncGenerator, Awaitable, Iterable
from pathlib import Path
from typing import Any

import yaml

import mtad
from mtad.control.peer import Caller
from mtad.control.server import Handler
from mtad.errors import CommandError, ConfigError
from mtad.model.listener import State
from mtad.supervisor.daemon import Daemon
from mtad.supervisor.listener_commands import ListenerCommands, Params, Result
from mtad.supervisor.reload import ReloadPlan
from mtad.supervisor.rule_commands import RuleCommands
from mtad.supervisor.workers import Worker

PROTOCOL_VERSION = 1
"""Of the control socket; a client that knows another one should say so and stop."""

# What opens listeners or starts workers: a daemon that ends does neither.
_OPENING = (
    "listener.start",
    "listener.deaf",
    "listener.restart",
    "listener.add",
    "config.reload",
)

_PAGE = os.sysconf("SC_PAGE_SIZE")


class Commands:
    """The handlers of one daemon. Synchronous where the answer is at hand."""

    def __init__(self, daemon: Daemon) -> None:
        self._daemon = daemon
        self._listeners = daemon.listeners

    def handlers(self) -> dict[str, Handler]:
        """Return every handler by the method of its command."""
        handlers: dict[str, Handler] = {
            **ListenerCommands(self._daemon).handlers(),
            **RuleCommands(self._daemon).handlers(),
            "security": self.security,
            "status": self.status,
            "summary": self.summary,
            "version": self.version,
            "pid": self.pid,
            "workers": self.workers,
            "config.check": self.config_check,
            "config.show": self.config_show,
            "config.reload": self.config_reload,
            "tls.ca": self.tls_ca,
            "events": self.events,
            "log.level": self.log_level,
            "log.reopen": self.log_reopen,
            "ready": self.ready,
            "shutdown": self.shutdown,
        }
        return handlers | {method: self._unless_stopping(handlers[method]) for method in _OPENING}

    def security(self, _: Caller, __: Params) -> Result:
        """Answer what is configured against what every process and thread holds."""
        return self._daemon.security()

    def status(self, _: Caller, __: Params) -> Result:
        """Answer whether all is well."""
        unready = self._daemon.problems()
        workers = self._daemon.pool.workers.values()
        faults = sorted({worker.store_fault for worker in workers} - {""})
        store = [f"no mail is kept: {fault}" for fault in faults]
        unserved = [
            f"worker {worker} does not serve listener {one.spec.name}: {reason}"
            for one in self._listeners
            for worker, reason in sorted(one.refused_by.items())
        ]
        problems = [*unready, *store, *unserved, *self._daemon.archive.problems()]
        return {
            "ok": not problems,
            "ready": not unready,
            "pid": os.getpid(),
            "since": self._daemon.started,
            "uptime": time.time() - self._daemon.started,
            "problems": problems,
        }

    def summary(self, _: Caller, __: Params) -> Result:
        """Answer the counts of everything."""
        states = dict.fromkeys(State, 0)
        total = self._daemon.pool.retired
        for listener in self._listeners:
            states[listener.state] += 1
            total = total.plus(self._listeners.counts(listener))
        pool = self._daemon.pool
        return {
            "version": mtad.__version__,
            "uptime": time.time() - self._daemon.started,
            "listeners": {state.value: number for state, number in states.items() if number},
            "sessions": {"active": total.active, "total": total.sessions},
            "messages": total.messages,
            "octets": total.octets,
            "workers": {
                "serving": sum(worker.serving for worker in pool.workers.values()),
                "restarts": pool.restarts,
            },
            "archive": {
                "pid": self._daemon.archive.processes().get("archive"),
                "restarts": self._daemon.archive.restarts,
            },
        }

    def version(self, _: Caller, __: Params) -> Result:
        """Answer the versions of the daemon and of what it stands on."""
        return {
            "version": mtad.__version__,
            "protocol": PROTOCOL_VERSION,
            "python": platform.python_version(),
            "kernel": platform.release(),
            "aiosmtpd": _installed("aiosmtpd"),
            "uvloop": _installed("uvloop"),
        }

    def pid(self, _: Caller, __: Params) -> Result:
        """Answer the supervisor's process id."""
        return {"pid": os.getpid()}

    def workers(self, _: Caller, __: Params) -> Result:
        """Answer the workers."""
        slots = [listener.slot for listener in self._listeners]
        return {
            "workers": [_worker_row(one, slots) for one in self._daemon.pool.workers.values()],
            "restarts": self._daemon.pool.restarts,
        }

    async def config_check(self, _: Caller, params: Params) -> Result:
        """Read files as a reload would, and answer what is wrong or would change."""
        return await _told(self._daemon.plan_reload([Path(file) for file in params["files"]]))

    def config_show(self, _: Caller, __: Params) -> Result:
        """Answer the configuration in force, stanza by stanza, and which file each came from."""
        stanzas = self._daemon.configuration.effective()
        return {"stanzas": stanzas, "text": _as_yaml(stanzas)}

    async def config_reload(self, _: Caller, __: Params) -> Result:
        """Read the configuration again, and apply it: all of it or nothing."""
        return await _told(self._daemon.reload())

    def tls_ca(self, _: Caller, __: Params) -> Result:
        """Answer the certificate of the CA that stands behind `tls: auto`."""
        file = self._daemon.settings.automatic_tls().ca
        if not self._daemon.certificates.are_needed(self._daemon.configuration):
            raise CommandError(
                "no profile has tls: auto", help="write tls: auto in one, and reload"
            )
        try:
            return {"file": str(file), "pem": file.read_text("ascii", "replace")}
        except OSError as error:
            raise CommandError(
                f"{file} cannot be read: {error.strerror}",
                help="config reload makes a new one where it is missing",
            ) from None

    def events(self, _: Caller, __: Params) -> AsyncGenerator[Result, None]:
        """Answer what happens from now on."""
        return self._daemon.events.follow()

    def log_level(self, _: Caller, params: Params) -> Result:
        """Set the level of the log in all processes."""
        self._daemon.set_log_level(params["level"])
        return {"level": params["level"]}

    def log_reopen(self, _: Caller, __: Params) -> Result:
        """Open the log file again."""
        return {"file": self._daemon.reopen_log()}

    def ready(self, _: Caller, params: Params) -> Any:
        """Answer whether every enabled listener accepts; with ``wait``, wait for it (seconds)."""
        problems = self._daemon.problems()
        if not problems or params["wait"] is None:
            return {"ok": not problems, "ready": not problems, "problems": problems}
        return self._when_ready(params["wait"])

    def shutdown(self, _: Caller, params: Params) -> Result:
        """End the daemon."""
        grace = self._daemon.grace(params)
        self._daemon.shutdown(grace)
        return {"ok": True, "drain": grace}

    def _unless_stopping(self, handler: Handler) -> Handler:
        def carry_out(caller: Caller, params: Params) -> Any:
            self._daemon.refuse_if_stopping()
            return handler(caller, params)

        return carry_out

    async def _when_ready(self, seconds: float) -> Result:
        try:
            async with asyncio.timeout(seconds):
                await self._daemon.events.until(lambda: not self._daemon.problems())
        except TimeoutError:
            pass
        problems = self._daemon.problems()
        return {
            "ok": not problems,
            "ready": not problems,
            "problems": problems,
            "waited": bool(problems),
        }


async def _told(planned: Awaitable[ReloadPlan]) -> Result:
    """Answer what has changed, or would, or what is wrong with the files."""
    try:
        plan = await planned
    except ConfigError as error:
        return {"ok": False, "problems": [str(problem) for problem in error.problems]}
    return {"ok": True, "problems": [], "changes": plan.lines, "notes": plan.notes}


def _installed(package: str) -> str:
    """Return the version of a package. importlib.metadata would load a parser of mail for it."""
    places = (path for entry in sys.path for path in Path(entry).glob(f"{package}-*.dist-info"))
    return next((path.name.removesuffix(".dist-info").split("-")[1] for path in places), "?")


def _worker_row(worker: Worker, slots: Iterable[int]) -> Result:
    counts = [worker.counters.read(slot) for slot in slots]
    return {
        "id": worker.id,
        "pid": worker.process.pid,
        "state": "serving" if worker.serving else "starting",
        "since": worker.started,
        "sessions": sum(count.active for count in counts),
        "messages": sum(count.messages for count in counts),
        "rss": _resident(worker.process.pid),
    }


def _resident(pid: int) -> int:
    """Return the resident set of a process in octets (proc(5)); 0 when it is gone."""
    try:
        return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * _PAGE
    except OSError:
        return 0


def _as_yaml(stanzas: dict[str, Any]) -> str:
    lines = []
    for name, each in stanzas.items():
        lines.append(f"# {each['source'] or 'default'}\n")
        lines += [f"# {one}: {file}\n" for one, file in each.get("shipped", {}).items()]
        lines.append(yaml.safe_dump({name: each["value"]}, sort_keys=False))
    return "".join(lines)
