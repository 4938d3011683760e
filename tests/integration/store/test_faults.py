"""What cannot be kept is refused, and said to be; when it can, it is, without a restart."""

from __future__ import annotations

import fcntl
import os
import re
import shutil
import signal
import smtplib
import subprocess
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, ExitStack, closing, contextmanager, suppress
from pathlib import Path
from random import Random

import pytest
from harness import clock, mail_db
from harness.daemon import Daemon, until
from harness.ledger import Ledger, Senders
from harness.mounts import Disk, missing_disk, mount, private_mounts
from rig import proc

from mtad.store.schema import VERSION

pytestmark = [pytest.mark.integration, pytest.mark.root]

Start = Callable[..., Daemon]

WORKERS = 2
FULL, FAILED = "452 4.3.1", "451 4.3.0"
# A worker tries again each second; who is refused has waited for 5.5 s, and for the machine.
PATIENCE = 15.0
AT_ONCE = 10.0


@pytest.fixture
def ledger() -> Ledger:
    return Ledger(1)


class Sender:
    """Delivers messages one after another, and enters them in a ledger."""

    def __init__(self, daemon: Daemon, ledger: Ledger) -> None:
        self.daemon = daemon
        self.ledger = ledger
        self._chance = Random(2)
        self._port = daemon.port()

    def send(self, size: int = 2_000) -> str:
        """Return the answer to a message of about ``size`` octets."""
        sent, content = self.ledger.write(size, self._chance)
        with smtplib.SMTP("127.0.0.1", self._port, timeout=30) as client:
            client.ehlo("faults.example")
            answers = [client.mail("a@example.org"), client.rcpt("b@example.net")]
            if all(code == 250 for code, _ in answers):
                answers.append(client.data(content))
        code, text = answers[-1]
        sent.answer = f"{code} {text.decode()}"
        return sent.answer

    def to_all(self, size: int) -> Iterator[str]:
        """Yield answers, until every worker has had its turn and beyond.

        Who has more connections than the others leaves the next one to them.
        """
        with ExitStack() as held:
            while True:
                yield self.send(size)
                held.enter_context(smtplib.SMTP("127.0.0.1", self._port))

    def make_all_fail(self) -> None:
        """Send until each worker has said that it cannot keep mail."""
        for _ in self.to_all(2_000):
            failed = {e["pid"] for e in self.daemon.events() if e["event"] == "store.failed"}
            if failed >= set(self.daemon.workers()):
                return

    def all_keep(self) -> bool:
        """Whether each worker keeps what it is sent, in a row and in a file."""
        return not self.refusal()

    def refusal(self) -> str:
        """Return what the first that keeps nothing says; "" when each keeps rows and files."""
        return self._refusal(2_000) or self._refusal(150_000)

    def _refusal(self, size: int) -> str:
        keepers: set[int] = set()
        for answer in self.to_all(size):
            if not answer.startswith("250"):
                return answer
            *_, latest = mail_db.kept(self.daemon.store)
            keepers.add(latest.envelope["worker"])
            if len(keepers) == WORKERS:
                break
        return ""

    def assert_refused(self, answer: str, reply: str, *reasons: str) -> None:
        """The sender was told so, and the operator why."""
        assert answer.startswith(reply), answer
        status = until(lambda: (s := self.daemon.call("status"))["problems"] and s, 2)
        assert not status["ok"]
        for reason in reasons:
            assert any(re.search(reason, fault) for fault in self._faults()), self._faults()
        # What is tried again may fail for another reason, which is told then.
        until(self._prints_a_fault, 2)

    def _faults(self) -> set[str]:
        """Return the reasons that were logged."""
        return {e["reason"] for e in self.daemon.events() if e["event"] == "store.failed"}

    def _prints_a_fault(self) -> bool:
        printed = " ".join(self.daemon.mtactl("status").stdout.split())
        return any(fault in printed for fault in self._faults())

    def assert_recovers(self) -> None:
        """Every worker keeps mail again, by itself; nothing that was promised is lost."""
        pids = self.daemon.workers()
        until(self.all_keep, PATIENCE)
        until(lambda: self.daemon.call("status")["ok"], PATIENCE)
        assert self.refusal() == ""
        assert self.daemon.workers() == pids
        assert "store.works" in {e["event"] for e in self.daemon.events()}
        self.assert_kept()

    def assert_kept(self) -> None:
        store = self.daemon.store
        assert not mail_db.complaints(store)
        assert not self.ledger.faults(mail_db.kept(store))


