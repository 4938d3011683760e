"""Every row of the table, with the real daemon: the octets, the end, and the time."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from harness.daemon import until
from harness.fault_table import Row, Served, rows, serving

pytestmark = [pytest.mark.integration, pytest.mark.root]

_ROWS = rows(Path(__file__).with_name("table.txt"))


@pytest.fixture(scope="module")
def served() -> Iterator[Served]:
    with serving(_ROWS) as running:
        yield running


@pytest.mark.parametrize("row", _ROWS, ids=str)
def test_row(row: Row, served: Served) -> None:
    served.play(row)

    def is_kept() -> bool:
        envelopes = served.daemon.envelopes()
        return any(one["recipients"][0] == f"{row.name}@example.com" for one in envelopes)

    if row.kept:
        until(is_kept)  # a client that is told nothing does not wait for it
    elif row.kept is not None:
        assert not is_kept()
