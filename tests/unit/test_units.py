"""The unit files, judged by systemd's own checkers."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest
from harness.daemon import PROGRAMS

_SYSTEMD = Path(__file__).parents[2] / "conf" / "systemd"

# The largest exposure, in tenths, that `systemd-analyze security` may find.
_UNITS = {"mtad.service": 26, "mtad-ambient.service": 16}

needs_systemd = pytest.mark.skipif(
    shutil.which("systemd-analyze") is None, reason="systemd-analyze is not installed"
)


def _analyze(*words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["systemd-analyze", "--no-pager", *words], capture_output=True, text=True, check=False
    )


def _security(path: Path, threshold: int) -> subprocess.CompletedProcess[str]:
    return _analyze("security", "--offline=true", f"--threshold={threshold}", str(path))


@needs_systemd
@pytest.mark.parametrize("name", _UNITS)
def test_systemd_understands_the_unit(name: str, tmp_path: Path) -> None:
    unit = tmp_path / name
    text = (_SYSTEMD / name).read_text()
    unit.write_text(text.replace("/usr/local/lib/mtad/bin", str(PROGRAMS)))

    good = _analyze("verify", "--man=no", str(unit))
    unit.write_text(unit.read_text().replace("ProtectHome=yes", "ProtectHome=maybe"))
    bad = _analyze("verify", "--man=no", str(unit))

    assert (good.returncode, good.stderr) == (0, "")
    assert "protect home value" in bad.stderr


@needs_systemd
@pytest.mark.parametrize(("name", "threshold"), _UNITS.items())
def test_the_exposure_is_small(name: str, threshold: int, tmp_path: Path) -> None:
    unit = _SYSTEMD / name
    weakened = tmp_path / name
    weakened.write_text(
        re.sub("(?m)^(Protect|SystemCallFilter|Capability).*$", "", unit.read_text())
    )

    found = _security(unit, threshold)

    assert found.returncode == 0, found.stdout
    assert _security(weakened, threshold).returncode != 0


@pytest.mark.parametrize("name", _UNITS)
def test_the_two_units_differ_in_their_start_alone(name: str) -> None:
    """What is hardened in one is hardened in the other."""
    protections = re.findall("(?m)^(?:Protect|Private|Restrict|Lock|Memory).*$", _text(name))

    assert len(protections) > 15
    assert protections == re.findall(
        "(?m)^(?:Protect|Private|Restrict|Lock|Memory).*$", _text("mtad.service")
    )


def _text(name: str) -> str:
    return (_SYSTEMD / name).read_text()
