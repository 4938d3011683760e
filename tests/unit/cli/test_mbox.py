"""mboxrd: whatever a message is, and in whatever pieces it comes, it comes out of an mbox."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from mtad.cli import exporting, importing
from mtad.cli.exporting import Exported, quoted

ENVELOPE: dict[str, Any] = {"sender": "a b@example", "received_ns": 0}
PIECES = st.lists(
    st.sampled_from([b"From ", b"Fr", b"om ", b">", b">" * 65_535, b"\n", b"\r\n", b"x" * 65_536])
)


@given(PIECES)
def test_quoting_does_not_depend_on_the_pieces(pieces: list[bytes]) -> None:
    whole = b"".join(pieces)
    expected = re.sub(rb"(?m)^(>*From )", rb">\1", whole)
    assert b"".join(quoted(pieces)) == expected


@given(messages=st.lists(PIECES, min_size=1, max_size=4))
def test_there_and_back(tmp_path_factory: Any, messages: list[list[bytes]]) -> None:
    path: Path = tmp_path_factory.mktemp("mbox") / "box"
    with exporting.mbox(path) as write:
        for pieces in messages:
            write(Exported("id", ENVELOPE, {}, pieces))
    sent = [b"".join(pieces) for pieces in messages]
    found = [b"".join(one.pieces) for one in importing.mbox(path)]
    assert found == [one if one[-1:] in (b"", b"\n") else one + b"\n" for one in sent]
