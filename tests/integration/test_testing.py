"""mtad.testing: a daemon of a test run's own, and the plugin, in a project that uses them."""

from __future__ import annotations

import os
import re
import select
import shutil
import signal
import smtplib
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path
from xml.etree import ElementTree

import pytest
from harness.daemon import refuses, send, until

from mtad.errors import CommandError, ConfigError, MtadTimeoutError, UnavailableError
from mtad.testing import (
    AsyncListener,
    AsyncMessage,
    AsyncMtad,
    AsyncRule,
    Daemon,
    Message,
    Mtad,
    RuleSummary,
    Summary,
)

pytestmark = pytest.mark.integration

_EXAMPLE = Path(__file__).parents[1] / "example"

_HOLD_A_DAEMON = """
import sys
from mtad.testing import AsyncListener, AsyncMessage, AsyncMtad, Daemon, Message, Mtad, Summary
with Daemon() as daemon:
    print(daemon.process.pid, flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A copy of the example."""
    return shutil.copytree(_EXAMPLE, tmp_path / "project")


def run_pytest(project: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the tests of ``project`` as its owner would."""
    environment = {name: value for name, value in os.environ.items() if "PYTEST" not in name}
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *arguments],
        cwd=project,
        env=environment,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )


def test_a_daemon_while_the_block_runs() -> None:
    with Daemon() as daemon:
        with daemon.client.smtp() as client:
            client.sendmail("a@example.org", ["b@example.com"], b"\r\n")
        assert '"event": "daemon.ready"' in daemon.log
        port, directory, process = daemon.port, daemon.directory, daemon.process
    assert process.returncode == 0
    assert refuses("127.0.0.1", port)
    assert not directory.exists()


def test_it_is_the_present_user_and_holds_nothing() -> None:
    with Daemon() as daemon:
        answer = daemon.client.call("security")
    uids = {uid for process in answer["processes"] for uid in process["threads"][0]["uids"]}
    assert uids == {os.getuid()}
    held = {
        one["permitted"]["hex"] for process in answer["processes"] for one in process["threads"]
    }
    assert {int(sets, 16) for sets in held} == {0}


def test_two_daemons_do_not_meet() -> None:
    with Daemon() as one, Daemon() as other:
        assert one.port != other.port
        one.client.listener("mx").stop()
        assert refuses("127.0.0.1", one.port)
        assert not refuses("127.0.0.1", other.port)


def test_a_listener_comes_back_where_it_was() -> None:
    with Daemon() as daemon:
        port, mx = daemon.port, daemon.client.listener("mx")
        mx.stop()
        assert refuses("127.0.0.1", port)
        mx.start()
        assert daemon.port == port
        assert not refuses("127.0.0.1", port)


def test_a_client_with_a_run_sees_that_alone() -> None:
    with Daemon() as daemon:
        for tag in ("one", "two", "two"):
            send(daemon.port, b"Subject: x\r\nX-Mtad-Run: %s\r\n\r\n" % tag.encode())
        one, two = (Mtad(daemon.socket, run=tag) for tag in ("one", "two"))
        assert (one.wait_for().run, one.count(), two.count()) == ("one", 1, 2)
        assert one.count("subject:x OR subject:y") == 1
        with pytest.raises(MtadTimeoutError, match="; 1 came\n"):
            one.wait_for_all(count=2, timeout=0)
        assert two.delete() == 2
        assert [message.run for message in daemon.client.messages()] == ["one"]


def test_a_rule_while_the_block_runs() -> None:
    with Daemon() as daemon:
        client = daemon.client
        noop = {"at": "noop", "for": {"hits": 2}, "do": {"reply": "250 faulty"}}
        with client.rule(noop, name="r") as rule, client.smtp() as smtp:
            assert [smtp.noop()[1] for _ in range(3)] == [b"faulty", b"faulty", b"2.0.0 Ok"]
            (row,) = client.rules()
            assert (row.name, row.seen, row.fired, row.state) == ("r", 2, 2, "spent")
            assert (rule.name, rule.fired(), row.left) == ("r", 2, {"hits": 0})
            with pytest.raises(CommandError, match="a rule is called 'r' already"), rule:
                pass
            assert [one.name for one in client.rules()] == ["r"]
        assert client.rules() == []
        with client.rule("at: rcpt, where: {recipient: a@x}, do: {}") as one:
            assert client.explain("rcpt", recipient="A@x") == one.name
            assert client.explain("rcpt", recipient="b@x") is None
            client.call("rule.remove", all=True)


def test_a_rule_of_a_client_with_a_run_is_for_that_alone() -> None:
    with Daemon() as daemon:
        mine = Mtad(daemon.socket, run="mine")
        with mine.rule("at: message, do: {reply: 554 no}"):
            with pytest.raises(smtplib.SMTPDataError):
                send(daemon.port, b"X-Mtad-Run: mine\r\n\r\n")
            send(daemon.port, b"X-Mtad-Run: yours\r\n\r\n")


def test_a_large_message_is_whole() -> None:
    """It comes over the control socket in pieces."""
    sent = b"Subject: large\r\n\r\n" + b"%063d\r\n" * 40_000
    with Daemon() as daemon:
        send(daemon.port, sent)
        assert daemon.client.wait_for().raw() == sent


def test_a_session_without_a_message_has_a_transcript() -> None:
    with Daemon() as daemon:
        with daemon.client.smtp() as client:
            client.docmd("NONSENSE")
        session = until(daemon.client.sessions)[0]
        assert (session.listener, session.messages, session.failed) == ("mx", 0, True)
        assert session.replies == {220: 1, 502: 1, 221: 1}
        assert "C NONSENSE" in daemon.client.transcript(session)


def test_what_hinders_a_start_is_told(tmp_path: Path) -> None:
    with (
        pytest.raises(UnavailableError, match=r"status 1\n.*listne: unknown option"),
        Daemon({"listeners": {"mx": {"listne": ""}}}),
    ):
        pass
    (tmp_path / "mtad.yaml").write_text("listeners: [")
    with pytest.raises(ConfigError, match="not YAML"), Daemon(tmp_path / "mtad.yaml"):
        pass


def test_a_long_name_of_the_temporary_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A unix socket's path is short (unix(7))."""
    long = tmp_path / ("long" * 25)
    long.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(long))
    with Daemon() as daemon:
        assert daemon.client.call("pid")["pid"] == daemon.process.pid
    assert list(long.iterdir()) == []


