"""mtactl as a program, against a daemon of switches: what it prints and how it exits."""

from __future__ import annotations

import json
import os
import pty
import signal
import socket as sockets
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from harness import control_attacks as attacks
from harness.control_daemon import ControlDaemon, control_daemon

from mtad.control import wire

pytestmark = pytest.mark.integration

MTACTL = [sys.executable, "-m", "mtad.cli.mtactl"]


@pytest.fixture(scope="module")
def daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ControlDaemon]:
    with control_daemon(tmp_path_factory.mktemp("control")) as serving:
        yield serving


def mtactl(
    *words: str, socket: Path | None = None, home: Path = Path("/nonexistent")
) -> subprocess.CompletedProcess[str]:
    """Run it as a user would; the environment has no terminal and no socket of its own."""
    environment = {name: value for name, value in os.environ.items() if name != "MTAD_SOCKET"}
    if socket is not None:
        environment["MTAD_SOCKET"] = str(socket)
    return subprocess.run(
        [*MTACTL, *words],
        env={**environment, "HOME": str(home)},
        capture_output=True,
        text=True,
        timeout=attacks.PATIENCE,
        check=False,
    )


def test_done_is_0(daemon: ControlDaemon) -> None:
    done = mtactl("listener", "start", "mx", "lab", socket=daemon.path)
    assert (done.returncode, done.stderr) == (0, "")
    assert [line.split()[:2] for line in done.stdout.splitlines()] == [
        ["NAME", "STATE"],
        ["mx", "running"],
        ["lab", "running"],
    ]


def test_refused_is_1_and_says_what_helps(daemon: ControlDaemon) -> None:
    done = mtactl("listener", "stop", "nosuch", socket=daemon.path)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr == ("mtactl: no listener is called 'nosuch'\n  help: list shows them all\n")


def test_refused_in_json(daemon: ControlDaemon) -> None:
    done = mtactl("--json", "listener", "stop", "nosuch", socket=daemon.path)
    assert done.returncode == 1
    assert json.loads(done.stdout)["error"]["code"] == -32000


def test_not_ok_is_1(daemon: ControlDaemon) -> None:
    mtactl("listener", "stop", "lab", socket=daemon.path)
    assert mtactl("ready", socket=daemon.path).returncode == 1


@pytest.mark.parametrize(
    "words",
    [
        ("listner",),
        ("listener", "stop"),
        ("listener", "stop", "mx", "--all"),
        ("listener", "stop", "mx", "--cut", "--drain", "5"),
        ("listener", "stop", "mx", "--drain", "soon"),
        ("listener", "stop", "mx", "--drain", "nan"),
        ("listener", "show"),
        ("log", "level", "loud"),
        ("help", "nosuch"),
    ],
)
def test_usage_is_2(daemon: ControlDaemon, words: tuple[str, ...]) -> None:
    done = mtactl(*words, socket=daemon.path)
    assert (done.returncode, done.stdout) == (2, ""), done
    assert "Usage: mtactl" in done.stderr
    assert "Traceback" not in done.stderr


def test_no_daemon_is_3(tmp_path: Path) -> None:
    done = mtactl("pid", socket=tmp_path / "control.sock")
    assert done.returncode == 3
    assert f"there is no control socket {tmp_path}/control.sock" in done.stderr
    assert "is the daemon running?" in done.stderr


def test_a_dead_daemon_is_3(tmp_path: Path) -> None:
    with control_daemon(tmp_path) as dead:
        dead.process.kill()
        dead.process.wait()
    done = mtactl("pid", socket=dead.path)
    assert done.returncode == 3
    assert "nobody listens on" in done.stderr


@pytest.mark.root
@pytest.mark.skipif(os.getuid() != 0, reason="only root can become another uid")
def test_a_socket_of_others_is_3_and_says_whose_it_is(daemon: ControlDaemon) -> None:
    command = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", *MTACTL, "pid"]
    done = subprocess.run(
        [*command, "--socket", daemon.path], capture_output=True, text=True, check=False
    )
    assert done.returncode == 3
    assert "(uid 65534) may not connect" in done.stderr


def test_waited_in_vain_is_4(daemon: ControlDaemon, tmp_path: Path) -> None:
    mtactl("listener", "stop", "lab", socket=daemon.path)
    assert mtactl("ready", "--wait", "0.2", socket=daemon.path).returncode == 4
    assert mtactl("ready", "--wait", "0.2", socket=tmp_path / "none").returncode == 4


def test_ready_waits_for_the_daemon_to_appear(tmp_path: Path) -> None:
    waiting = subprocess.Popen(
        [*MTACTL, "--socket", str(tmp_path / "control.sock"), "ready", "--wait"],
        stdout=subprocess.PIPE,
        text=True,
    )
    with waiting, control_daemon(tmp_path) as late:
        attacks.exchange(late.path, b"listener start mx lab\n")
        assert waiting.wait(attacks.PATIENCE) == 0


def test_a_given_socket_wins_over_the_environment(daemon: ControlDaemon, tmp_path: Path) -> None:
    nowhere = tmp_path / "none"
    for words in (("--socket", str(daemon.path), "pid"), ("pid", "--socket", str(daemon.path))):
        assert mtactl(*words, socket=nowhere).stdout == f"{daemon.process.pid}\n"


@pytest.mark.skipif(
    Path("/run/mtad/control.sock").exists(), reason="a daemon of the system is installed here"
)
def test_the_socket_of_a_daemon_without_root_is_found(tmp_path: Path) -> None:
    place = tmp_path / ".local/state/mtad"
    place.mkdir(parents=True)
    with control_daemon(place) as own:
        assert mtactl("pid", home=tmp_path).stdout == f"{own.process.pid}\n"


