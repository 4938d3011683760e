"""What every test here needs: root, the tools, the tracer, and a workshop open to everyone."""

from __future__ import annotations

import pwd
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from harness import privilege_subject, privilege_tracer
from harness.privilege_battery import Workshop


@pytest.fixture(autouse=True, scope="session")
def _able() -> None:
    for reason in (privilege_subject.why_not(), privilege_tracer.WHY_NOT):
        if reason:
            pytest.skip(reason)


@pytest.fixture(scope="session")
def ecuser() -> pwd.struct_passwd:
    try:
        return pwd.getpwnam("ecuser")
    except KeyError:
        pytest.skip("there is no user ecuser: scripts/setup creates it")


@pytest.fixture(scope="session")
def shop(_able: None) -> Iterator[Workshop]:
    """Not below pytest's own directory, which is open to its user alone."""
    directory = Path(tempfile.mkdtemp(prefix="mtad-workshop-"))
    try:
        yield Workshop.make(directory)
    finally:
        shutil.rmtree(directory)