@pytest.fixture
def small_disk(directory: Path) -> Iterator[Path]:
    """The store's directory, on a file system of its own of 4 MB."""
    store = directory / "store"
    store.mkdir()
    with private_mounts():
        mount("-t", "tmpfs", "-o", "size=4m,mode=0750", "store", store)
        shutil.chown(store, "ecuser")
        yield store


@pytest.mark.parametrize(
    ("size", "reason"),
    # A file may just have found room, and its row none.
    [(2_000, "is full"), (40_000, "is full"), (150_000, "No space left on device|is full")],
)
def test_full(small_disk: Path, started: Start, ledger: Ledger, size: int, reason: str) -> None:
    sender = Sender(started(workers=WORKERS), ledger)
    answers = [sender.send(size)]
    while answers[-1].startswith("250"):
        assert len(answers) < 4_000_000 / size
        answers.append(sender.send(size))
    assert len(answers) > 1
    sender.assert_refused(answers[-1], FULL, reason)
    sender.assert_kept()
    mount("-o", "remount,size=64m", small_disk)
    sender.assert_recovers()


def test_full_under_load(small_disk: Path, started: Start, ledger: Ledger) -> None:
    daemon = started(workers=WORKERS)
    with Senders(ledger, daemon.port(), seed=3):
        until(lambda: any(one.answer.startswith(FULL) for one in list(ledger.sent.values())))
        time.sleep(0.5)  # more of them
        mount("-o", "remount,size=512m", small_disk)
        refused = len(ledger.sent)
        until(lambda: any(one.promised for one in list(ledger.sent.values())[refused:]))
    sender = Sender(daemon, ledger)
    sender.assert_recovers()
    assert {one.answer[:9] for one in ledger.sent.values()} <= {"250 2.0.0", FULL, "never end", ""}


def test_read_only(small_disk: Path, started: Start, ledger: Ledger) -> None:
    sender = Sender(started(workers=WORKERS), ledger)
    assert sender.send().startswith("250")

    def remounted() -> bool:
        """Whether it could be done: only while nobody has a file open for writing."""
        for pid in proc.tree(sender.daemon.process.pid)[1:]:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        with suppress(subprocess.CalledProcessError):
            mount("-o", "remount,ro", small_disk)
            return True
        return False

    until(remounted)
    sender.daemon.wait_ready()
    sender.assert_refused(sender.send(), FAILED, "Read-only file system")
    sender.assert_refused(sender.send(150_000), FAILED, "Read-only file system")
    mount("-o", "remount,rw,size=64m", small_disk)  # what recovers needs room, too
    sender.assert_recovers()


def test_disk_fails(directory: Path, started: Start, ledger: Ledger) -> None:
    """Under writers, which cannot even read any more; it is repaired, and mounted again."""
    if reason := missing_disk(directory):
        pytest.skip(reason)
    store = directory / "store"
    store.mkdir()
    with private_mounts():
        disk = Disk(directory / "disk", store)
        shutil.chown(store, "ecuser")
        sender = Sender(started(workers=WORKERS), ledger)
        until(sender.all_keep)  # each has read its key, too
        disk.fail(Random(1))
        # Each worker has to see it: who has not been told still has files open.
        sender.make_all_fail()
        sender.assert_refused(sender.send(), FAILED)
        sender.assert_refused(sender.send(150_000), FAILED)
        disk.restore()
        sender.assert_recovers()
        sender.daemon.stop()


@contextmanager
def database_locked(store: Path) -> Iterator[None]:
    with closing(mail_db.connect(store)) as database:
        database.isolation_level = None
        database.execute("BEGIN EXCLUSIVE")
        yield
        database.execute("ROLLBACK")


@contextmanager
def lock_file_locked(store: Path) -> Iterator[None]:
    with (store / "mail.lock").open() as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


LOCKS = pytest.mark.parametrize("locked", [database_locked, lock_file_locked])
Lock = Callable[[Path], AbstractContextManager[None]]


