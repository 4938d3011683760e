"""Capability text: libcap against a model of its grammar, and the errors that it never gives."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mtad.errors import CapabilityTextError
from mtad.privilege import capabilities
from mtad.privilege.capabilities import CapabilitySets, describe, every, names, parse

BIND = 1 << 10
LAST = int(Path("/proc/sys/kernel/cap_last_cap").read_text())


@pytest.mark.parametrize(
    ("text", "permitted", "effective", "inheritable"),
    [
        ("", 0, 0, 0),
        ("  \t", 0, 0, 0),
        ("=", 0, 0, 0),
        ("all=", 0, 0, 0),
        ("cap_net_bind_service+ep", BIND, BIND, 0),
        ("cap_net_bind_service=ep", BIND, BIND, 0),
        ("CAP_NET_BIND_SERVICE+ep", BIND, BIND, 0),
        ("10+ep", BIND, BIND, 0),
        ("cap_net_bind_service+p", BIND, 0, 0),
        ("cap_net_bind_service+eip", BIND, BIND, BIND),
        ("cap_net_bind_service+p\tcap_net_bind_service+e", BIND, BIND, 0),
        (
            "cap_net_bind_service,cap_net_admin,cap_net_raw,cap_sys_resource+ep",
            *[BIND | 1 << 12 | 1 << 13 | 1 << 24] * 2,
            0,
        ),
        ("=ep cap_sys_resource-ep", *[(1 << LAST + 1) - 1 & ~(1 << 24)] * 2, 0),
    ],
)
def test_parses(text: str, permitted: int, effective: int, inheritable: int) -> None:
    assert parse(text) == CapabilitySets(permitted, effective, inheritable)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "net_bind_service+ep",
            (
                "capability text 'net_bind_service+ep': 'net_bind_service' is no capability that "
                "libcap knows (did you mean cap_net_bind_service?)"
            ),
        ),
        (
            "cap_chown+p cap_net_bind_servce+ep",
            (
                "capability text 'cap_net_bind_servce+ep' in 'cap_chown+p cap_net_bind_servce+ep': "
                "'cap_net_bind_servce' is no capability that libcap knows "
                "(did you mean cap_net_bind_service?)"
            ),
        ),
        (
            "cap_flux_capacitor+ep",
            (
                "capability text 'cap_flux_capacitor+ep': 'cap_flux_capacitor' is no capability "
                "that libcap knows (capsh --print lists what this kernel knows)"
            ),
        ),
        (
            "none",
            (
                "capability text 'none': 'none' is no capability that libcap knows "
                "(to retain nothing, leave the text empty)"
            ),
        ),
        (
            "+ep",
            (
                "capability text '+ep': a name is missing before the operator "
                "(write cap_net_bind_service+ep)"
            ),
        ),
        (
            "cap_chown",
            (
                "capability text 'cap_chown': it does not say which sets "
                "(write cap_chown+ep to permit it and use it)"
            ),
        ),
        (
            "cap_chown+EP",
            (
                "capability text 'cap_chown+EP': 'E' is no set "
                "(after =, + or - come e (effective), i (inheritable) and p (permitted), "
                "in lower case)"
            ),
        ),
        (
            "cap_chown+ep,cap_kill+ep",
            (
                "capability text 'cap_chown+ep,cap_kill+ep': a list goes before one operator "
                "(write cap_a,cap_b+ep, or cap_a+ep cap_b+p)"
            ),
        ),
        (
            "cap_chown+p\u00a0cap_kill+p",
            (
                "capability text 'cap_chown+p\\xa0cap_kill+p': '_' is no set (after =, + or - come "
                "e (effective), i (inheritable) and p (permitted), in lower case)"
            ),
        ),
        (
            "cap_chown+p\0cap_kill+p",
            (
                "capability text 'cap_chown+p\\x00cap_kill+p' holds a NUL "
                "(the C library would stop reading there)"
            ),
        ),
        (
            "63=p",
            (
                f"63 in '63=p' is unknown to this kernel (its last capability is "
                f"{names(1 << LAST)[0]} ({LAST}))"
            ),
        ),
    ],
)
def test_names_the_culprit(text: str, message: str) -> None:
    with pytest.raises(CapabilityTextError) as caught:
        parse(text)
    assert str(caught.value) == message


@given(st.text())
def test_any_text_is_parsed_or_refused_in_words(text: str) -> None:
    try:
        parse(text)
    except CapabilityTextError as refusal:
        error = refusal
    else:
        return
    assert error.message
    assert error.help


CLAUSES = st.lists(
    st.tuples(
        st.lists(st.integers(0, LAST), min_size=1, max_size=4),
        st.lists(
            st.tuples(st.sampled_from("+-"), st.sets(st.sampled_from("eip"), min_size=1)),
            min_size=1,
            max_size=3,
        ),
        st.booleans(),
    ),
    max_size=5,
)


@given(CLAUSES)
def test_agrees_with_a_model_of_cap_from_text(
    clauses: list[tuple[list[int], list[tuple[str, set[str]]], bool]],
) -> None:
    sets = dict.fromkeys("pei", 0)
    words = []
    for numbers, actions, assigns in clauses:
        mask = 0
        for number in numbers:
            mask |= 1 << number
        text = ",".join(names(mask))
        for at, (operator, flags) in enumerate(actions):
            if assigns and at == 0:
                operator = "="
                for flag in sets:
                    sets[flag] &= ~mask
            for flag in flags:
                sets[flag] = sets[flag] & ~mask if operator == "-" else sets[flag] | mask
            text += operator + "".join(sorted(flags))
        words.append(text)
    assert parse(" ".join(words)) == CapabilitySets(sets["p"], sets["e"], sets["i"])


def test_the_kernel_and_libcap_agree_on_the_last_capability() -> None:
    assert every() == (1 << LAST + 1) - 1


@pytest.mark.skipif(shutil.which("capsh") is None, reason="capsh (libcap2-bin) is not installed")
@given(st.integers(0, (1 << LAST + 1) - 1))
def test_names_as_capsh_does(mask: int) -> None:
    done = subprocess.run(
        ["capsh", f"--decode={mask:x}"], capture_output=True, text=True, check=True
    )
    assert ",".join(names(mask)) == done.stdout.strip().partition("=")[2]


@pytest.mark.parametrize(
    ("mask", "words"),
    [
        (0, "none"),
        (every(), "all"),
        (BIND | 1, "cap_chown,cap_net_bind_service"),
        (every() & ~(1 << 24), "all but cap_sys_resource"),
    ],
)
def test_describes(mask: int, words: str) -> None:
    assert describe(mask) == words


def test_a_thread_may_give_up_effective_and_take_it_again() -> None:
    before = capabilities.current()
    lowered = CapabilitySets(before.permitted, 0, before.inheritable)
    capabilities.apply(lowered)
    try:
        assert capabilities.current() == lowered
    finally:
        capabilities.apply(before)
    assert capabilities.current() == before