def test_it_ends_with_whoever_started_it(tmp_path: Path) -> None:
    """Even killed: nothing is left to run."""
    with subprocess.Popen(
        [sys.executable, "-c", _HOLD_A_DAEMON],
        env={**os.environ, "TMPDIR": str(tmp_path)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as holder:
        assert holder.stdout is not None
        daemon = os.pidfd_open(int(holder.stdout.readline()))
        try:
            assert select.select([daemon], [], [], 0)[0] == []
            holder.send_signal(signal.SIGKILL)
            assert select.select([daemon], [], [], 10)[0] == [daemon]
        finally:
            os.close(daemon)


def test_the_example_passes(project: Path) -> None:
    ran = run_pytest(project)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert "failed" not in ran.stdout


def properties(report: Path, name: str) -> Iterator[str]:
    """Yield the values that tests recorded under ``name``."""
    for found in ElementTree.parse(report).iter("property"):  # noqa: S314 (pytest wrote it)
        if found.get("name") == name:
            yield found.get("value", "")


def test_the_example_passes_in_two_processes(project: Path) -> None:
    """Each has a daemon of its own."""
    ran = run_pytest(project, "-n", "2", "--junitxml", "report.xml")
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert len(set(properties(project / "report.xml", "daemon"))) == 2


@pytest.mark.parametrize("processes", [[], ["-n", "2"]], ids=["one", "two"])
def test_a_failure_shows_the_transcript(project: Path, processes: list[str]) -> None:
    ran = run_pytest(project, "tests/failing.py", *processes)
    assert ran.returncode == 1, ran.stdout + ran.stderr
    assert "1 failed" in ran.stdout
    error, _, sections = ran.stdout.partition("-- mtad: session ")
    assert "waited 0.5 s in vain for a message that matches 'to:bob@example.com'" in error
    assert "to <ann@example.com>  subject 'Welcome: confirm your address'" in error
    assert not re.search(r"mtad/(control|testing)/", error), "only the test's own line"
    for line in ("S 220 ", "C rcpt TO:<ann@example.com>", "S 354 ", "- mtad: log -"):
        assert line in sections
    assert '"event": "daemon.ready"' in sections.partition("mtad: log")[2]


def test_a_success_shows_none(project: Path) -> None:
    ran = run_pytest(project, "-rA", "-k", "link")
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert "mtad: " not in ran.stdout


_DOES_NOT_USE_IT = """
import sys

def test_nothing_of_it_is_loaded():
    assert "mtad.testing.plugin" in sys.modules
    ours = {name for name in sys.modules if name.partition(".")[0] == "mtad"}
    assert ours == {"mtad", "mtad.testing", "mtad.testing.plugin"}
    assert not {"msgspec", "yaml", "aiosmtpd", "uvloop"} & set(sys.modules)

def test_that_fails():
    assert 0
"""


def test_a_project_that_does_not_use_it_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "test_it.py").write_text(_DOES_NOT_USE_IT)
    ran = run_pytest(tmp_path)
    assert "1 failed, 1 passed" in ran.stdout, ran.stdout
    assert "mtad: " not in ran.stdout
    assert run_pytest(tmp_path, "-p", "no:mtad", "-k", "loaded").returncode == 1


@pytest.mark.parametrize("page", ["testing.md", "scenarios.md"])
def test_what_the_manual_shows_passes(tmp_path: Path, page: str) -> None:
    """Every block of Python of a page, in the file that its first line names."""
    text = (Path(__file__).parents[2] / "docs" / page).read_text()
    blocks = re.findall(r"```python\n# (\S+)\n(.*?)```", text, re.DOTALL)
    assert len(blocks) == text.count("```python")
    for name, block in blocks:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(block)
    ran = run_pytest(tmp_path)
    assert ran.returncode == 0, ran.stdout + ran.stderr


def test_the_manual_has_every_method() -> None:
    """And every field of a message, fixture and option."""
    text = (Path(__file__).parents[2] / "docs/testing.md").read_text()
    names = [field.name for kind in (Summary, RuleSummary) for field in fields(kind)]
    for kind in (Mtad, AsyncMtad, Message, AsyncMessage, AsyncListener, AsyncRule):
        names += [name for name in vars(kind) if not name.startswith("_")]
    names.remove("asynchronous")
    missing = [name for name in names if not re.search(rf"[`.,( ]{name}[`(,]", text)]
    assert missing == []
