"""Questions about a million messages: how long indexing takes, each question, and the memory.

::

    python scripts/benchmarks/search.py [--messages 1000000] [--keep] DIRECTORY

Makes a store of messages of about 2 KB in DIRECTORY (some 6 GB for a million), indexes it, asks
each question a few times and prints the median of the time and of the CPU time, in milliseconds.
The store is removed in the end.
"""

from __future__ import annotations

import argparse
import hashlib
import random
import shutil
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

from mtad.archive.index import INDEX, Index, open_index
from mtad.archive.search import Search, summaries, wanted
from mtad.model.envelope import Captured
from mtad.store import envelopes
from mtad.store.database import FILE, Database

_BEGAN = 1_790_000_000_000_000_000
_APART = 1_000_000  # nanoseconds between two messages
_TRANSACTION = 10_000
_TIMES = 7

_SYLLABLES = [a + b for a in "bdklmnprstvz" for b in "aeiou"][::3]
_WORDS = [a + b + c for a in _SYLLABLES for b in _SYLLABLES for c in _SYLLABLES]

# What each is about: one message; a thousandth, a tenth or half of all; all of them.
QUESTIONS = (
    "",
    "rcpt:user77@example.com",
    "to:user77@example.com listener:submission",
    "from:team5.example.net",
    "from:team5.example.net -listener:submission",
    "listener:mx",
    "listener:mx from:team5.example.net run:ci-7",
    "run:ci-7",
    "user123",
    "from:*@team*.example.net run:ci-7",
    "size:>3k",
    "size:>1",
    "lint:bare-lf",
    "has:auth",
    "after:2026-09-21T14:20:00",
    "order4711",
    "common",
    "common rare7",
    '"common words"',
    "subject:report",
    "subject:report common run:ci-7",
    "text:bada*",
    "common OR badaza",
    "header.X-Run:ci-7",
    "header.X-Run:ci-7 listener:mx",
    "NOT listener:mx",
    "cc:nobody@example.org",
)


def _messages(count: int) -> Iterator[tuple[Captured, bytes]]:
    chance = random.Random(1)  # noqa: S311
    for number in range(count):
        run = f"ci-{chance.randrange(1000)}"
        sender = f"user{chance.randrange(20_000)}@team{chance.randrange(10)}.example.net"
        rcpt = f"user{chance.randrange(20_000)}@example.com"
        listener = "submission" if number % 2 else "mx"
        words = " ".join(chance.choices(_WORDS, k=220))
        rare = "rare7" if number % 1000 == 7 else ""
        content = (
            f"Received: from client.example.net by mx.example.com with ESMTP id {number:x}\r\n"
            f"From: Some Body <{sender}>\r\nTo: {rcpt}\r\nSubject: Weekly report {number}\r\n"
            f"Date: Mon, 21 Sep 2026 14:13:20 +0000\r\nMessage-ID: <{number}@example.net>\r\n"
            f"X-Run: {run}\r\n\r\n"
            f"order{number} common words {rare}\r\n{words}\r\n"
            + ("." * 1500 + "\r\n" if number % 100 == 0 else "")
        ).encode()
        envelope = Captured(
            received_ns=_BEGAN + number * _APART,
            listener=listener,
            worker=number % 2,
            peer=f"192.0.2.{number % 200}:40000",
            helo="client.example.net",
            protocol="ESMTPA" if number % 10 == 0 else "ESMTP",
            tls_version="",
            tls_cipher="",
            sni="",
            user=f"user{number % 50}" if number % 10 == 0 else "",
            sender=sender,
            sender_options=(),
            recipients=(rcpt,),
            recipient_options=((),),
            terminator="CRLF.CRLF",
            notes=("bare-lf",) if number % 1000 == 0 else (),
            runs=("header X-Run",),
            session=_BEGAN + number // 10,
        )
        yield envelope, content


def make(directory: Path, count: int) -> None:
    with Database(directory, synced=False) as database:
        rows = _messages(count)
        for first in range(0, count, _TRANSACTION):
            with database.transaction() as mail:
                for number in range(first, min(first + _TRANSACTION, count)):
                    envelope, content = next(rows)
                    row = (
                        _BEGAN + number * _APART,
                        envelope.session,
                        len(content),
                        hashlib.sha256(content).digest(),
                        envelopes.encode(envelope),
                        content,
                    )
                    mail.execute("INSERT INTO message VALUES (?, ?, ?, ?, ?, ?, NULL)", row)


def resident() -> int:
    """Return the memory of this process, in KiB."""
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    return int(status.partition("RssAnon:")[2].split()[0])


def index_all(directory: Path) -> None:
    index = Index(directory)
    began, cpu = time.perf_counter(), time.process_time()
    more, batches = True, 0
    while more:
        _, more = index.advance()
        batches += 1
        if batches % 200 == 0:
            spent = time.perf_counter() - began
            print(f"  {batches * 500:>9} messages  {spent:7.1f} s  {resident()} KiB", flush=True)
    spent, cpu = time.perf_counter() - began, time.process_time() - cpu
    print(f"indexed in {spent:.1f} s, CPU {cpu:.1f} s; {resident()} KiB")
    began = time.perf_counter()
    index.close()
    size = (directory / INDEX).stat().st_size / 1e6
    mail = (directory / FILE).stat().st_size / 1e6
    spent = time.perf_counter() - began
    print(f"closed in {spent:.1f} s; {INDEX} {size:.0f} MB, {FILE} {mail:.0f} MB")


def ask_all(directory: Path) -> None:
    title = "milliseconds: median, and of that CPU"
    print(f"{title:45}{'list':>16}{'count':>16}{'wait':>16}{'found':>10}")
    with closing(open_index(directory / INDEX)) as index:
        last = Search().newest(index, 1000)[-1]
        for question in QUESTIONS:
            tree = wanted(question, None)
            every, recent = Search(tree), Search(tree, after=last)
            cells = (
                _timed(lambda: summaries(index, every.newest(index, 50))),  # noqa: B023 (now)
                _timed(lambda: every.count(index)),  # noqa: B023
                _timed(lambda: recent.oldest(index, 1)),  # noqa: B023
            )
            found = every.count(index)
            print(f"{question:45}{''.join(cells)}{found:>10}", flush=True)
    print(f"{resident()} KiB")


def _timed(ask: Callable[[], object]) -> str:
    walls, spent = [], []
    for _ in range(_TIMES):
        began, cpu = time.perf_counter(), time.process_time()
        ask()
        walls.append(1000 * (time.perf_counter() - began))
        spent.append(1000 * (time.process_time() - cpu))
    return f"{statistics.median(walls):8.1f}{statistics.median(spent):8.1f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--messages", type=int, default=1_000_000)
    parser.add_argument("--keep", action="store_true", help="do not remove the store")
    parser.add_argument("directory", type=Path)
    options = parser.parse_args()
    options.directory.mkdir(exist_ok=True)
    if not (options.directory / FILE).exists():
        began = time.perf_counter()
        make(options.directory, options.messages)
        print(f"made in {time.perf_counter() - began:.1f} s")
    index_all(options.directory)
    ask_all(options.directory)
    if not options.keep:
        shutil.rmtree(options.directory)


if __name__ == "__main__":
    main()
