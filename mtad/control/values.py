"""Single values of results: how they are found, and how people read them."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Literal

Form = Literal[
    "value",
    "time",
    "age",
    "duration",
    "seconds",
    "milliseconds",
    "size",
    "ids",
    "set",
    "path",
    "brief",
    "options",
]
"""What a value is beyond its type: an instant (shown as such, or as how long ago), seconds (in
words, to the microsecond, or as milliseconds), octets, the four ids of a process, a capability
set, a reverse-path, a text or a list of which the beginning is enough, or the options of each of
several recipients."""

_BRIEF_CHARACTERS = 60


def look_up(value: Any, path: str) -> Any:
    """Return what is at ``path`` in ``value``, or None."""
    for key in path.split("."):
        if isinstance(value, Mapping):
            value = value.get(key)
        elif isinstance(value, list | tuple) and key.isdecimal() and int(key) < len(value):
            value = value[int(key)]
        else:
            return None
    return value


def show(value: Any, form: Form = "value") -> str:
    """Return a value of a result as people read it; one that does not fit ``form``, as it is."""
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    shape, draw = _FORMS.get(form, (type(None), str))
    if isinstance(value, shape):
        return draw(value)
    if isinstance(value, list | tuple):
        return ", ".join(show(item) for item in value) or "none"
    if isinstance(value, Mapping):
        return ", ".join(f"{name}={show(item)}" for name, item in value.items()) or "none"
    return f"{value:g}" if isinstance(value, float) else str(value)


def _duration(seconds: float) -> str:
    if seconds < 60:
        return f"{seconds:.1f}s"
    minutes, whole = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    parts = [(days, "d"), (hours, "h"), (minutes, "m"), (whole, "s")]
    first = next(index for index, (number, _) in enumerate(parts) if number)
    return "".join(f"{number}{unit}" for number, unit in parts[first : first + 2])


def _size(octets: float) -> str:
    for unit in ("B", "KiB", "MiB"):
        if octets < 1024:
            return f"{octets:.4g} {unit}"
        octets /= 1024
    return f"{octets:.4g} GiB"


def _instant(seconds: float) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(seconds))


def _age(seconds: float) -> str:
    return _duration(max(0.0, time.time() - seconds))


def _ids(ids: Sequence[int]) -> str:
    """Real, effective, saved and file system id: one number if they are the same."""
    return ",".join(map(str, dict.fromkeys(ids) if len(set(ids)) == 1 else ids)) or "none"


def _set(mask: Mapping[str, Any]) -> str:
    """A capability set, ``{"hex", "names"}``: its names, or their number where they are many."""
    names = mask.get("names") or ()
    return f"{mask.get('hex')} ({len(names)})" if len(names) > 4 else ",".join(names) or "none"


def _brief(value: str | Sequence[Any]) -> str:
    """A text, cut where it is long; of a long list the first, and how many more there are."""
    text = show(value)
    if len(text) <= _BRIEF_CHARACTERS:
        return text
    if isinstance(value, str):
        return f"{text[: _BRIEF_CHARACTERS - 1]}…"
    more = f", +{len(value) - 1} more" if len(value) > 1 else ""
    return _brief(show(value[0])) + more


def _options(each: Sequence[Sequence[str]]) -> str:
    return ", ".join(" ".join(one) or "none" for one in each) if any(each) else "none"


_FORMS: dict[str, tuple[Any, Callable[[Any], str]]] = {
    "time": (int | float, _instant),
    "age": (int | float, _age),
    "duration": (int | float, _duration),
    "seconds": (int | float, "{:.6f}".format),
    "milliseconds": (int | float, lambda seconds: f"{seconds * 1000:.3f} ms"),
    "size": (int | float, _size),
    "ids": (list | tuple, _ids),
    "set": (Mapping, _set),
    "path": (str, lambda path: path or "<>"),
    "brief": (str | list | tuple, _brief),
    "options": (list | tuple, _options),
}
