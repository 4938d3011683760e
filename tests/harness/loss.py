"""The experiment that asks whether anything is lost: load, a violent end, a new start, a count.

``python -m harness.loss [--rounds N] [--seed N]``, as root, does it N times in each way.
"""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from random import Random

from rig import proc

from harness import mail_db
from harness.daemon import Daemon, config, home, until
from harness.ledger import Ledger, Senders
from harness.mounts import Disk, missing_disk, private_mounts

WORKERS = 2
# A store has so many rounds: an old journal matters, and so does a new one.
ROUNDS_OF_A_STORE = 5


class Trial:
    """A store, and the daemons that have it one after another."""

    def __init__(self, directory: Path, seed: int, durability: str = "fsync") -> None:
        self.chance = Random(seed)
        self.ledger = Ledger(seed)
        text = config(directory, workers=WORKERS)
        store = f"store:\n  directory: {directory}/store\n"
        assert store in text
        text = text.replace(store, f"{store}  durability: {durability}\n")
        self.daemon = Daemon(directory, text)
        self.disk: Disk | None = None

    def round(self, end: End) -> list[str]:
        """Have it end violently under load, and start again; return what is wrong then."""
        self.start()
        with Senders(self.ledger, self.daemon.port(), self.chance.getrandbits(32)) as senders:
            before = self.ledger.promises
            until(lambda: self.ledger.promises > before, 30)
            time.sleep(self.chance.uniform(0, 0.8))  # the moment is the experiment
            end(self)
            if self.daemon.process.poll() is not None:
                # While senders, and workers that were orphaned, are at it.
                senders.port = self.start().port()
        if end in WITH_SURVIVORS:  # which may have left something when the daemon started
            self.stop()
            self.start()
        return self.faults()

    def start(self) -> Daemon:
        """Start the daemon, if it does not run, and wait until it is ready."""
        if not self.running():
            self.daemon.start().wait_ready(30)
        return self.daemon

    def running(self) -> bool:
        return hasattr(self.daemon, "process") and self.daemon.process.poll() is None

    def stop(self) -> None:
        if self.running():
            self.daemon.stop(seconds=30)

    def faults(self) -> list[str]:
        """Return what the store lacks, or has that it should not."""
        store = self.daemon.store
        found = mail_db.complaints(store) + self.ledger.faults(mail_db.kept(store))
        with suppress(AssertionError):
            until(lambda: not mail_db.orphans(store), 5)
        return found + [f"{name} belongs to no message" for name in mail_db.orphans(store)]


End = Callable[[Trial], None]
"""A violent end."""


def kill_worker(trial: Trial) -> None:
    os.kill(trial.chance.choice(trial.daemon.workers()), signal.SIGKILL)
    time.sleep(trial.chance.uniform(0, 0.3))


def kill_supervisor(trial: Trial) -> None:
    trial.daemon.process.kill()
    trial.daemon.process.wait()


def kill_all(trial: Trial) -> None:
    pids = proc.tree(trial.daemon.process.pid)
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    trial.daemon.process.wait()
    until(lambda: not any(_runs(pid) for pid in pids))


def cut_power(trial: Trial) -> None:
    assert trial.disk is not None
    trial.ledger.life += 1
    trial.disk.fail(trial.chance)
    kill_all(trial)
    trial.disk.restore()
    trial.ledger.life += 1


WITH_SURVIVORS = (kill_worker, kill_supervisor)
ENDS: dict[str, End] = {
    "worker": kill_worker,
    "supervisor": kill_supervisor,
    "all": kill_all,
    "power": cut_power,
}


@contextmanager
def trial(end: str, seed: int, durability: str = "fsync") -> Iterator[Trial]:
    """Yield a Trial in a directory of its own, with a disk where its power is to be cut."""
    with home() as directory, private_mounts():
        one = Trial(directory, seed, durability)
        if end == "power":
            one.daemon.store.mkdir()
            one.disk = Disk(directory / "disk", one.daemon.store)
            shutil.chown(one.daemon.store, "ecuser")
        try:
            yield one
        finally:
            one.stop()


def run(end: str, rounds: int, seed: int, durability: str = "fsync") -> Iterator[list[str]]:
    """Yield what each round finds wrong."""
    for first in range(0, rounds, ROUNDS_OF_A_STORE):
        with trial(end, seed + first, durability) as one:
            for _ in range(min(ROUNDS_OF_A_STORE, rounds - first)):
                yield one.round(ENDS[end])


def _runs(pid: int) -> bool:
    """Whether a process has files open: it is neither gone nor a zombie."""
    try:
        state = (proc.PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state != "Z"


def missing() -> str:
    """Return why no power can be cut here, or ""."""
    with tempfile.TemporaryDirectory() as directory:
        return missing_disk(Path(directory))


def main() -> int:
    """Run every way to end, and print what was found; 1 if that is anything."""
    parser = argparse.ArgumentParser(prog="scripts/loss", description=__doc__)
    parser.add_argument("--rounds", type=int, default=100, help="of each way to end (100)")
    parser.add_argument("--seed", type=int, default=time.time_ns() % 1_000_000)
    parser.add_argument("--end", choices=list(ENDS), action="append", help="only this way")
    options = parser.parse_args()
    found = 0
    for end in options.end or ENDS:
        if end == "power" and (reason := missing()):
            print(f"{end}: left out: {reason}")
            continue
        start = time.monotonic()
        for number, faults in enumerate(run(end, options.rounds, options.seed)):
            for fault in faults:
                print(f"{end}: seed {options.seed}, round {number}: {fault}")
            found += len(faults)
        took = time.monotonic() - start
        print(f"{end}: {options.rounds} rounds, {took:.0f} s", flush=True)
    return found > 0


if __name__ == "__main__":
    sys.exit(main())
