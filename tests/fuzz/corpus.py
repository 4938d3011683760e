"""The corpus: inputs that reach code that others do not, a file for each target.

A line is an input, as a Python literal of bytes; the shortest come first.
"""

from __future__ import annotations

from ast import literal_eval
from collections.abc import Iterable
from hashlib import sha256
from pathlib import Path

_FOLDER = Path(__file__).with_name("corpus")


def read(name: str) -> list[bytes]:
    """Return the inputs of a target; none, where there is no corpus yet."""
    path = _FOLDER / f"{name}.txt"
    return [literal_eval(line) for line in path.read_text().splitlines()] if path.exists() else []


def write(name: str, inputs: Iterable[bytes]) -> None:
    """Keep ``inputs`` for a target."""
    lines = [repr(octets) + "\n" for octets in sorted(set(inputs), key=lambda one: (len(one), one))]
    (_FOLDER / f"{name}.txt").write_text("".join(lines))


def unpack(inputs: Iterable[bytes], folder: Path) -> None:
    """Make a file of each input, as libFuzzer has them."""
    folder.mkdir()
    for octets in inputs:
        (folder / sha256(octets).hexdigest()[:16]).write_bytes(octets)
