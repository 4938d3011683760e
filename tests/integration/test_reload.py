"""A new configuration for a running daemon: all of it or nothing, and sessions live on."""

from __future__ import annotations

import smtplib
import socket
from collections.abc import Callable
from pathlib import Path

import pytest
from harness.daemon import Daemon, config, refuses, send, until

pytestmark = [
    pytest.mark.integration,
    pytest.mark.root,
    pytest.mark.netns,
    pytest.mark.usefixtures("netns"),
]

Start = Callable[..., Daemon]


def listeners(*lines: str) -> str:
    return "".join(f"  {line}\n" for line in lines)


def rewrite(daemon: Daemon, *lines: str, **options: str) -> None:
    """Give the daemon's file other listeners."""
    text = config(daemon.directory, **options)  # type: ignore[arg-type]  # words for words
    head, _, rest = text.partition("listeners:\n")
    tail = rest[rest.index("control:") :]
    daemon.config.write_text(f"{head}listeners:\n{listeners(*lines)}{tail}")


def names(daemon: Daemon) -> dict[str, str]:
    return {row["name"]: row["state"] for row in daemon.call("listener.list")["listeners"]}


def test_what_did_not_change_keeps_its_sessions(started: Start) -> None:
    """Mark and sweep on name and endpoint."""
    daemon = started(listen="127.0.0.1:25")
    with smtplib.SMTP("127.0.0.1", 25) as client:
        rewrite(daemon, "mx: {listen: '127.0.0.1:25'}", "two: {listen: '127.0.0.2:25'}")
        answer = daemon.mtactl("config", "reload")
        assert answer.returncode == 0, answer.stderr
        assert "two: new, 127.0.0.2:25" in answer.stdout
        assert client.noop()[0] == 250
    assert names(daemon) == {"mx": "running", "two": "running"}
    send(25, host="127.0.0.2")
    rewrite(daemon, "two: {listen: '127.0.0.2:25'}")
    daemon.call("config.reload")
    assert names(daemon) == {"two": "running"}
    assert refuses("127.0.0.1", 25)


def test_another_protocol(started: Start) -> None:
    """What is listed is what is spoken; sessions go on as they began."""
    daemon = started(listen="127.0.0.1:25")
    with smtplib.SMTP("127.0.0.1", 25) as old:
        rewrite(daemon, "mx: {listen: '127.0.0.1:25', protocol: lmtp}")
        assert daemon.call("config.reload")["changes"] == ["mx: protocol smtp → lmtp"]
        assert old.ehlo()[0] == 250
    with smtplib.LMTP("127.0.0.1", 25) as new:
        assert new.ehlo()[0] == 250


@pytest.mark.parametrize(
    ("before", "after"), [("127.0.0.1:25", "*:25"), ("0.0.0.0:25", "127.0.0.1:25")]
)
def test_between_specific_and_wildcard_in_one_reload(
    started: Start, before: str, after: str
) -> None:
    """The old one makes room for the new one."""
    daemon = started(listen=before)
    rewrite(daemon, f"mx: {{listen: '{after}'}}")
    answer = daemon.call("config.reload")
    assert answer["ok"], answer
    assert answer["changes"] == [f"mx: {before} → {after}"]
    send(25)
    assert daemon.call("listener.show", name="mx")["listener"]["endpoint"] == after


def test_all_or_nothing(started: Start) -> None:
    """One listener that cannot be opened, and everything stays; the answer says why."""
    daemon = started(listen="127.0.0.1:25")
    with socket.create_server(("127.0.0.9", 25)):
        rewrite(
            daemon,
            "mx: {listen: '0.0.0.0:25'}",
            "fresh: {listen: '127.0.0.8:26'}",
        )
        answer = daemon.mtactl("config", "reload")
        assert answer.returncode == 1
        assert "cannot listen on 0.0.0.0:25: Address already in use" in answer.stderr
        assert names(daemon) == {"mx": "running"}
        send(25)
        assert refuses("127.0.0.8", 26)
    assert daemon.mtactl("config", "reload").returncode == 0
    send(25, host="127.0.0.77")


def test_problems_come_together_and_nothing_is_touched(started: Start) -> None:
    """`config check` and `config reload` name file and line of every mistake."""
    daemon = started(listen="127.0.0.1:25")
    rewrite(daemon, "mx: {listen: 'nowhere:25'}", "two: {lisen: '127.0.0.2:25'}")
    for command in ("check", "reload"):
        answer = daemon.mtactl("config", command)
        assert answer.returncode == 1
        told = answer.stdout + answer.stderr
        assert f"{daemon.config}:5: listeners.mx.listen" in told
        assert f"{daemon.config}:6: listeners.two.lisen" in told
    send(25)


