"""What the listener commands do; mtad.control.commands says what they are and take."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from mtad.config import shipped
from mtad.config.schema import Settings
from mtad.config.values import NAMES, is_name
from mtad.control.peer import Caller
from mtad.control.server import Handler
from mtad.errors import BindError, CommandError, ListenerError
from mtad.model.endpoint import UnixEndpoint, parse_endpoints
from mtad.model.listener import ListenerSpec, Origin, Protocol, State, member_name, misfit
from mtad.supervisor.daemon import Daemon
from mtad.supervisor.listener import Lack, Listener
from mtad.supervisor.orders import Order

Params = dict[str, Any]
Result = dict[str, Any]


class ListenerCommands:
    """The handlers of one daemon's listeners. Synchronous where the answer is at hand."""

    def __init__(self, daemon: Daemon) -> None:
        self._daemon = daemon
        self._listeners = daemon.listeners

    def handlers(self) -> dict[str, Handler]:
        """Return every handler by the method of its command."""
        return {
            "listener.list": self.show_all,
            "listener.show": self.show,
            "listener.start": self.start,
            "listener.stop": self.stop,
            "listener.deaf": self.deafen,
            "listener.restart": self.restart,
            "listener.add": self.add,
            "listener.remove": self.remove,
        }

    def show_all(self, _: Caller, params: Params) -> Result:
        """Answer the selected listeners, or all."""
        selectors = params["selectors"]
        selected = self._listeners.select(selectors) if selectors else self._listeners
        return {"listeners": [self._row(listener) for listener in selected]}

    def show(self, _: Caller, params: Params) -> Result:
        """Answer one listener with everything known of it."""
        listener = self._listeners.get(params["name"])
        if listener is None:
            (listener, *more) = self._listeners.select([params["name"]])
            if more:
                raise ListenerError(
                    f"{params['name']!r} names {1 + len(more)} listeners",
                    help="show takes one of them; list shows them all",
                )
        row = self._row(listener)
        counts = self._listeners.counts(listener)
        row["octets"] = counts.octets
        row["backlog"] = listener.spec.backlog
        row["group"] = listener.spec.group
        row["draining"] = len(listener.ending)
        return {"listener": row}

    def start(self, _: Caller, params: Params) -> Any:
        """Open the selected listeners."""
        selected = self._selected(params)
        self._listeners.start(selected)
        return self._when_started(selected)

    def stop(self, caller: Caller, params: Params) -> Any:
        """Close the selected listeners; with ``wait``, answer when their sessions have ended.

        With ``for``, they are opened again after so many seconds.
        """
        selected, seconds = self._selected(params), params["for"]
        if seconds is not None:
            self._daemon.refuse_if_stopping()
        self._listeners.stop(selected, self._daemon.grace(params))
        if seconds is not None:
            for listener in selected:
                self._listeners.faults.begin(listener, Lack.CLOSED, seconds, str(caller))
        if params["wait"]:
            return self._when_drained(selected)
        return self._rows(selected)

    def deafen(self, caller: Caller, params: Params) -> Any:
        """Have the selected listeners accept nobody for so many seconds."""
        selected = self._selected(params)
        orders = self._listeners.faults.deafen(selected, params["for"], str(caller))
        return self._when_deaf(selected, orders)

    def restart(self, _: Caller, params: Params) -> Any:
        """Close and open the selected listeners."""
        selected = self._selected(params)
        self._listeners.stop(selected, self._daemon.grace(params))
        self._listeners.start(selected)
        return self._when_started(selected)

    def add(self, _: Caller, params: Params) -> Any:
        """Make listeners that the configuration does not have, one for each address."""
        if not is_name(params["name"]):
            raise ListenerError(f"{params['name']!r} is not a name", help=NAMES)
        configuration = self._daemon.configuration.knowing([params["profile"]])
        specs = self._specs(params, configuration.settings)
        for spec in specs:
            if self._listeners.get(spec.name) is not None:
                raise ListenerError(
                    f"a listener is called {spec.name!r} already",
                    help="take another name, or remove that one",
                )
        if configuration is not self._daemon.configuration:
            self._daemon.know(configuration)
        added = [self._listeners.add(spec) for spec in specs]
        if params["stopped"]:
            return self._rows(added)
        self._listeners.start(added)
        return self._when_started(added)

    def remove(self, _: Caller, params: Params) -> Result:
        """Stop and forget the selected listeners."""
        selected = self._selected(params)
        self._listeners.remove(selected, self._daemon.grace(params))
        return self._rows(selected)

    async def _when_started(self, selected: list[Listener]) -> Result:
        """Answer when a worker has said for each that it serves it, or all that they cannot."""
        await self._listeners.settled(selected)
        return self._rows(selected)

    async def _when_drained(self, selected: list[Listener]) -> Result:
        await self._daemon.events.until(
            lambda: not any(listener.state is State.DRAINING for listener in selected)
        )
        return self._rows(selected)

    async def _when_deaf(self, selected: list[Listener], orders: list[Order]) -> Result:
        """Answer when every worker has said that it accepts nobody, or lets us wait too long."""
        await self._daemon.pool.orders.late(*orders)
        return self._rows(selected)

    def _selected(self, params: Params) -> list[Listener]:
        if params["all"]:
            return list(self._listeners)
        return self._listeners.select(params["selectors"])

    def _specs(self, params: Params, settings: Settings) -> list[ListenerSpec]:
        try:
            profile = settings.profile(params["profile"])
        except KeyError:
            there = sorted({*settings.all_profiles(), *shipped.files()})
            raise CommandError(
                f"no profile is called {params['profile']!r}",
                help=f"there are: {', '.join(there)}",
            ) from None
        protocol = Protocol(params["protocol"])
        if reason := misfit(protocol, params["profile"], profile):
            raise ListenerError(reason, help="name another profile, or protocol smtp")
        endpoints = parse_endpoints(params["endpoint"], v6only=params["v6only"])
        return [
            ListenerSpec(
                name=member_name(params["name"], endpoint, len(endpoints)),
                group=params["name"],
                endpoint=endpoint,
                protocol=protocol,
                profile_name=params["profile"],
                profile=profile,
                origin=Origin.ADDED,
                enabled=False,  # it does not come with the daemon, and is not waited for
                **({} if params["backlog"] is None else {"backlog": params["backlog"]}),
            )
            for endpoint in endpoints
        ]

    def _rows(self, listeners: Iterable[Listener]) -> Result:
        """Return what became of ``listeners``: not ok where one could not be opened."""
        rows = [self._row(listener) for listener in listeners]
        return {"ok": all(row["error"] is None for row in rows), "listeners": rows}

    def _row(self, listener: Listener) -> Result:
        counts = self._listeners.counts(listener)
        spec, error, fault = listener.spec, listener.error, listener.fault
        return {
            "name": spec.name,
            "state": listener.state,
            "endpoint": str(spec.endpoint),
            "bound": str(listener.bound) if listener.socket is not None else None,
            "v6only": None if isinstance(spec.endpoint, UnixEndpoint) else spec.endpoint.v6only,
            "protocol": spec.protocol,
            "profile": spec.profile_name,
            "origin": spec.origin,
            "enabled": spec.enabled,
            "sessions": {"active": counts.active, "total": counts.sessions},
            "messages": counts.messages,
            "since": listener.since,
            "fault": fault
            and {
                "lack": fault.lack,
                "until": fault.until,
                "by": fault.by,
                "state": f"{listener.state}, {fault}",
            },
            "error": error
            and {
                "errno": error.errno if isinstance(error, BindError) else None,
                "code": error.code if isinstance(error, BindError) else None,
                "text": error.message,
                "hint": error.help,
            },
        }
