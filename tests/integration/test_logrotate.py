"""The log file of a running daemon, rotated by logrotate with the file of conf/."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from harness.daemon import Daemon, until

pytestmark = [
    pytest.mark.integration,
    pytest.mark.root,
    pytest.mark.skipif(shutil.which("logrotate") is None, reason="logrotate is not installed"),
]

_RULES = Path(__file__).parents[2] / "conf" / "logrotate" / "mtad"


def test_no_event_is_lost_when_the_log_is_rotated(
    started: Callable[..., Daemon], directory: Path
) -> None:
    log = directory / "log" / "mtad.log"
    daemon = started(extra=f"log:\n  target: {log}\n")
    rules = _RULES.read_text().replace("/var/log/mtad", str(log.parent))
    rules = rules.replace("/run/mtad/mtad.pid", f"{directory}/run/mtad.pid")
    (directory / "rules").write_text(rules)
    rotate = ["logrotate", "--force", "--state", str(directory / "state"), "rules"]

    daemon.mtactl("listener", "stop", "mx")
    subprocess.run(rotate, cwd=directory, check=True)
    until(log.exists)
    daemon.mtactl("listener", "start", "mx")

    rotated = log.with_name("mtad.log.1")
    until(lambda: "listener.running" in _events(log))
    assert _events(rotated)[0] == "daemon.started"
    assert "listener.stopped" in _events(rotated)
    assert log.owner() == "ecuser"


def _events(path: Path) -> list[str]:
    return [json.loads(line)["event"] for line in path.read_text().splitlines()]
