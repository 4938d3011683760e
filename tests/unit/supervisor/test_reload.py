"""What a new configuration means for the listeners there are: kept, gone, fresh, and in words."""

from __future__ import annotations

from dataclasses import replace

import pytest

from mtad.model.endpoint import Endpoint, TcpEndpoint, UnixEndpoint
from mtad.model.listener import ListenerSpec, Origin
from mtad.model.profile import Profile
from mtad.supervisor.listener import Listener
from mtad.supervisor.reload import Changes, compare


def spec(name: str, endpoint: Endpoint | int = 25) -> ListenerSpec:
    where = TcpEndpoint("127.0.0.1", endpoint) if isinstance(endpoint, int) else endpoint
    return ListenerSpec(name, name, where)


def compared(current: list[ListenerSpec], *wanted: ListenerSpec) -> Changes:
    return compare([Listener(one, slot) for slot, one in enumerate(current)], wanted)


def names(changes: Changes) -> tuple[list[str], list[str], list[str]]:
    return (
        [new.name for _, new in changes.kept],
        [one.spec.name for one in changes.gone],
        [one.name for one in changes.fresh],
    )


A, B = spec("a"), spec("b", 26)
ADDED = replace(spec("added", 27), origin=Origin.ADDED)


@pytest.mark.parametrize(
    ("current", "wanted", "kept", "gone", "fresh"),
    [
        ([], [], [], [], []),
        ([], [A, B], [], [], ["a", "b"]),
        ([A, B], [A, B], ["a", "b"], [], []),
        ([A, B], [B], ["b"], ["a"], []),
        ([A, B], [], [], ["a", "b"], []),
        ([A], [spec("a", 2525)], [], ["a"], ["a"]),
        ([A], [spec("a", TcpEndpoint("127.0.0.1", 25, v6only=False))], [], ["a"], ["a"]),
        ([A], [spec("a", UnixEndpoint("/run/a"))], [], ["a"], ["a"]),
        ([A], [spec("z")], [], ["a"], ["z"]),
        ([A, B], [spec("a", 26), spec("b", 25)], [], ["a", "b"], ["a", "b"]),
        ([A, ADDED], [A], ["a"], [], []),
        ([ADDED], [spec("added", 27)], ["added"], [], []),
        ([ADDED], [spec("added", 28)], [], ["added"], ["added"]),
    ],
    ids=[
        "nothing", "first", "same", "one removed", "all removed", "other port", "other family",
        "to unix", "renamed", "swapped", "added stays", "added is adopted", "added gives way",
    ],
)  # fmt: skip
def test_mark_and_sweep(
    current: list[ListenerSpec],
    wanted: list[ListenerSpec],
    kept: list[str],
    gone: list[str],
    fresh: list[str],
) -> None:
    assert names(compared(current, *wanted)) == (kept, gone, fresh)


@pytest.mark.parametrize(
    ("current", "wanted", "lines"),
    [
        ([A], [A], []),
        ([A], [], ["a: removed"]),
        ([], [B], ["b: new, 127.0.0.1:26"]),
        ([A], [spec("a", 2525)], ["a: 127.0.0.1:25 → 127.0.0.1:2525"]),
        ([A, B], [spec("a", 27)], ["a: 127.0.0.1:25 → 127.0.0.1:27", "b: removed"]),
        ([A], [replace(A, backlog=7)], ["a: backlog 500 → 7"]),
        ([A], [replace(A, enabled=False)], ["a: disabled"]),
        ([replace(A, enabled=False)], [A], ["a: enabled"]),
        ([A], [replace(A, profile=Profile("mx.example"))], ["a: profile default has changed"]),
        ([A], [replace(A, profile_name="strict")], ["a: profile default → strict"]),
    ],
)
def test_every_change_has_its_line(
    current: list[ListenerSpec], wanted: list[ListenerSpec], lines: list[str]
) -> None:
    assert compared(current, *wanted).describe() == lines
