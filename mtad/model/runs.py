"""The test run that a message belongs to: a tag, by the rules of a profile."""

from __future__ import annotations

from collections.abc import Callable, Sequence

_CHARACTERS = 200


def run_of(
    rules: Sequence[str],
    *,
    listener: str,
    user: str,
    recipients: Sequence[str],
    field: Callable[[str], str],
) -> str:
    """Return the tag that the first of ``rules`` gives (mtad.model.profile.Profile.runs), or "".

    ``field(name)`` is the value of the first header field of that name, "" for none.
    """
    for rule in rules:
        kind, _, name = rule.partition(" ")
        match kind:
            case "header":
                tag = field(name)
            case "plus-address":
                tag = _plus_address(recipients)
            case "user":
                tag = user
            case "listener":
                tag = listener
            case _:
                tag = ""
        if tag:
            return tag[:_CHARACTERS]
    return ""


def _plus_address(recipients: Sequence[str]) -> str:
    """Return TAG of the first recipient ``somebody+TAG@…``."""
    local_parts = (recipient.rpartition("@")[0] for recipient in recipients)
    return next(filter(None, (local.partition("+")[2] for local in local_parts)), "")