def test_json_before_or_after_the_command(daemon: ControlDaemon) -> None:
    before = mtactl("--json", "listener", "list", socket=daemon.path)
    after = mtactl("listener", "list", "--json", socket=daemon.path)
    assert before.stdout == after.stdout
    assert {row["name"] for row in json.loads(after.stdout)["listeners"]} == {"mx", "lab"}


def test_events_come_one_a_line_and_interruption_is_quiet(daemon: ControlDaemon) -> None:
    watching = subprocess.Popen(
        [*MTACTL, "--socket", str(daemon.path), "events"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    with watching:
        assert watching.stdout is not None
        done = threading.Event()
        poking = threading.Thread(target=_poke, args=(daemon.path, done))
        poking.start()
        line = watching.stdout.readline()
        done.set()
        poking.join()
        watching.send_signal(signal.SIGINT)
        _, stderr = watching.communicate(timeout=attacks.PATIENCE)
    assert line.split()[1:] == ["listener.running", "listener=mx"]
    assert (watching.returncode, stderr) == (130, "")


def _poke(path: Path, done: threading.Event) -> None:
    """Make events until somebody has seen one: it is not known when the watcher begins."""
    while not done.wait(0.05):
        attacks.exchange(path, b"listener start mx\n")


def test_a_reader_that_has_enough_is_no_error(daemon: ControlDaemon) -> None:
    done = threading.Event()
    poking = threading.Thread(target=_poke, args=(daemon.path, done))
    poking.start()
    command = " ".join([*MTACTL, "--socket", str(daemon.path), "events"])
    piped = subprocess.run(
        ["bash", "-o", "pipefail", "-c", f"{command} | head -n 1"],
        capture_output=True,
        text=True,
        timeout=attacks.PATIENCE,
        check=False,
    )
    done.set()
    poking.join()
    assert (piped.returncode, piped.stderr) == (0, "")
    assert len(piped.stdout.splitlines()) == 1


@pytest.mark.parametrize(
    "words", [("listener", "list"), ("--json", "listener", "list"), ("help",), ("--version",)]
)
def test_a_full_disk_is_said(daemon: ControlDaemon, words: tuple[str, ...]) -> None:
    with open("/dev/full", "wb") as full:  # noqa: PTH123 (a device)
        done = subprocess.run(
            [*MTACTL, "--socket", str(daemon.path), *words],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            timeout=attacks.PATIENCE,
            check=False,
        )
    assert done.returncode == 1
    reason = "mtactl: the standard output cannot be written: No space left on device\n"
    assert done.stderr == reason


def test_a_narrow_terminal_has_colours_and_every_word_in_one_piece(daemon: ControlDaemon) -> None:
    mtactl("listener", "start", "mx", socket=daemon.path)
    ours, theirs = pty.openpty()
    subprocess.run(
        [*MTACTL, "--socket", str(daemon.path), "listener", "list"],
        env={**os.environ, "TERM": "xterm", "COLUMNS": "12"},
        stdout=theirs,
        timeout=attacks.PATIENCE,
        check=True,
    )
    os.close(theirs)
    shown = os.read(ours, 65_536).decode()
    os.close(ours)
    _, mx, *_ = shown.split("\r\n")
    assert mx.startswith("mx    \x1b[32mrunning\x1b[0m         -         -  ")
    assert mx.endswith("  -")


def test_completion(daemon: ControlDaemon) -> None:
    def completions(words: str, count: int) -> list[str]:
        done = subprocess.run(
            MTACTL,
            env={
                **os.environ,
                "MTAD_SOCKET": str(daemon.path),
                "_MTACTL_COMPLETE": "bash_complete",
                "COMP_WORDS": words,
                "COMP_CWORD": str(count),
            },
            capture_output=True,
            text=True,
            check=False,
        )
        return [line.partition(",")[2] for line in done.stdout.splitlines()]

    assert completions("mtactl listener re", 2) == ["remove", "restart"]
    assert completions("mtactl log level ", 3) == ["debug", "info", "warning", "error"]
    assert completions("mtactl listener stop m", 3) == ["mx"]
    for shell in ("bash", "zsh", "fish"):
        assert "_MTACTL_COMPLETE" in mtactl("completion", shell).stdout


def test_help_needs_no_daemon(tmp_path: Path) -> None:
    done = mtactl("help", "listener", "stop", socket=tmp_path / "none")
    assert done.returncode == 0
    assert "mtactl listener stop [OPTIONS] [SELECTOR…]" in done.stdout


def test_pid_is_that_of_who_answers(daemon: ControlDaemon, tmp_path: Path) -> None:
    """Somebody may signal it: what another program says in the daemon's place is not told."""
    assert mtactl("pid", socket=daemon.path).stdout == f"{daemon.process.pid}\n"
    place = tmp_path / "planted.sock"
    with sockets.socket(sockets.AF_UNIX) as planted:
        planted.bind(str(place))
        planted.listen()

        def answer() -> None:
            connection, _ = planted.accept()
            with connection:
                connection.recv(4_096)
                connection.sendall(wire.result_line(1, {"pid": -1}))

        answering = threading.Thread(target=answer)
        answering.start()
        done = mtactl("pid", socket=place)
        answering.join()
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith(f"mtactl: process {os.getpid()} answers, and says that it is -1")
