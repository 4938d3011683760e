"""Capability sets as integers, and libcap's own words for them (capabilities(7), libcap(3)).

Bit ``n`` of a mask stands for capability ``n``. python-prctl wraps neither cap_from_text(3) nor
capabilities that are younger than the headers it was built with, so libcap is called directly.
"""

from __future__ import annotations

import ctypes
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache

from mtad.errors import CapabilityTextError

_libcap = ctypes.CDLL("libcap.so.2", use_errno=True)
# Pointers are kept as integers (c_void_p): a c_char_p result could not be given to cap_free(3).
_PROTOTYPES: dict[str, tuple[object, list[object]]] = {
    "cap_init": (ctypes.c_void_p, []),
    "cap_free": (ctypes.c_int, [ctypes.c_void_p]),
    "cap_from_text": (ctypes.c_void_p, [ctypes.c_char_p]),
    "cap_from_name": (ctypes.c_int, [ctypes.c_char_p, ctypes.POINTER(ctypes.c_int)]),
    "cap_to_name": (ctypes.c_void_p, [ctypes.c_int]),
    "cap_get_proc": (ctypes.c_void_p, []),
    "cap_set_proc": (ctypes.c_int, [ctypes.c_void_p]),
    "cap_get_flag": (
        ctypes.c_int,
        [ctypes.c_void_p, ctypes.c_int, ctypes.c_int, ctypes.POINTER(ctypes.c_int)],
    ),
    "cap_set_flag": (
        ctypes.c_int,
        [ctypes.c_void_p, ctypes.c_int, ctypes.c_int, ctypes.POINTER(ctypes.c_int), ctypes.c_int],
    ),
    "cap_max_bits": (ctypes.c_int, []),
    "cap_drop_bound": (ctypes.c_int, [ctypes.c_int]),
}
for _name, (_result, _arguments) in _PROTOTYPES.items():
    _function = getattr(_libcap, _name)
    _function.restype, _function.argtypes = _result, _arguments

# cap_flag_t (sys/capability.h)
_EFFECTIVE, _PERMITTED, _INHERITABLE = 0, 1, 2
# The kernel's interface has two words of 32 bits (capget(2)).
_MAX_BITS = 64


@dataclass(frozen=True, slots=True)
class CapabilitySets:
    """The three sets that capset(2) sets, as bit masks."""

    permitted: int = 0
    effective: int = 0
    inheritable: int = 0


def parse(text: str) -> CapabilitySets:
    """Return the sets that ``text`` stands for, in the language of cap_from_text(3).

    Raises:
        CapabilityTextError: libcap refuses the text, or this kernel lacks a capability in it.
    """
    if "\0" in text:
        raise CapabilityTextError(
            f"capability text {text!r} holds a NUL", help="the C library would stop reading there"
        )
    try:
        with _owned(_from_text(text)) as pointer:
            sets = _read(pointer)
    except OSError:
        raise _explained(text) from None
    unknown = (sets.permitted | sets.effective | sets.inheritable) & ~every()
    if unknown:
        raise CapabilityTextError(
            f"{describe(unknown)} in {text!r} is unknown to this kernel",
            help=f"its last capability is {names(every())[-1]} ({every().bit_length() - 1})",
        )
    return sets


def every() -> int:
    """Return the mask of all capabilities that the running kernel knows (cap_last_cap)."""
    return int((1 << _libcap.cap_max_bits()) - 1)


def names(mask: int) -> tuple[str, ...]:
    """Return the names of the capabilities in ``mask``; a number where libcap has no name."""
    return tuple(_name_of(bit) for bit in bits(mask))


def describe(mask: int) -> str:
    """Return ``mask`` in words: ``none``, ``all``, ``cap_a,cap_b`` or ``all but cap_a,cap_b``."""
    if not mask:
        return "none"
    missing = every() & ~mask
    if not missing:
        return "all"
    if missing.bit_count() < mask.bit_count():
        return f"all but {','.join(names(missing))}"
    return ",".join(names(mask))


def bits(mask: int) -> tuple[int, ...]:
    """Return the numbers of the capabilities in ``mask``, in rising order."""
    return tuple(bit for bit in range(mask.bit_length()) if mask >> bit & 1)


def how_to_give(mask: int) -> str:
    """Return what would give a process the capabilities in ``mask``, for the usual starters."""
    wanted = names(mask)
    short = [name.removeprefix("cap_") for name in wanted]
    added = ",".join("+" + name for name in short)
    return (
        f"podman: --cap-add={','.join(short).upper()} (docker: likewise, to the container's root); "
        f"systemd: AmbientCapabilities={' '.join(wanted).upper()}, "
        "with a CapabilityBoundingSet= that allows it; "
        f"by hand: setpriv --inh-caps={added} --ambient-caps={added}"
    )


