"""Users and groups by name or id, as the configuration gives them."""

from __future__ import annotations

import grp
import pwd
from dataclasses import dataclass

from mtad.errors import PreflightError

# 2**32 - 1 is (uid_t)-1: to setresuid(2) it means "leave it as it is".
_MAX_ID = 2**32 - 2


@dataclass(frozen=True, slots=True)
class Account:
    """A user; ``gid`` is its primary group, None where the user database does not know the uid."""

    uid: int
    name: str
    gid: int | None


def user(value: str | int, option: str = "security.user") -> Account:
    """Return the user that ``value``, a name or an id, stands for.

    Raises:
        PreflightError: there is no such name, or the id cannot be one.
    """
    number = _number(value, option)
    try:
        entry = pwd.getpwnam(str(value)) if number is None else pwd.getpwuid(number)
    except (KeyError, ValueError):
        if number is None:
            raise PreflightError(
                f"{option}: there is no user {value!r}",
                help=f"create it: useradd --system --shell /usr/sbin/nologin {value}",
            ) from None
        return Account(number, str(number), None)
    return Account(entry.pw_uid, entry.pw_name, entry.pw_gid)


def group(value: str | int, option: str = "security.group") -> tuple[int, str]:
    """Return id and name of the group that ``value``, a name or an id, stands for.

    Raises:
        PreflightError: there is no such name, or the id cannot be one.
    """
    number = _number(value, option)
    try:
        entry = grp.getgrnam(str(value)) if number is None else grp.getgrgid(number)
    except (KeyError, ValueError):
        if number is None:
            raise PreflightError(
                f"{option}: there is no group {value!r}",
                help=f"create it: groupadd --system {value}",
            ) from None
        return number, str(number)
    return entry.gr_gid, entry.gr_name


def _number(value: str | int, option: str) -> int | None:
    """Return the id that ``value`` is, None for a name."""
    if isinstance(value, str) and not (value.isascii() and value.isdigit()):
        return None
    if not 0 <= int(value) <= _MAX_ID:
        raise PreflightError(f"{option}: {value} is no id", help=f"an id is from 0 to {_MAX_ID}")
    return int(value)
