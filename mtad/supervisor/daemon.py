"""The running daemon: its parts put together, its signals, and its end."""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import time
from collections.abc import Mapping, Sequence
from contextlib import aclosing
from pathlib import Path
from typing import Any

import mtad
from mtad import log
from mtad.config.load import Configuration
from mtad.config.schema import Control, Settings
from mtad.control.grammar import Role
from mtad.control.peer import Caller
from mtad.control.server import ControlServer, Handler
from mtad.control.socket import ControlSocket
from mtad.errors import CommandError, MtadError
from mtad.ipc import questions
from mtad.ipc.messages import ReopenLog, Setup, Sync
from mtad.model.listener import Origin, State
from mtad.privilege.plan import Plan
from mtad.supervisor import files, reload, security
from mtad.supervisor.archive import Archive
from mtad.supervisor.certificates import Certificates
from mtad.supervisor.events import Events
from mtad.supervisor.judge import Judge
from mtad.supervisor.listeners import Listeners
from mtad.supervisor.notify import ServiceManager
from mtad.supervisor.reload import ReloadPlan
from mtad.supervisor.roles import Roles
from mtad.supervisor.workers import Pool


class Daemon:
    """One in a process. ``run`` returns when it has ended."""

    def __init__(self, configuration: Configuration, plan: Plan, form: log.Form) -> None:
        self.configuration = configuration
        self.plan = plan
        self.started = time.time()
        self.events = Events()
        self.listeners = Listeners(self.events)
        store = self.settings.store
        setup = Setup(0, str(store.directory), store.durability, form, self.settings.log.level)
        # Of what workers have kept; whoever writes to it never waits for whoever reads it.
        news = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self.judge = Judge(self.listeners, self.events)
        self.certificates = Certificates(self.events, self.listeners, self.judge.rules)
        self.pool = Pool(setup, self.events, self.listeners.serving, self.judge, news)
        self.archive = Archive(self._archive_setup(form), self.events, news)
        self.listeners.serving.pool, self.judge.orders = self.pool, self.pool.orders
        self.roles = self._roles(self.settings.control)
        self._loop = asyncio.get_running_loop()
        self._end: asyncio.Future[float] = self._loop.create_future()
        self._reloading = asyncio.Lock()

    @property
    def settings(self) -> Settings:
        """The configuration in force."""
        return self.configuration.settings

    @property
    def stopping(self) -> bool:
        """Whether the end has begun."""
        return self._end.done()

    async def run(self, manager: ServiceManager, handlers: Mapping[str, Handler]) -> None:
        """Open everything, serve until the end is asked for, close everything.

        ``handlers`` are what the control socket offers.

        Raises:
            MtadError: the control socket cannot be had, or the certificate of `tls: auto` not be
                made; no listener has been opened.
        """
        server = ControlServer(handlers, self._roles_of, self.archive.ask)
        self._handle_signals()  # before there is a file that a signal would leave behind
        with (
            ControlSocket(self.settings.control.socket, self.roles.socket_mode) as control,
            files.pid_file(self.settings.pid_file),
        ):
            self.events.publish("daemon.started", version=mtad.__version__, user=self.plan.user)
            for note in (*self.plan.warnings, *self.configuration.notes()):
                self.events.publish("security.note", logging.WARNING, note=note)
            self.judge.rules.replace(self.configuration.rules())
            self.pool.resize(self.settings.worker_count())  # they load their code meanwhile
            self.archive.start()
            self.certificates.ensure(self.configuration)
            specs = self.configuration.listeners()
            listeners = [self.listeners.add(spec) for spec in specs]
            self.listeners.start([one for one in listeners if one.spec.enabled])
            await server.start(control)
            telling = self._loop.create_task(self._tell(manager))
            grace = await self._end
            telling.cancel()
            manager.tell("STOPPING=1")
            self.events.publish("daemon.stopping", drain=grace)
            self.listeners.stop(list(self.listeners), grace)
            await self.pool.stop(grace)
            await server.close()
            await self.archive.stop()
        self.events.publish("daemon.stopped")

    def shutdown(self, grace: float) -> None:
        """Begin the end; sessions have ``grace`` seconds. The second time: end now."""
        if self.stopping:
            self.pool.kill()
        else:
            self._end.set_result(grace)

    def refuse_if_stopping(self) -> None:
        """Raise CommandError if the end has begun: nothing is opened any more."""
        if self.stopping:
            raise CommandError("the daemon is stopping", help="start it again afterwards")

    def problems(self) -> list[str]:
        """Return why the daemon is not ready; nothing: every enabled listener accepts."""
        problems = [
            f"listener {one.spec.name} is {one.condition}"
            for one in self.listeners
            if one.spec.enabled and (one.fault or one.state is not State.RUNNING)
        ]
        if not any(worker.serving for worker in self.pool.workers.values()):
            problems.append("no worker is serving yet")
        if self.stopping:
            problems.append("the daemon is stopping")
        return problems

    def know(self, configuration: Configuration) -> None:
        """Have a configuration that has more profiles than that in force, and nothing else.

        Raises:
            TlsError: their rules need a certificate that cannot be made; nothing has changed.
        """
        known = self.configuration.settings.profiles
        rules = [rule for rule in configuration.rules() if rule.profile not in ("", *known)]
        self.certificates.ensure_for(rules, configuration)
        self.configuration = configuration
        self.judge.rules.extend(rules)
        self.judge.tell()

    def grace(self, params: Mapping[str, Any]) -> float:
        """Return how many seconds sessions have, by the options --drain and --cut of a command."""
        if params["cut"]:
            return 0.0
        drain: float | None = params["drain"]
        return self.settings.drain if drain is None else drain

    def set_log_level(self, level: str) -> None:
        """Log events of ``level`` and above, in every process."""
        log.set_level(level)
        self.pool.set_log_level(level)
        self.archive.set_log_level(level)

    def reopen_log(self) -> str:
        """Open the log file again, in every process; return its name, or ``stdout``."""
        target = self.settings.log.target
        if target != "stdout":
            descriptor = files.open_log(target)
            self.pool.tell_all(ReopenLog(), [descriptor])
            self.archive.tell(ReopenLog(), [descriptor])
            os.close(descriptor)
        return str(target)

    def security(self) -> dict[str, Any]:
        """Return what is configured against what is held."""
        notes = [*self.plan.warnings, *self.configuration.notes()]
        children = self.pool.processes() | self.archive.processes()
        return security.report(self.settings.security, self.plan, children) | {"notes": notes}

    async def plan_reload(self, paths: Sequence[Path]) -> ReloadPlan:
        """Read the configuration again, from ``paths`` or from where it came, and change nothing.

        Raises:
            ConfigError: with every problem that was found.
        """
        new = await reload.read(paths or self.configuration.paths, self.pool.trials.objection)
        added = (one.spec for one in self.listeners if one.spec.origin is Origin.ADDED)
        new = new.knowing(spec.profile_name for spec in added)
        return ReloadPlan.of(self.configuration, new, self.listeners, self.judge.rules)

    async def reload(self) -> ReloadPlan:
        """Read the configuration again, and make the changes, all of them or none.

        Return when every listener that is started by it is served, or cannot be, and the workers
        go by it: whoever connects then meets what it says.

        Raises:
            CommandError: the end has begun meanwhile; everything is as it was.
            ConfigError: as plan_reload; everything is as it was.
            BindError: a listener cannot be opened; everything is as it was.
            TlsError: the certificate of `tls: auto` cannot be made; everything is as it was.
            PreflightError: control.operate or .observe names nobody; everything is as it was.
        """
        async with self._reloading:
            plan = await self.plan_reload(())
            self.refuse_if_stopping()
            self._apply(plan)
            order = self.pool.orders.give(Sync)
        await self.listeners.settled(list(self.listeners))
        late = await self.pool.orders.late(order)
        plan.notes.extend(f"worker {worker} has not said yet that it goes by it" for worker in late)
        return plan

    def _roles(self, control: Control) -> Roles:
        retained = self.plan.expected.sets.permitted != 0
        return Roles(control.operate, control.observe, retained=retained)

    def _apply(self, plan: ReloadPlan) -> None:
        roles = self._roles(plan.configuration.settings.control)
        reload.apply(
            self.listeners,
            plan.changes,
            self.settings.drain,
            lambda: self._prepare(plan.configuration),
        )
        self.configuration, self.roles = plan.configuration, roles
        self.settings.control.socket.chmod(roles.socket_mode)
        self.set_log_level(self.settings.log.level)
        self.archive.set_retention(self._retention())
        self.pool.resize(self.settings.worker_count())
        self.events.publish("config.reloaded", changes=plan.lines, notes=plan.notes)

    def _prepare(self, configuration: Configuration) -> None:
        """Do what comes before new sockets are handed out."""
        self.certificates.ensure(configuration)
        self.judge.rules.replace(configuration.rules())
        self.judge.tell()

    def _archive_setup(self, form: log.Form) -> questions.Setup:
        return questions.Setup(
            str(self.settings.store.directory),
            form,
            self.settings.log.level,
            self._retention(),
        )

    def _retention(self) -> questions.Retention:
        return questions.Retention(**self.settings.store.retention.model_dump())

    def _roles_of(self, caller: Caller) -> frozenset[Role]:
        return self.roles(caller)

    def _handle_signals(self) -> None:
        for number in (signal.SIGTERM, signal.SIGINT):
            self._loop.add_signal_handler(number, lambda: self.shutdown(self.settings.drain))
        self._loop.add_signal_handler(signal.SIGHUP, self._hang_up)

    def _hang_up(self) -> None:
        try:
            self.reopen_log()
        except MtadError as error:  # the old file goes on being written
            self.events.publish("log.not_reopened", logging.ERROR, reason=str(error))

    async def _tell(self, manager: ServiceManager) -> None:
        """Tell the service manager once that we are ready, and again and again that we live."""
        async with aclosing(self.events.follow()) as events:
            while self.problems():
                manager.tell("STATUS=" + "; ".join(self.problems()))
                await anext(events)
        manager.tell("READY=1", "STATUS=every enabled listener accepts")
        self.events.publish("daemon.ready")
        while manager.watchdog_seconds:
            manager.tell("WATCHDOG=1")
            await asyncio.sleep(manager.watchdog_seconds / 3)
