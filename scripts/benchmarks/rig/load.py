"""The loads: load.c, Postfix's smtp-source, and a client that resumes TLS sessions."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rig import postfix

SOURCE = Path(__file__).parent.parent / "load.c"
TLS_CLIENT = Path(__file__).with_name("tls_client.py")
TIME_LIMIT = 60

Result = dict[str, Any]
"""messages, seconds, rate (a second), p50_ms, p99_ms (None where it is not known)."""


class LoadError(Exception):
    """A load did not get all its messages through, or not in time."""


def build(directory: Path) -> Path:
    """Compile load.c into ``directory`` and return the program."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        sys.exit(
            "the benchmarks need a C compiler (not mtad itself): apt-get install gcc libc6-dev"
        )
    program = directory / "load"
    subprocess.run([compiler, "-std=c11", "-O2", "-o", program, SOURCE], check=True)
    return program


def _run(command: list[str], environment: dict[str, str] | None = None) -> str:
    """Return what ``command`` printed. Raises LoadError."""
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=2 * TIME_LIMIT, env=environment
        )
    except subprocess.TimeoutExpired as error:
        raise LoadError(f"{error}") from None
    if done.returncode:
        raise LoadError(f"{' '.join(command)}: {done.stdout}{done.stderr}".strip())
    return done.stdout


def _json(output: str) -> Result:
    result: Result = json.loads(output)
    return result


def smtp(program: Path, port: int, messages: int, *options: str) -> Result:
    limits = ["-p", str(port), "-m", str(messages), "-t", str(TIME_LIMIT)]
    return _json(_run([str(program), *limits, *options]))


def smtp_source(port: int, messages: int) -> Result:
    """Send by Postfix's smtp-source: lockstep, 4 KB, 20 connections that stay."""
    count = ["-d", "-s", "20", "-m", str(messages), "-l", "4096"]
    people = ["-f", "sender@example.org", "-t", "user@example.net"]
    command = [str(postfix.program("smtp-source")), *count, *people, f"127.0.0.1:{port}"]
    start = time.perf_counter()
    _run(command, postfix.ENVIRONMENT)
    seconds = time.perf_counter() - start
    known = {"messages": messages, "seconds": seconds, "rate": messages / seconds}
    return known | {"p50_ms": None, "p99_ms": None}


def tls(port: int, messages: int) -> Result:
    return _json(_run([sys.executable, str(TLS_CLIENT), str(port), str(messages)]))


@contextmanager
def held(program: Path, port: int, connections: int, behaviour: str) -> Iterator[None]:
    """Hold connections that are ``idle``, ``drip`` or ``deaf`` (load.c says what they do).

    Raises LoadError if the server has closed any of them.
    """
    command = [str(program), "-p", str(port), "-c", str(connections), "-b", behaviour]
    with subprocess.Popen(
        [*command, "-t", str(2 * TIME_LIMIT)], stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        try:
            if (line := process.stdout.readline()) != "holding\n":
                raise LoadError(f"{' '.join(command)}: not all are held: {line}")
            yield
        finally:
            process.terminate()
        result = json.loads(process.stdout.read())
    if result["held"] < connections:
        raise LoadError(f"{' '.join(command)}: only {result['held']} are left")
