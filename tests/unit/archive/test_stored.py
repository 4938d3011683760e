"""A file read through a window is what the file is; what is not there is said to be not there."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mtad.archive import stored
from mtad.archive.mime import structure_of
from mtad.archive.stored import FileOctets


@pytest.fixture(autouse=True, scope="module")
def a_small_window() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(stored, "_WINDOW", 16)
        yield


@contextmanager
def opened(content: bytes) -> Iterator[FileOctets]:
    with tempfile.TemporaryFile() as file:
        file.write(content)
        file.flush()
        yield FileOctets(file.fileno())


CONTENT = st.lists(st.sampled_from([b"a", b"ab", b"\n--", b"\r\n", b"x" * 20])).map(b"".join)
PLACES = st.lists(st.tuples(st.integers(0, 80), st.integers(0, 80)), max_size=10)


@given(CONTENT, PLACES)
def test_slices(content: bytes, places: list[tuple[int, int]]) -> None:
    with opened(content) as octets:
        assert len(octets) == len(content)
        for begin, end in places:
            assert octets[begin:end] == content[begin:end]
            assert octets[begin:] == content[begin:]
            assert octets[:end] == content[:end]


@given(CONTENT, PLACES, st.sampled_from([b"\n--", b"ab", b"a", b"\r\n\r\n", b"xab"]))
def test_find(content: bytes, places: list[tuple[int, int]], what: bytes) -> None:
    with opened(content) as octets:
        for begin, end in places:
            assert octets.find(what, begin, end) == content.find(what, begin, end)
            assert octets.find(what, begin) == content.find(what, begin)


@given(CONTENT)
def test_the_structure_of_a_file(content: bytes) -> None:
    message = b"Content-Type: multipart/mixed; boundary=ab\r\n\r\n--ab\r\n" + content
    with opened(message) as octets:
        assert structure_of(octets) == structure_of(message)


def test_a_file_that_becomes_shorter(tmp_path: Path) -> None:
    path = tmp_path / "x"
    path.write_bytes(b"a" * 100)
    descriptor = os.open(path, os.O_RDONLY)
    octets = FileOctets(descriptor)
    os.truncate(path, 10)
    assert octets.find(b"b") == -1
    assert octets[50:60] == b""
    os.close(descriptor)
