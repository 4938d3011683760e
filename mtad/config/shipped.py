"""The profiles that come with mtad: known by name wherever a profile is named.

Each is a file of its own, of which the profile `default` is meant: given to `mtad run` behind
another configuration it says how all listeners behave that name no profile.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache
from pathlib import Path

from mtad.config.profiles import Profile
from mtad.config.reader import read
from mtad.config.schema import DEFAULT_PROFILE, Settings
from mtad.config.words import validated

# As installed; in a checkout.
_PLACES = (Path(__file__).parent / "shipped", Path(__file__).parents[2] / "conf" / "profiles")


@cache
def files() -> dict[str, Path]:
    """Return the files by the names of their profiles."""
    place = next(filter(Path.is_dir, _PLACES), Path())
    return {file.stem: file for file in sorted(place.glob("*.yaml"))}


@cache
def _profile(file: Path) -> Profile:
    return validated(read(file), Settings).profiles[DEFAULT_PROFILE]


def knowing(settings: Settings, names: Iterable[str]) -> Settings:
    """Return ``settings`` with the profiles of these names that come with mtad, and it has not."""
    lacking = set(names) - settings.profiles.keys()
    wanted = {name: file for name, file in files().items() if name in lacking}
    if not wanted:
        return settings
    profiles = settings.profiles | {name: _profile(file) for name, file in wanted.items()}
    return settings.model_copy(update={"profiles": profiles})
