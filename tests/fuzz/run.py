"""Fuzz one target: ``python -m fuzz.run TARGET SECONDS`` (scripts/fuzz does it for all).

With atheris, coverage leads the way, and inputs that reach something new are added to the corpus,
which is reduced to what is needed. Without, hypothesis puts inputs together from the corpus and
from likely words. An input that fails is printed, and kept as a file in the working directory.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from pathlib import Path

from hypothesis import HealthCheck, given, seed, settings
from hypothesis import strategies as st

from fuzz import corpus

try:
    import atheris
except ImportError:
    from fuzz.targets import TARGETS

    atheris = None
else:
    with atheris.instrument_imports(include=["mtad"]):
        from fuzz.targets import TARGETS

_SLOW = 10  # seconds for one input


def by_coverage(name: str, seconds: int) -> int:
    """Run libFuzzer, and keep what it has found; return its exit status."""
    target = TARGETS[name]
    with tempfile.TemporaryDirectory(prefix="mtad-fuzz-") as root:
        found, needed, words = Path(root, "found"), Path(root, "needed"), Path(root, "words")
        corpus.unpack(corpus.read(name), found)
        needed.mkdir()
        words.write_text("".join(f'"{_escaped(word)}"\n' for word in target.words))
        options = [f"-max_len={target.size}", f"-timeout={_SLOW}", "-verbosity=0"]
        status = _libfuzzer(
            name, *options, f"-dict={words}", f"-max_total_time={seconds}", "-print_final_stats=1",
            str(found),
        )  # fmt: skip
        if status == 0:
            status = _libfuzzer(name, *options, "-merge=1", str(needed), str(found))
            corpus.write(name, (path.read_bytes() for path in needed.iterdir()))
    return status


def _libfuzzer(*arguments: str) -> int:
    """Run it in a process of its own, which it ends."""
    return subprocess.run([sys.executable, "-m", __spec__.name, *arguments]).returncode


def _escaped(word: bytes) -> str:
    return "".join(f"\\x{octet:02x}" for octet in word)


def by_chance(name: str, seconds: int) -> int:
    """Run hypothesis until the time is over."""
    target = TARGETS[name]
    parts = st.sampled_from([*corpus.read(name), *target.words]) | st.binary(max_size=20)
    inputs = st.lists(parts, max_size=12).map(lambda some: b"".join(some)[: target.size])
    ends = time.monotonic() + seconds
    executions = 0

    @settings(
        max_examples=500, deadline=None, database=None, suppress_health_check=list(HealthCheck)
    )
    @given(inputs)
    def check(octets: bytes) -> None:
        nonlocal executions
        executions += 1
        target.run(octets)

    while time.monotonic() < ends:
        seed(time.monotonic_ns())(check)()
    print(f"{name}: {executions} executions", file=sys.stderr)
    return 0


def main(name: str, *arguments: str) -> None:
    """Fuzz; or be libFuzzer, if there are arguments of its."""
    if arguments[0].startswith("-"):
        # What a merge runs again is a command of the shell.
        itself = f"{sys.executable} -m {__spec__.name} {name}"
        atheris.Setup([itself, *arguments], TARGETS[name].run)
        atheris.Fuzz()
    else:
        sys.exit((by_chance if atheris is None else by_coverage)(name, int(arguments[0])))


if __name__ == "__main__":
    main(*sys.argv[1:])
