"""Reports of real processes, and the judgement of made-up ones."""

from __future__ import annotations

import dataclasses
import json
import os
import threading
from typing import Any

import pytest

from mtad.privilege.capabilities import CapabilitySets
from mtad.privilege.report import Expected, ProcessReport, ThreadReport, inspect, judge

BIND = 1 << 10
EXPECTED = Expected(
    uid=999,
    gid=995,
    groups=frozenset({4}),
    sets=CapabilitySets(BIND, BIND, 0),
    bounding=BIND,
    securebits=0xEF,
)
THREAD = ThreadReport(
    tid=7,
    comm="mtad",
    uids=(999, 999, 999, 999),
    gids=(995, 995, 995, 995),
    groups=(4,),
    permitted=BIND,
    effective=BIND,
    inheritable=0,
    bounding=0,
    ambient=0,
    no_new_privs=True,
    seccomp=0,
    securebits=0xEF,
)
OTHER = dataclasses.replace(THREAD, tid=8, comm="uv", securebits=None)
REPORT = ProcessReport(pid=7, threads=(THREAD, OTHER), core_limit=0, dumpable=False)


def test_as_planned_is_nothing_to_say() -> None:
    assert judge(REPORT, EXPECTED) == []


def test_the_primary_group_may_be_listed_once_more() -> None:
    thread = dataclasses.replace(THREAD, groups=(4, 995))
    assert judge(dataclasses.replace(REPORT, threads=(thread,)), EXPECTED) == []


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"uids": (999, 999, 0, 999)}, "its uids are 999, 999, 0, 999; planned is 999 alone"),
        ({"gids": (0, 995, 995, 995)}, "its gids are 0, 995, 995, 995; planned is 995 alone"),
        ({"groups": (0, 4)}, "its supplementary groups are 0, 4; planned: 4"),
        ({"groups": ()}, "its supplementary groups are none; planned: 4"),
        (
            {"permitted": BIND | 1},
            "its permitted set is cap_chown,cap_net_bind_service; planned: cap_net_bind_service",
        ),
        ({"effective": 0}, "its effective set is none; planned: cap_net_bind_service"),
        ({"inheritable": 1}, "its inheritable set is cap_chown; planned: none"),
        ({"bounding": BIND | 1}, "its bounding set still has cap_chown"),
        ({"ambient": BIND}, "its ambient set is cap_net_bind_service; planned: none"),
        ({"no_new_privs": False}, "no_new_privs is not set: exec may still give it privileges"),
    ],
)
def test_each_deviation_of_any_thread_has_its_sentence(
    changes: dict[str, Any], sentence: str
) -> None:
    wrong = dataclasses.replace(OTHER, **changes)
    report = dataclasses.replace(REPORT, threads=(THREAD, wrong))
    assert judge(report, EXPECTED) == [f"thread 8 (uv): {sentence}"]


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        (
            {"threads": (dataclasses.replace(THREAD, securebits=0x2F),)},
            "thread 7 (mtad): its securebits are 0x2f; planned: 0xef",
        ),
        ({"core_limit": -1}, "process 7 may dump core: its RLIMIT_CORE is -1"),
        ({"dumpable": True}, "process 7 is dumpable: others of its user may trace it"),
        ({"threads": ()}, "process 7 has no thread left to look at"),
    ],
)
def test_each_deviation_of_the_process(changes: dict[str, Any], sentence: str) -> None:
    assert judge(dataclasses.replace(REPORT, **changes), EXPECTED) == [sentence]


def test_every_thread_is_in_the_report_and_only_the_caller_shows_its_securebits() -> None:
    leave = threading.Event()
    other = threading.Thread(target=leave.wait)
    other.start()
    try:
        report = inspect(os.getpid())
    finally:
        leave.set()
        other.join()
    securebits = {thread.tid: thread.securebits for thread in report.threads}
    assert securebits[other.native_id or 0] is None
    assert securebits[threading.get_native_id()] is not None
    assert report.dumpable is not None


def test_of_another_process_nothing_is_made_up() -> None:
    report = inspect(os.getppid())
    assert report.dumpable is None
    assert all(thread.securebits is None for thread in report.threads)


def test_a_process_that_is_gone() -> None:
    child = os.fork()
    if child == 0:
        os._exit(0)
    os.waitpid(child, 0)
    with pytest.raises(ProcessLookupError, match=f"process {child} is gone"):
        inspect(child)


def test_reports_and_expectations_are_json() -> None:
    report = json.loads(json.dumps(REPORT.as_dict()))
    assert report["threads"][0]["permitted"] == {"hex": "0x400", "names": ["cap_net_bind_service"]}
    assert report["threads"][0]["securebits"] == "0xef"
    assert json.loads(json.dumps(EXPECTED.as_dict()))["effective"] == {
        "hex": "0x400",
        "names": ["cap_net_bind_service"],
    }