def current() -> CapabilitySets:
    """Return the sets of the calling thread (cap_get_proc(3))."""
    with _owned(_checked_pointer(_libcap.cap_get_proc())) as pointer:
        return _read(pointer)


def apply(sets: CapabilitySets) -> None:
    """Give the calling thread exactly ``sets`` (cap_set_proc(3)); OSError where it may not."""
    with _owned(_checked_pointer(_libcap.cap_init())) as pointer:
        for flag, mask in (
            (_EFFECTIVE, sets.effective),
            (_PERMITTED, sets.permitted),
            (_INHERITABLE, sets.inheritable),
        ):
            numbers = bits(mask)
            array = (ctypes.c_int * len(numbers))(*numbers)
            if numbers:
                _check(_libcap.cap_set_flag(pointer, flag, len(numbers), array, 1))
        _check(_libcap.cap_set_proc(pointer))


def drop_from_bounding_set(mask: int) -> None:
    """Take ``mask`` out of the calling thread's bounding set (PR_CAPBSET_DROP), for good."""
    for bit in bits(mask):
        _check(_libcap.cap_drop_bound(bit))


def _from_text(text: str) -> int:
    # What is not ASCII names no capability; libcap refuses the escapes as it would the original.
    return _checked_pointer(_libcap.cap_from_text(text.encode("ascii", "backslashreplace")))


def _read(pointer: int) -> CapabilitySets:
    return CapabilitySets(
        permitted=_mask(pointer, _PERMITTED),
        effective=_mask(pointer, _EFFECTIVE),
        inheritable=_mask(pointer, _INHERITABLE),
    )


def _mask(pointer: int, flag: int) -> int:
    value = ctypes.c_int()
    mask = 0
    for bit in range(_MAX_BITS):
        _check(_libcap.cap_get_flag(pointer, bit, flag, ctypes.byref(value)))
        mask |= value.value << bit
    return mask


@contextmanager
def _owned(pointer: int) -> Iterator[int]:
    try:
        yield pointer
    finally:
        _libcap.cap_free(pointer)


def _checked_pointer(pointer: int | None) -> int:
    if pointer is None:
        raise _error()
    return pointer


def _check(result: int) -> None:
    if result == -1:
        raise _error()


def _error() -> OSError:
    code = ctypes.get_errno()
    return OSError(code, os.strerror(code))


@cache
def _name_of(bit: int) -> str:
    with _owned(_checked_pointer(_libcap.cap_to_name(bit))) as pointer:
        return ctypes.string_at(pointer).decode("ascii")


def _is_name(word: str) -> bool:
    number = ctypes.c_int()
    return bool(_libcap.cap_from_name(word.encode("ascii", "replace"), ctypes.byref(number)) == 0)


def _explained(text: str) -> CapabilityTextError:
    """Return the error for a text that libcap answers with a bare EINVAL."""
    clauses = re.findall(r"[^ \t\n\v\f\r]+", text)  # isspace(3), not str.isspace
    # A clause may be wrong alone or after the ones before it: the first bad beginning has it last.
    for end in range(1, len(clauses) + 1):
        try:
            _libcap.cap_free(_from_text(" ".join(clauses[:end])))
        except OSError:
            break
    clause = clauses[end - 1]
    where = repr(clause) if clause == text else f"{clause!r} in {text!r}"
    reason, hint = _diagnosis(clause)
    return CapabilityTextError(f"capability text {where}: {reason}", help=hint)


def _diagnosis(clause: str) -> tuple[str, str]:
    """Return what is wrong with a clause that libcap refuses, and what would help."""
    operator = next((at for at, char in enumerate(clause) if char in "=+-"), len(clause))
    words, actions = clause[:operator].split(","), clause[operator:]
    for word in filter(None, words):
        if word.lower() != "all" and not _is_name(word):
            return f"{word!r} is no capability that libcap knows", _suggestion(word)
    if not actions:
        return "it does not say which sets", f"write {clause}+ep to permit it and use it"
    if not all(words):
        return "a name is missing before the operator", f"write cap_net_bind_service{actions}"
    if "," in actions:
        return "a list goes before one operator", "write cap_a,cap_b+ep, or cap_a+ep cap_b+p"
    if wrong := sorted(set(actions) - set("=+-eip")):
        return (
            f"{wrong[0]!r} is no set",
            "after =, + or - come e (effective), i (inheritable) and p (permitted), in lower case",
        )
    return "cap_from_text(3) refuses it", "= comes once and first; + and - follow with their sets"


def _suggestion(word: str) -> str:
    from difflib import get_close_matches  # needed for errors alone

    plain = word.lower().removeprefix("cap_")
    if plain in {"none", "nothing"}:
        return "to retain nothing, leave the text empty"
    known = [name.removeprefix("cap_") for name in names(every())]
    if likely := get_close_matches(plain, known, n=1):
        return f"did you mean cap_{likely[0]}?"
    return "capsh --print lists what this kernel knows"
