"""A daemon in miniature: it drops as it is told to, says so, and waits to be examined.

``python -m harness.privilege_program ORDER``; ORDER is JSON, its keys are those of Order. One line
of JSON on standard output says how it went; the end of standard input ends it.
"""

from __future__ import annotations

import dataclasses
import json
import socket
import sys
import threading
from pathlib import Path

from mtad.errors import MtadError
from mtad.privilege import drop
from mtad.privilege.access import program_files
from mtad.privilege.plan import Plan, Request, Situation, make_plan


@dataclasses.dataclass(frozen=True)
class Order:
    """``act`` is drop, renounce, both or nothing; ``omit`` a step to leave out.

    ``thread`` starts one ``before`` the plan, or ``late``: between plan and drop.
    """

    act: str = "drop"
    user: str | int | None = None
    group: str | int | None = None
    supplemental_groups: tuple[str | int, ...] = ()
    capabilities: str = ""
    readable: tuple[str, ...] = ()
    writable: tuple[str, ...] = ()
    omit: str = ""
    verify: bool = True
    thread: str = ""
    bind_raised: int = 0


def main() -> None:
    order = Order(**json.loads(sys.argv[1]))
    if order.thread == "before":
        _start_thread()
    if order.omit:
        drop.STEPS[order.omit] = _leave_out
    if not order.verify:
        drop.verify = _leave_out
    try:
        answer = _act(order)
    except MtadError as error:
        answer = {"error": type(error).__name__, "message": str(error)}
    print(json.dumps(answer), flush=True)
    sys.stdin.read()


def _start_thread() -> None:
    threading.Thread(target=threading.Event().wait, daemon=True).start()


def _leave_out(plan: Plan) -> None:
    pass


def _act(order: Order) -> dict[str, object]:
    answer: dict[str, object] = {}
    if order.act in {"drop", "both"}:
        plan = make_plan(
            Request(
                user=order.user,
                group=order.group,
                supplemental_groups=tuple(order.supplemental_groups),
                capabilities=order.capabilities,
                readable=(*program_files(), *map(Path, order.readable)),
                writable=tuple(map(Path, order.writable)),
            ),
            Situation.here(),
        )
        if order.thread == "late":
            _start_thread()
        drop.drop(plan)
        answer |= {
            "warnings": plan.warnings,
            "steps": [step.name for step in plan.steps],
            "expected": plan.expected.as_dict(),
        }
    if order.bind_raised:
        answer["bound"] = _bind(order.bind_raised)
    if order.act in {"renounce", "both"}:
        drop.renounce()
    return answer


def _bind(port: int) -> list[int]:
    """The errno of a bind before, within and after raised(); 0 is success."""
    results = [_bind_once(port)]
    with drop.raised():
        results.append(_bind_once(port))
    return [*results, _bind_once(port)]


def _bind_once(port: int) -> int:
    with socket.socket() as sock:
        try:
            sock.bind(("127.0.0.1", port))
        except OSError as error:
            return error.errno or -1
        return 0


if __name__ == "__main__":
    main()
