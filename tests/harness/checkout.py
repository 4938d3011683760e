"""The checkout that the tests belong to."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

CHECKOUT = Path(__file__).parents[2]


def clone(target: Path) -> None:
    """Make ``target`` a copy of what git would clone, and of what is not committed yet."""
    target.mkdir(parents=True)
    shutil.copytree(CHECKOUT / ".git", target / ".git")
    git = ["git", "-c", f"safe.directory={CHECKOUT}", "-C", str(CHECKOUT)]
    listing = [*git, "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    names = subprocess.run(listing, capture_output=True, check=True).stdout
    pack = ["tar", "-C", str(CHECKOUT), "--null", "--files-from=-", "--ignore-failed-read", "-c"]
    packed = subprocess.run(pack, input=names, capture_output=True, check=True).stdout
    subprocess.run(["tar", "-C", str(target), "--no-same-owner", "-x"], input=packed, check=True)