@LOCKS
def test_locked_for_a_moment(started: Start, ledger: Ledger, locked: Lock) -> None:
    sender = Sender(started(workers=WORKERS), ledger)
    assert sender.send().startswith("250")
    with ThreadPoolExecutor(1) as pool:
        with locked(sender.daemon.store):
            answer = pool.submit(sender.send)
            with pytest.raises(TimeoutError):
                answer.result(1.0)  # it waits
        assert answer.result(PATIENCE).startswith("250")
    assert sender.daemon.call("status")["ok"]
    sender.assert_kept()


@LOCKS
@pytest.mark.parametrize("seconds", [5, pytest.param(30, marks=pytest.mark.slow)])
def test_locked(started: Start, ledger: Ledger, locked: Lock, seconds: int) -> None:
    sender = Sender(started(workers=WORKERS), ledger)
    assert sender.send().startswith("250")
    with locked(sender.daemon.store):
        end = time.monotonic() + seconds
        while (start := time.monotonic()) < end:
            sender.assert_refused(sender.send(), FAILED, "locked")
            assert time.monotonic() - start < AT_ONCE
    sender.assert_recovers()


def test_clock_set_back(directory: Path, started: Start, ledger: Ledger) -> None:
    if reason := clock.missing():
        pytest.skip(reason)
    with clock.clock(directory) as own:
        sender = Sender(started(workers=WORKERS), ledger)
        deliver_in_order(sender)
        own.change(-3_600)
        deliver_in_order(sender)
        for pid in sender.daemon.workers():
            os.kill(pid, signal.SIGKILL)
        until(lambda: sender.daemon.call("status")["ok"])
        deliver_in_order(sender)
        sender.daemon.stop()
        sender.daemon.start().wait_ready()
        sender = Sender(sender.daemon, ledger)
        deliver_in_order(sender)
        own.change(0)
        deliver_in_order(sender)
        sender.assert_kept()
        ids = [message.id for message in mail_db.kept(sender.daemon.store)]
        received = mail_db.received(sender.daemon.store)
        # The negative control: the workers' clock was set back.
        assert received != sorted(received)
        assert received[3] < received[2] - 3_000e9
        assert ids == sorted(set(ids))
        sender.daemon.stop()


def deliver_in_order(sender: Sender) -> None:
    """What is kept later is found behind the cursor from before."""
    for _ in range(3):
        before = sender.daemon.call("message.cursor")["cursor"]
        answer = sender.send()
        assert answer.startswith("250")
        # Behind it there may be the session, of the same sequence.
        assert before < answer.split()[-1] <= sender.daemon.call("message.cursor")["cursor"]


def no_database(path: Path) -> None:
    path.write_bytes(b"This was a database once. " * 1_000)


def overwritten(path: Path) -> None:
    with path.open("r+b") as file:
        file.seek(4_096)
        file.write(b"\xff" * 4_096 * 7)


def cut_short(path: Path) -> None:
    os.truncate(path, 5_000)


@pytest.mark.parametrize("damage", [no_database, overwritten, cut_short])
def test_corrupt(started: Start, ledger: Ledger, damage: Callable[[Path], None]) -> None:
    sender = Sender(started(workers=WORKERS), ledger)
    assert all(sender.send().startswith("250") for _ in range(5))
    path = sender.daemon.store / "mail.db"
    sender.daemon.stop()
    damage(path)
    sender.daemon.start().wait_ready()
    sender = Sender(sender.daemon, Ledger(4))
    sender.assert_refused(sender.send(), FAILED, "mail.db")
    sender.assert_refused(sender.send(150_000), FAILED, "mail.db")
    damaged = path.read_bytes()
    path.rename(path.with_suffix(".damaged"))
    sender.assert_recovers()
    assert path.with_suffix(".damaged").read_bytes() == damaged


def test_newer_version(started: Start, ledger: Ledger) -> None:
    sender = Sender(started(workers=WORKERS), ledger)
    assert sender.send().startswith("250")
    sender.daemon.stop()
    set_version(sender.daemon.store, 999)
    sender.daemon.start().wait_ready()
    sender = Sender(sender.daemon, ledger)
    sender.assert_refused(sender.send(), FAILED, "version 999")
    sender.assert_refused(sender.send(150_000), FAILED, "version 999")
    set_version(sender.daemon.store, VERSION)
    sender.assert_recovers()


def set_version(store: Path, version: int) -> None:
    with closing(mail_db.connect(store)) as database:
        database.execute(f"PRAGMA user_version = {version}")
