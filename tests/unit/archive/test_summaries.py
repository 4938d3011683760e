"""The test run that a message belongs to."""

from __future__ import annotations

from dataclasses import replace

import pytest
from harness.storing import CAPTURED

from mtad.archive.summaries import run_of

HEADER = "Subject: x\nX-Mtad-Run: ci-17\nx-mtad-run: another\n"


@pytest.mark.parametrize(
    ("rules", "recipients", "header", "run"),
    [
        (("header X-Mtad-Run", "plus-address"), ("a+b@example",), HEADER, "ci-17"),
        (("plus-address", "header x-mtad-run"), ("a+b@example",), HEADER, "b"),
        (("plus-address", "header X-Mtad-Run"), ("a@example",), HEADER, "ci-17"),
        (("plus-address",), ("a@example", "a+b+c@example"), "", "b+c"),
        (("plus-address",), ("a@exa+mple", "postmaster"), "", ""),
        (("plus-address",), (), "", ""),
        (("header Subject",), (), "Subject:\n", ""),
        (("user",), (), HEADER, "tester"),
        (("listener",), (), HEADER, "mx"),
        (("unknown", "listener"), (), HEADER, "mx"),
        ((), ("a+b@example",), HEADER, ""),
    ],
)
def test_run(rules: tuple[str, ...], recipients: tuple[str, ...], header: str, run: str) -> None:
    captured = replace(CAPTURED, runs=rules, recipients=recipients, user="tester")
    assert run_of(captured, header) == run
