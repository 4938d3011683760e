"""What is configured against what every process and thread really holds."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from mtad.config.schema import Security
from mtad.privilege.plan import Plan
from mtad.privilege.report import Expected, inspect, judge


def report(configured: Security, plan: Plan, children: Mapping[str, int]) -> dict[str, Any]:
    """Return the result of the command ``security``; ``children`` are pids by role."""
    processes = [
        _process("supervisor", os.getpid(), plan.expected),
        *(_process(role, pid, plan.expected_worker) for role, pid in children.items()),
    ]
    deviations = [sentence for process in processes for sentence in process["deviations"]]
    return {
        "ok": not deviations,
        "verdict": "every process and thread holds what is configured, and nothing else"
        if not deviations
        else "NOT as configured",
        "configured": configured.model_dump(mode="json"),
        "expected": plan.expected.as_dict(),
        "processes": processes,
        "deviations": deviations,
    }


def _process(role: str, pid: int, expected: Expected) -> dict[str, Any]:
    try:
        held = inspect(pid)
    except ProcessLookupError as error:
        unseen = f"{role} ({pid}) cannot be looked at: {error}"
        return {"role": role, "pid": pid, "verdict": "?", "deviations": [unseen], "threads": []}
    deviations = judge(held, expected)
    return {
        **held.as_dict(),
        "role": role,
        "verdict": "differs" if deviations else "ok",
        "deviations": [f"{role} ({pid}): {sentence}" for sentence in deviations],
    }
