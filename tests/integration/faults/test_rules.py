"""Fault rules while the daemon runs: counted for all workers, changed, reloaded, over."""

from __future__ import annotations

import asyncio
import os
import signal
import smtplib
import socket
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from harness.daemon import Daemon, send, until

from mtad.errors import CommandError

pytestmark = [pytest.mark.integration, pytest.mark.root]

Start = Callable[..., Daemon]

LATER = "do: {reply: 450 4.2.0 Later}"
OK = b"2.0.0 Ok"
NOOP = "at: noop, do: {reply: 250 faulty}"


def two_workers(started: Start, **options: Any) -> Daemon:
    daemon = started(workers=2, **options)
    until(lambda: daemon.call("summary")["workers"]["serving"] == 2)
    return daemon


def row(daemon: Daemon, name: str) -> dict[str, Any]:
    shown: dict[str, Any] = daemon.call("rule.show", name=name)["rule"]
    return shown


def names(daemon: Daemon) -> list[str]:
    return [one["name"] for one in daemon.call("rule.list")["rules"]]


def noop(daemon: Daemon) -> bytes:
    """Return what a new session is answered."""
    with smtplib.SMTP("127.0.0.1", daemon.port(), timeout=10) as client:
        return client.noop()[1]


def happened(daemon: Daemon, name: str) -> list[dict[str, Any]]:
    return [event for event in daemon.events() if event["event"] == name]