def test_security_is_not_dynamic(started: Start) -> None:
    """A reload that changes it changes nothing, says so, and `config show` tells what is."""
    daemon = started(listen="127.0.0.1:25")
    rewrite(daemon, "mx: {listen: '127.0.0.1:25'}", user="nobody", capabilities="cap_net_raw+ep")
    answer = daemon.mtactl("config", "reload")
    assert answer.returncode == 0
    assert "security has changed: a restart is needed" in answer.stdout
    assert daemon.mtactl("security").returncode == 0
    shown = daemon.call("config.show")["stanzas"]["security"]["value"]
    assert (shown["user"], shown["capabilities"]) == ("ecuser", "cap_net_bind_service+ep")


def test_a_stanza_of_a_later_file_wins(started: Start, directory: Path) -> None:
    """`config show` names the file that won."""
    second = directory / "second.yaml"
    second.write_text("profiles: {default: {hostname: second.example}}\n")
    with Daemon(directory, config(directory, listen="127.0.0.1:25"), files=[second]) as daemon:
        daemon.wait_ready()
        with smtplib.SMTP("127.0.0.1", 25) as client:
            assert b"second.example" in client.ehlo()[1]
        stanzas = daemon.call("config.show")["stanzas"]
        assert stanzas["profiles"]["source"] == str(second)
        assert stanzas["listeners"]["source"] == str(daemon.config)
        assert stanzas["workers"]["source"] == str(daemon.config)
        assert stanzas["log"]["source"] is None


def test_profile_backlog_and_enabled_change_in_place(started: Start) -> None:
    """What needs no new socket gets none: the session of before goes on."""
    daemon = started(listen="127.0.0.1:25")
    with smtplib.SMTP("127.0.0.1", 25) as client:
        rewrite(
            daemon,
            "mx: {listen: '127.0.0.1:25', profile: slow, backlog: 7}",
        )
        with daemon.config.open("a") as file:
            file.write("profiles: {slow: {hostname: slow.example}}\n")
        daemon.call("config.reload")
        assert client.noop()[0] == 250
    with smtplib.SMTP("127.0.0.1", 25) as client:
        assert b"slow.example" in client.ehlo()[1]
    rewrite(daemon, "mx: {listen: '127.0.0.1:25', enabled: false}")
    daemon.call("config.reload")
    assert refuses("127.0.0.1", 25)
    rewrite(daemon, "mx: {listen: '127.0.0.1:25'}")
    daemon.call("config.reload")
    send(25)


def test_what_was_done_by_hand_stays(started: Start) -> None:
    """A listener stopped by hand stays stopped, one added by hand stays."""
    daemon = started(listen="127.0.0.1:25")
    daemon.call("listener.stop", selectors=["mx"])
    daemon.call("listener.add", name="lab", endpoint="127.0.0.7:25")
    daemon.call("config.reload")
    assert names(daemon) == {"mx": "stopped", "lab": "running"}


def test_the_number_of_workers_changes(started: Start) -> None:
    """More are started, too many are ended; mail arrives all the while."""
    daemon = started(listen="127.0.0.1:25")
    for number in (3, 1):
        rewrite(daemon, "mx: {listen: '127.0.0.1:25'}", workers=str(number))
        daemon.call("config.reload")
        wanted = ["serving"] * number
        until(lambda: [w["state"] for w in daemon.call("workers")["workers"]] == wanted)  # noqa: B023
        send(25)


def test_a_role_is_given_and_taken_by_a_reload(started: Start) -> None:
    """Named in control.observe, a user may look from then on, and no longer when it is gone."""
    daemon = started(listen="127.0.0.1:25")
    before = daemon.config.read_text()
    assert "may not use this socket" in daemon.mtactl("status", user="nobody").stderr
    daemon.config.write_text(before.replace("control:\n", "control:\n  observe: [nobody]\n"))
    answer = daemon.mtactl("config", "reload")
    assert "control.observe: [] → ['nobody']" in answer.stdout
    assert daemon.mtactl("status", user="nobody").returncode == 0
    assert daemon.mtactl("listener", "stop", "mx", user="nobody").returncode == 1
    daemon.config.write_text(before)
    daemon.call("config.reload")
    assert "may not use this socket" in daemon.mtactl("status", user="nobody").stderr


def test_a_reload_tells_everything_that_it_changes(started: Start) -> None:
    """Not listeners alone."""
    daemon = started(listen="127.0.0.1:25")
    daemon.config.write_text(daemon.config.read_text().replace("drain: 5", "drain: 7"))
    for command in ("check", "reload"):
        assert "drain: 5.0 → 7.0" in daemon.mtactl("config", command).stdout
    assert daemon.call("config.reload")["changes"] == []
