"""aiosmtpd's own test suite, run against mtad's session.

The suite is the one that aiosmtpd is installed with: octet for octet that of its source
distribution. It is run as it is; ``plugin.py`` puts our session in the place of its server. What
then fails has to be in ``expected.toml``, with the reason why mtad answers otherwise, and what is
in there has to fail.
"""

from __future__ import annotations

import hashlib
import importlib.resources
import json
import os
import subprocess
import sys
import tomllib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import aiosmtpd
import pytest

import mtad

_HERE = Path(__file__).parent
# Of the source distribution aiosmtpd-1.4.6.tar.gz, whose sha256 is
# 5a811826e1a5a06c25ebc3e6c4a704613eb9a1bcf6b78428fbe865f4f6c9a4b8.
_VERSION = "1.4.6"
_SHA256 = "71aee52f0161a3d44703dd2f377e0e439adb853fc5449fb38df44eff7c8a3bfb"
_TESTS = 557

# The suite has fixed ports: each of its modules has a network of its own.
_ISOLATED = ["unshare", "--net", "sh", "-c", 'ip link set lo up && exec "$@"', "sh"]
_PYTEST = [sys.executable, "-m", "pytest", "-q", "-W", "ignore", "-p", "aiosmtpd_suite.plugin"]
_PLUGINS = ["-p", "pytest_mock", "-p", "pytest_timeout", "--timeout=60", "-p", "no:cacheprovider"]

# Its tests sleep for luck, and its servers live for 1.5 s: what is wrong has another turn, alone.
_AT_ONCE = 2
_MORE_TURNS = 2

_RAN = (pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED)

pytestmark = [pytest.mark.netns, pytest.mark.timeout(300)]


@pytest.fixture(scope="module")
def suite() -> Path:
    """The directory of the suite; skip where this aiosmtpd is not the one of the list."""
    directory = Path(str(importlib.resources.files(aiosmtpd))) / "tests"
    if aiosmtpd.__version__ != _VERSION:
        pytest.skip(f"the list is of aiosmtpd {_VERSION}; this is {aiosmtpd.__version__}")
    if not directory.is_dir():
        pytest.skip("aiosmtpd is installed without its tests here")
    return directory


def test_the_suite_is_that_of_the_source_distribution(suite: Path) -> None:
    digest = hashlib.sha256()
    for directory in (suite, suite.with_name("testing")):
        for path in sorted(directory.glob("**/*")):
            if path.is_file() and path.suffix != ".pyc":
                digest.update(path.relative_to(suite.parent).as_posix().encode() + b"\0")
                digest.update(path.read_bytes())
    assert digest.hexdigest() == _SHA256


def test_only_what_is_listed_fails(suite: Path, tmp_path: Path) -> None:
    modules = sorted(suite.glob("test_*.py"))
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        ran = list(pool.map(lambda module: _run(module, tmp_path / module.stem), modules))
    outcomes = {test: outcome for module in ran for test, outcome in module.items()}
    assert len(outcomes) == _TESTS
    for number in range(_MORE_TURNS):
        for module in modules:
            wrong = [test for test in _wrong(outcomes, "tests") if test.startswith(module.name)]
            if wrong:
                outcomes |= _run(module, tmp_path / f"{module.stem}{number}")
    _compare(outcomes, "tests")


def test_addresses_in_angle_brackets(suite: Path, tmp_path: Path) -> None:
    """The suite writes most addresses bare, which is refused: what would the grammar say?"""
    valid = ("-k", "_valid_address", "--bracket")
    outcomes = _run(suite / "test_smtp.py", tmp_path / "bracketed", *valid)
    _compare(outcomes, "bracketed")


def _compare(outcomes: dict[str, str], table: str) -> None:
    """Fail for what fails without being in the list, and for what is in the list and does not."""
    assert not _wrong(outcomes, table)


def _wrong(outcomes: dict[str, str], table: str) -> dict[str, str]:
    listed = {
        test
        for entry in tomllib.loads((_HERE / "expected.toml").read_text())["listed"]
        if _version(entry.get("python", "3.0")) <= sys.version_info
        for test in entry.get(table, ())
    }
    assert listed <= {name for test in outcomes for name in _names(test)}
    return {
        test: f"{outcome}, and {'in' if is_listed else 'not in'} the list"
        for test, outcome in outcomes.items()
        if (outcome == "failed") != (is_listed := not listed.isdisjoint(_names(test)))
    }


def _version(text: str) -> tuple[int, ...]:
    return tuple(map(int, text.split(".")))


def _names(test: str) -> set[str]:
    """Return the names by which a test may be listed: with its parameters, and for all of them."""
    return {test, test.partition("[")[0]}


def _run(module: Path, directory: Path, *options: str) -> dict[str, str]:
    """Run a module of the suite; return the outcome of each test."""
    directory.mkdir()
    found = os.pathsep.join([str(_HERE.parent), str(Path(mtad.__file__).parents[1])])
    outcomes = directory / "outcomes.json"
    command = [*_ISOLATED, *_PYTEST, *_PLUGINS, "-c", os.devnull, f"--rootdir={directory}"]
    done = subprocess.run(
        [*command, f"--outcomes={outcomes}", *options, str(module)],
        cwd=directory,
        env={**os.environ, "PYTHONPATH": found, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"},
        capture_output=True,
        text=True,
        timeout=250,
        check=False,
    )
    (directory / "output").write_text(done.stdout)
    assert done.returncode in _RAN, done.stdout + done.stderr
    return {
        f"{module.name}{test}": outcome
        for test, outcome in json.loads(outcomes.read_text()).items()
    }