async def _codes(port: int, commands: int) -> list[bytes]:
    """Return the codes that a session is answered to so many RCPT."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"EHLO c\r\nMAIL FROM:<a@example.org>\r\n")
    for _ in range(commands):
        writer.write(b"RCPT TO:<b@example.com>\r\n")
    writer.write(b"QUIT\r\n")
    lines = (await reader.read()).splitlines()
    writer.close()
    await writer.wait_closed()
    return [line[:3] for line in lines if line[3:4] == b" "][3:-1]


def test_exact_under_200_connections_and_two_workers(started: Start) -> None:
    """The first 100 get 450: exactly 100 do, and each of the others is accepted."""
    daemon = two_workers(started)
    daemon.call("rule.add", name="busy", text=f"at: rcpt, when: {{first: 100}}, {LATER}")
    port = daemon.port()

    async def run() -> list[bytes]:
        async with asyncio.timeout(60):
            found = await asyncio.gather(*(_codes(port, 3) for _ in range(200)))
        return [code for codes in found for code in codes]

    codes = asyncio.run(run())
    assert len(codes) == 600
    assert codes.count(b"450") == 100
    assert codes.count(b"250") == 500
    shown = row(daemon, "busy")
    assert (shown["seen"], shown["fired"]) == (600, 100)
    until(lambda: not any(worker["sessions"] for worker in daemon.call("workers")["workers"]))


def test_hits_are_exact_too(started: Start) -> None:
    """A rule that may fire so often, with the workers racing for the last."""
    daemon = two_workers(started)
    daemon.call("rule.add", name="few", text=f"at: rcpt, {LATER}, for: {{hits: 50}}")

    async def run(port: int) -> list[bytes]:
        async with asyncio.timeout(60):
            found = await asyncio.gather(*(_codes(port, 1) for _ in range(100)))
        return [code for codes in found for code in codes]

    codes = asyncio.run(run(daemon.port()))
    assert (codes.count(b"450"), codes.count(b"250")) == (50, 50)
    shown = row(daemon, "few")
    assert (shown["fired"], shown["state"], shown["left"]) == (50, "spent", {"hits": 0})
    assert [(one["rule"], one["hits"]) for one in happened(daemon, "rule.spent")] == [("few", 50)]


def test_whoever_connects_after_the_answer_meets_the_new_rules(started: Start) -> None:
    daemon = two_workers(started)
    for number in range(25):
        daemon.call("rule.add", name="r", text=f"at: noop, do: {{reply: 250 {number}}}")
        assert [noop(daemon) for _ in range(4)] == [b"%d" % number] * 4
        daemon.call("rule.change", name="r", text="at: noop, do: {reply: 250 changed}")
        assert {noop(daemon) for _ in range(4)} == {b"changed"}
        daemon.call("rule.disable", names=["r"])
        assert {noop(daemon) for _ in range(4)} == {OK}
        daemon.call("rule.remove", names=["r"])


def test_a_session_has_the_rules_that_there_were_when_it_began(started: Start) -> None:
    daemon = started()
    with smtplib.SMTP("127.0.0.1", daemon.port(), timeout=10) as before:
        daemon.call("rule.add", name="r", text=NOOP)
        with smtplib.SMTP("127.0.0.1", daemon.port(), timeout=10) as after:
            assert (before.noop()[1], after.noop()[1]) == (OK, b"faulty")
            daemon.call("rule.remove", names=["r"])
            assert (before.noop()[1], after.noop()[1]) == (OK, b"faulty")
    assert noop(daemon) == OK


def test_who_has_read_a_reply_finds_it_counted(started: Start) -> None:
    """Also where nobody had to be asked: by a reply, a FIN and a RST."""
    daemon = two_workers(started)
    daemon.call("rule.add", name="reply", text=NOOP)
    for name, end in (("rset", "fin"), ("help", "rst")):
        daemon.call("rule.add", name=end, text=f"at: {name}, do: {{close: {end}}}")
    port = daemon.port()
    for number in range(1, 31):
        with smtplib.SMTP("127.0.0.1", port, timeout=10) as client:
            client.noop()
            assert row(daemon, "reply")["fired"] == number
        for command, end in ((b"RSET", "fin"), (b"HELP", "rst")):
            with socket.create_connection(("127.0.0.1", port), 10) as client:
                client.recv(1000)
                client.sendall(command + b"\r\n")
                try:
                    assert client.recv(1000) == b""
                except ConnectionResetError:
                    assert end == "rst"
                assert row(daemon, end)["fired"] == number


@pytest.mark.parametrize("counted", ["when: {first: 6}, ", ""])
def test_a_killed_worker_takes_no_counts_with_it(started: Start, counted: str) -> None:
    daemon = two_workers(started)
    daemon.call("rule.add", name="r", text=f"at: noop, {counted}do: {{reply: 250 faulty}}")
    for number in range(1, 4):
        assert [noop(daemon) for _ in range(2)] == [b"faulty"] * 2
        assert row(daemon, "r")["fired"] == 2 * number
        for worker in daemon.workers():
            os.kill(worker, signal.SIGKILL)
        until(lambda: daemon.call("summary")["workers"]["serving"] == 2)
        assert row(daemon, "r")["fired"] == 2 * number
    assert noop(daemon) == (OK if counted else b"faulty"), "new workers have the rules"


def test_a_worker_that_dies_while_it_asks(started: Start) -> None:
    """Its sessions die with it, the answer goes nowhere, and all others go on."""
    daemon = started()
    daemon.call("rule.add", name="r", text=f"at: rcpt, when: {{first: 100000}}, {LATER}")
    port = daemon.port()
    with ExitStack() as clients:
        for _ in range(20):
            client = clients.enter_context(socket.create_connection(("127.0.0.1", port), 10))
            client.sendall(b"EHLO c\r\nMAIL FROM:<a@b.c>\r\n" + b"RCPT TO:<a@b.c>\r\n" * 50)
        (worker,) = daemon.workers()
        os.kill(worker, signal.SIGKILL)
    until(lambda: daemon.workers() not in ([], [worker]))
    until(lambda: daemon.call("summary")["workers"]["serving"] == 1)
    before = row(daemon, "r")["fired"]
    with pytest.raises(smtplib.SMTPRecipientsRefused):
        send(port)
    assert row(daemon, "r")["fired"] > before
    assert "Traceback" not in daemon.log.read_text()


RULES = """\
rules:
  kept: {at: noop, when: {first: 2}, do: {reply: 250 kept}}
  other: {at: rset, do: {reply: 250 one}}
