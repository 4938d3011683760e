"""Postfix's test programs, from Debian's package, wherever scripts/bench unpacked it."""

import os
from pathlib import Path

_TREE = Path(os.environ.get("POSTFIX_TREE") or "/")

ENVIRONMENT = os.environ | {"LD_LIBRARY_PATH": str(_TREE / "usr" / "lib" / "postfix")}
"""They find their libraries by it."""


def program(name: str) -> Path:
    return _TREE / "usr" / "sbin" / name


def missing(name: str) -> str:
    """Return why there is no program ``name``, or ""."""
    if program(name).exists():
        return ""
    return f"no {name}: Debian's package postfix could not be fetched"
