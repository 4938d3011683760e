"""Work in a forked child, which may change itself for good; the caller stays as it was."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from typing import Any

from mtad.errors import MtadError, PreflightError


def in_child(work: Callable[[], Any]) -> Any:
    """Return what ``work`` returns when a forked child calls it: anything that JSON can hold.

    Raises:
        PreflightError: ``work`` raised an MtadError, whose words it has; or there was no result.
    """
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            with os.fdopen(writing, "w", encoding="ascii") as pipe:
                pipe.write(_answer(work))
        finally:
            os._exit(0)
    os.close(writing)
    with os.fdopen(reading, encoding="ascii") as pipe:
        answer = pipe.read()
    os.waitpid(child, 0)
    try:
        outcome = json.loads(answer)
    except ValueError:  # a child that was killed half way is not one that found nothing
        raise PreflightError("the rehearsal of the drop ended without a result") from None
    if "error" in outcome:
        message, hint = outcome["error"]
        raise PreflightError(message, help=hint)
    return outcome["result"]


def _answer(work: Callable[[], Any]) -> str:
    try:
        return json.dumps({"result": work()})
    except MtadError as error:
        return json.dumps({"error": [error.message, error.help]})