"""


def test_a_message_of_which_a_chunk_was_refused_is_refused(started: Start) -> None:
    """Be it the first, and the others pipelined behind it (RFC 3030 section 2)."""
    daemon = started()
    daemon.call("rule.add", name="r", text=f"at: bdat, when: {{first: 1}}, {LATER}")
    with smtplib.SMTP("127.0.0.1", daemon.port(), timeout=10) as client:
        client.ehlo()
        client.mail("a@example.org")
        client.rcpt("b@example.com")
        client.send(b"BDAT 3\r\noneBDAT 3\r\ntwoBDAT 5 LAST\r\nthree")
        assert [client.getreply()[0] for _ in range(3)] == [450, 450, 450]
        client.mail("a@example.org")
        client.rcpt("b@example.com")
        client.send(b"BDAT 4\r\nfourBDAT 4 LAST\r\nfive")
        assert [client.getreply()[0] for _ in range(2)] == [250, 250]
    (message,) = daemon.call("message.list")["messages"]
    assert message["size"] == 8


def test_reload(started: Start) -> None:
    """What says the same keeps its counts; a set with a mistake changes nothing."""
    daemon = two_workers(started, extra=RULES)
    assert noop(daemon) == b"kept"
    daemon.call("rule.add", name="mine", text="at: help, do: {reply: 214 mine}")
    text = daemon.config.read_text()

    daemon.config.write_text(text.replace("reply: 250 one", "reply: 250 two").replace("1M", "2M"))
    answer = daemon.call("config.reload")
    assert answer["changes"] == ["rule other: changed"]
    assert names(daemon) == ["mine", "kept", "other"]
    assert row(daemon, "kept")["fired"] == 1
    with smtplib.SMTP("127.0.0.1", daemon.port(), timeout=10) as client:
        assert client.rset()[1] == b"two"
        assert [client.noop()[1] for _ in range(2)] == [b"kept", OK]

    daemon.config.write_text(
        text.replace("reply: 250 one", "reply: 99 three").replace("at: noop", "at: nope")
    )
    answer = daemon.call("config.reload")
    assert not answer["ok"]
    first, second = answer["problems"]
    assert "rules.kept.at: 'nope' is no moment of a session" in first
    assert "rules.other.do.reply" in second
    with smtplib.SMTP("127.0.0.1", daemon.port(), timeout=10) as client:
        assert client.rset()[1] == b"two"

    changed = daemon.call("rule.change", name="kept", text=NOOP)
    assert changed["notes"] == ["kept is as it is written again after the next reload"]
    removed = daemon.call("rule.remove", names=["kept", "mine"])
    assert removed["notes"] == ["kept comes back with the next reload"]
    daemon.config.write_text(text)
    lines = daemon.call("config.check")["changes"]
    assert lines == daemon.call("config.reload")["changes"]
    assert lines == ["rule kept: new", "rule other: changed"]
    assert noop(daemon) == b"kept"


def test_a_listener_that_a_reload_opens_has_the_rules_that_it_brings(started: Start) -> None:
    daemon = started()
    text = daemon.config.read_text()
    for number in range(10):
        more = f"  new{number}:\n    listen: '127.0.0.1:0'\n"
        rules = f"rules: {{r: {{at: banner, do: {{reply: 220 {number}}}}}}}\n"
        daemon.config.write_text(text.replace("listeners:\n", "listeners:\n" + more) + rules)
        daemon.call("config.reload")
        with socket.create_connection(("127.0.0.1", daemon.port(f"new{number}")), 10) as client:
            assert client.recv(1000) == b"220 %d\r\n" % number


def test_a_profiles_rules_are_for_its_listeners_also_for_those_that_are_added(
    started: Start,
) -> None:
    busy = "busy: {tls: off, rules: {r: {at: noop, do: {reply: 250 faulty}}}}"
    daemon = started(extra=f"profiles: {{{busy}}}\n")
    assert names(daemon) == ["busy/r"]
    assert noop(daemon) == OK
    daemon.call("listener.add", name="b", endpoint="127.0.0.1:0", profile="busy")
    with smtplib.SMTP("127.0.0.1", daemon.port("b"), timeout=10) as client:
        assert client.noop()[1] == b"faulty"
    daemon.call("rule.change", name="busy/r", text="at: noop, do: {reply: 250 changed}")
    with smtplib.SMTP("127.0.0.1", daemon.port("b"), timeout=10) as client:
        assert client.noop()[1] == b"changed"
    assert noop(daemon) == OK


def test_a_listener_that_gets_another_profile_has_its_rules(started: Start) -> None:
    """Whoever connects after the answer meets them, at whichever worker."""
    profiles = "".join(
        f"  {name}: {{tls: off, rules: {{r: {{at: noop, do: {{reply: 250 {name}}}}}}}}}\n"
        for name in ("one", "two")
    )
    daemon = two_workers(started, extra=f"profiles:\n{profiles}")
    text = daemon.config.read_text()
    for name in ("one", "two") * 8:
        daemon.config.write_text(text.replace("  mx:\n", f"  mx:\n    profile: {name}\n"))
        assert daemon.call("config.reload")["notes"] == []
        assert {noop(daemon) for _ in range(4)} == {name.encode()}


def test_over_after_its_time(started: Start) -> None:
    daemon = started()
    daemon.call("rule.add", name="r", text=f"{NOOP}, for: {{seconds: 3}}")
    assert noop(daemon) == b"faulty"
    assert 0 < row(daemon, "r")["left"]["seconds"] <= 3
    until(lambda: row(daemon, "r")["state"] == "expired")
    until(lambda: noop(daemon) == OK)
    assert [one["rule"] for one in happened(daemon, "rule.expired")] == ["r"]


def test_of_a_test_run_and_gone_with_it(started: Start) -> None:
    daemon = started()
    text = "at: message, do: {reply: 554 5.0.0 Not you}"
    for name in ("a", "b"):
        daemon.call("rule.add", name=name, text=text, for_run="ci-17")
    daemon.call("rule.add", name="c", text="at: noop, do: {}")
    with pytest.raises(CommandError, match="run is not known at banner"):
        daemon.call("rule.add", name="d", text="at: banner, do: {delay: 5}", for_run="ci-17")
    with pytest.raises(smtplib.SMTPDataError):
        send(daemon.port(), b"X-Mtad-Run: ci-17\r\n\r\n")
    send(daemon.port(), b"X-Mtad-Run: ci-18\r\n\r\n")
    assert row(daemon, "a")["run"] == "ci-17"
    assert daemon.call("rule.remove", for_run="ci-17")["removed"] == ["a", "b"]
    assert names(daemon) == ["c"]
    assert daemon.call("rule.remove", for_run="ci-17")["removed"] == []
    send(daemon.port(), b"X-Mtad-Run: ci-17\r\n\r\n")


def test_a_frozen_worker_is_told_of(started: Start) -> None:
    """Two seconds, and then which worker has not said yet that it has the rules."""
    daemon = two_workers(started)
    frozen = daemon.call("workers")["workers"][0]
    os.kill(frozen["pid"], signal.SIGSTOP)
    began = time.monotonic()
    answer = daemon.call("rule.add", name="r", text=NOOP)
    assert 1.9 < time.monotonic() - began < 4
    assert answer["notes"] == [f"worker {frozen['id']} has not said yet that it has these rules"]
    os.kill(frozen["pid"], signal.SIGCONT)
    assert daemon.call("rule.enable", names=["r"])["notes"] == []
    assert {noop(daemon) for _ in range(8)} == {b"faulty"}


def test_a_rule_that_is_wrong_is_refused_with_its_place(started: Start) -> None:
    daemon = started()
    with pytest.raises(CommandError) as raised:
        daemon.call("rule.add", name="r", text="at: rcpt\ndo: {reply: 99}\nwhen: {nth: 0}\n")
    problems = raised.value.message.splitlines()
    assert [one.split(": ")[0] for one in problems if not one.startswith(" ")] == [
        "rule r:2",
        "rule r:3",
    ]
    with pytest.raises(CommandError, match="'a b' is not a name"):
        daemon.call("rule.add", name="a b", text=NOOP)
    assert names(daemon) == []


def test_files_are_loaded_whole_or_not_at_all(started: Start, directory: Path) -> None:
    daemon = started()
    file = directory / "faults.yaml"
    file.write_text(f"rules:\n  one: {{{NOOP}}}\n  two: {{at: rset, do: {{}}}}\n")
    daemon.call("rule.add", name="mine", text="at: rset, do: {}")
    loaded = daemon.mtactl("rule", "load", str(file))
    assert loaded.returncode == 0, loaded.stderr
    assert names(daemon) == ["mine", "one", "two"]
    assert noop(daemon) == b"faulty"
    assert "a rule is called 'one' already" in daemon.mtactl("rule", "load", str(file)).stderr
    file.write_text("rules:\n  three: {at: rset, do: {}}\n  four: {at: nope, do: {}}\n")
    refused = daemon.mtactl("rule", "load", str(file), "--replace")
    assert refused.returncode == 1
    assert f"{file}:3: rules.four.at: 'nope' is no moment" in refused.stderr
    assert names(daemon) == ["mine", "one", "two"]
    file.write_text("rules:\n  three: {at: rset, do: {}}\n")
    assert daemon.mtactl("rule", "load", str(file), "--replace").returncode == 0
    assert names(daemon) == ["three"]
    file.write_text("#" * 65_600)
    assert "do not go into one line" in daemon.mtactl("rule", "load", str(file)).stderr
    assert "No such file" in daemon.mtactl("rule", "load", str(directory / "none")).stderr


def test_explained_and_nothing_is_counted(started: Start) -> None:
    daemon = started()
    daemon.call("rule.add", name="to", text=f"at: rcpt, where: {{recipient: '*@x'}}, {LATER}")
    daemon.call("rule.add", name="few", text=f"at: rcpt, when: {{first: 1}}, {LATER}")
    asked = {"at": "rcpt", "recipient": "a@y"}
    assert daemon.call("rule.explain", **asked)["fires"] == "few"
    answer = daemon.call("rule.explain", **asked)
    assert answer["fires"] == "few"
    assert [one["fires"] for one in answer["rules"]] == [False, True]
    assert "recipient a@y" in answer["rules"][0]["reason"]
    assert daemon.call("rule.explain", at="rcpt", recipient="a@X")["fires"] == "to"
    assert daemon.call("rule.explain", at="byte 10")["rules"] == []
    with pytest.raises(CommandError, match="no listener is called 'x'"):
        daemon.call("rule.explain", at="rcpt", listener="x")
    with pytest.raises(CommandError, match="'rctp' is no moment"):
        daemon.call("rule.explain", at="rctp")
    assert {one["seen"] for one in daemon.call("rule.list")["rules"]} == {0}


def test_who_may_look_and_who_may_change(started: Start) -> None:
    daemon = started(extra="")
    text = daemon.config.read_text().replace("control:\n", "control:\n  observe: [nobody]\n")
    daemon.config.write_text(text)
    daemon.call("config.reload")
    daemon.call("rule.add", name="r", text=NOOP)
    assert daemon.mtactl("rule", "list", user="nobody").returncode == 0
    assert daemon.mtactl("rule", "show", "r", user="nobody").returncode == 0
    for words in (
        ("add", "x", NOOP),
        ("load", str(daemon.config)),
        ("change", "r", NOOP),
        ("disable", "r"),
        ("enable", "r"),
        ("reset", "r"),
        ("remove", "r"),
        ("explain", "--at", "noop"),  # it runs patterns on what the caller says
    ):
        refused = daemon.mtactl("rule", *words, user="nobody")
        assert "may not run `rule" in refused.stderr, words
    (asked,) = (one for one in happened(daemon, "control") if one["command"] == "rule add")
    assert (asked["user"], asked["params"]["name"]) == ("root", "r")
    (added,) = happened(daemon, "rule.added")
    assert (added["rule"], added["by"]) == ("r", "root (uid 0)")


def test_plain_lines(started: Start) -> None:
    daemon = started()

    def said(line: str) -> str:
        with socket.socket(socket.AF_UNIX) as client:
            client.connect(str(daemon.socket))
            client.sendall(line.encode() + b"\n")
            client.shutdown(socket.SHUT_WR)
            return b"".join(iter(lambda: client.recv(65_536), b"")).decode()

    assert said("rule list") == "no rules\n"
    assert said(f"rule add r '{NOOP}' --for-run ci").split()[:2] == ["NAME", "AT"]
    assert "run ci" in said("rule list")
    assert "at: noop" in said("rule show r")
    assert said("rule remove --for-run ci") == "r\n"
    assert said("rule remove --for-run ci") == "there was none\n"
    assert said("rule remove") == (
        "error: rule remove needs NAME… or --all or --for-run RUN\n"
        "help: usage: rule remove [NAME…] [--all] [--for-run RUN]\n"
    )
