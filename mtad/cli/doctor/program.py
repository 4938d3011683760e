"""The interpreter and the packages, before anything that needs them is imported."""

from __future__ import annotations

import importlib
import platform
import re
import sys
from collections.abc import Iterator
from importlib import metadata

from mtad.cli.doctor.finding import CannotLookError, Finding, ok, problem

_FIRST, _BEYOND = (3, 11), (3, 14)

# A module of ours that cannot be imported without it, what gives it, and how its absence shows.
_LIBRARIES = {
    "libcap": ("mtad.privilege.capabilities", "apt-get install libcap2"),
    "python-prctl": (
        "mtad.privilege.drop",
        f"apt-get install gcc libc6-dev libcap-dev && {sys.executable} -m pip install python-prctl",
    ),
}


def python() -> Iterator[Finding]:
    """Look at the version of the interpreter."""
    found = f"Python {platform.python_version()} ({sys.executable})"
    if _FIRST <= sys.version_info < _BEYOND:
        yield ok(found)
    else:
        yield problem(
            found,
            "mtad runs on Python 3.11 to 3.13",
            "scripts/setup --python /usr/bin/python3.11",
        )


def packages() -> Iterator[Finding]:
    """Compare the packages that are installed with those that mtad requires."""
    try:
        required = metadata.requires("mtad") or []
    except metadata.PackageNotFoundError:
        raise CannotLookError(
            "mtad itself is not installed as a package", "scripts/setup"
        ) from None
    found = []
    for requirement in required:
        name, wanted, extra = _parsed(requirement)
        if extra:
            continue
        try:
            version = metadata.version(name)
        except metadata.PackageNotFoundError:
            version = "none"
        found.append(f"{name} {version}")
        if not satisfies(version, wanted):
            yield problem(
                f"{name} is {version}; mtad requires {wanted or 'any'}",
                "the daemon, or a worker, would not start",
                f"{sys.executable} -m pip install '{name}{wanted}'",
            )
    yield ok(", ".join(sorted(found)))


def libraries() -> Iterator[Finding]:
    """Load the libraries that call the kernel."""
    for name, (module, remedy) in _LIBRARIES.items():
        try:
            importlib.import_module(module)
        except (ImportError, OSError) as error:
            yield problem(f"{name} cannot be loaded: {error}", "the drop is made with it", remedy)
        else:
            yield ok(f"{name} is there")


def satisfies(version: str, wanted: str) -> bool:
    """Whether ``version`` (``1.4.6``, or ``none``) is within ``wanted`` (``<1.5,>=1.4.6``)."""
    if not version[:1].isdigit():
        return False
    held = _numbers(version)
    return all(
        held >= _numbers(clause[2:]) if clause.startswith(">=") else held < _numbers(clause[1:])
        for clause in filter(None, wanted.split(","))
    )


def _parsed(requirement: str) -> tuple[str, str, bool]:
    """Return name, range and whether it is of an extra: ``pytest>=8.2; extra == 'test'``."""
    text, _, marker = requirement.partition(";")
    name, wanted = re.fullmatch(r"([\w.-]+)\s*(.*?)\s*", text).groups()  # type: ignore[union-attr]
    return name, wanted, "extra" in marker


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(map(int, re.findall(r"\d+", version)))
