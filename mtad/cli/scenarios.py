"""What mtactl does about scenarios; as mtad.cli.mail does about mail.

What reads YAML is imported when it is wanted: all other commands do without.
"""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import click
import msgspec

from mtad.control.client import ControlClient, finished
from mtad.errors import ConfigError
from mtad.model.deliveries.attempts import Session
from mtad.model.deliveries.report import Done
from mtad.scenario.shown import result_of

if TYPE_CHECKING:
    from mtad.model.scenario import Scenario

Params = dict[str, Any]
Result = dict[str, Any]

_ENDS = (signal.SIGINT, signal.SIGTERM)


def check(params: Params) -> Result:
    """Return everything that is wrong with a file, or what the scenario is; no daemon is asked."""
    try:
        scenario = _load(params)
    except ConfigError as error:
        return _problems(error)
    return {
        "ok": True,
        "scenario": {"name": scenario.name, "end": scenario.end},
        "steps": [{"at": step.at, "done": step.words} for step in scenario.steps],
    }


def _load(params: Params) -> Scenario:
    from mtad.config.scenario import load_scenario

    return load_scenario(Path(params["file"]))


def _problems(error: ConfigError) -> Result:
    return {"ok": False, "problems": [str(problem) for problem in error.problems]}


def run(client: ControlClient, params: Params, as_json: bool) -> Result:
    """Run the scenario of a file; return the report."""
    from mtad.scenario import running

    try:
        scenario = _load(params)
    except ConfigError as error:
        return _problems(error)
    path = client.path
    for number in _ENDS:
        signal.signal(number, _interrupt_once)

    async def call(method: str, *, waits: float = 0.0, **more: Any) -> Result:
        with ControlClient(path) as one:  # the scenario may be longer than a connection may idle
            return one.call(method, **more)

    async def pause(seconds: float) -> None:
        time.sleep(seconds)  # noqa: ASYNC251 (nothing else is to go on)

    started: list[subprocess.Popen[bytes]] = []

    def start() -> None:
        if params.get("start"):
            started.append(_started(params["start"]))

    begun = running.run(
        scenario,
        running.Daemon(call, pause),
        tag=params.get("run") or "",
        start=start,
        tell=_tell,
    )
    report = finished(begun)
    for command in started:
        if status := command.poll():
            click.echo(f"--start: exit status {status}", err=True)
    return result_of(report, whole=as_json or params["report"])


def _interrupt_once(_: int, __: object) -> NoReturn:
    """End, and tidy up: timeout(1) says it twice, and who is impatient more often."""
    for number in _ENDS:
        signal.signal(number, signal.SIG_IGN)
    raise KeyboardInterrupt


def _started(command: str) -> subprocess.Popen[bytes]:
    """Start a command that goes on by itself; what it prints is not the report's."""
    return subprocess.Popen(["/bin/sh", "-c", command], stdin=subprocess.DEVNULL, stdout=sys.stderr)


def _tell(done: Done) -> None:
    click.echo(f"{done.at:8.3f} s  {done.words}", err=True)


def to_scenario(client: ControlClient, params: Params, as_json: bool) -> Result | None:
    """Print the scenario that plays a session again."""
    from mtad.scenario.recorded import scenario_text

    shown = client.call("session.show", id=params["id"])
    session = msgspec.convert({**shown["session"], "entries": shown["entries"]}, Session)
    listener = shown["session"].get("listener", "")
    text = scenario_text(session, listener, len(shown["messages"]))
    if as_json:
        return {"text": text}
    click.echo(text, nl=False)
    return None
