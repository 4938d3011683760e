"""A regular expression of a stranger's, in a process of its own with little time.

::

    python -I -m mtad.archive.matching    {"pattern", "texts"} to {"value"} or {"error"}

Python's re takes exponential time for some patterns, and nothing but a signal ends it.
"""

from __future__ import annotations

import asyncio
import json
import re
import resource
import subprocess
import sys
from typing import Any

from mtad.errors import CommandError

PATTERN_CHARACTERS = 1_000
_SECONDS = 1
_MEMORY = 536_870_912
# With the start of an interpreter, on a machine that is busy.
_PATIENCE_SECONDS = 10.0


async def first_match(pattern: str, texts: list[str]) -> str | None:
    """Return the first group, or the whole, of the first match in any of ``texts``.

    Raises:
        CommandError: it is no pattern, or takes more than a second.
    """
    if len(pattern) > PATTERN_CHARACTERS:
        raise CommandError(f"a pattern of more than {PATTERN_CHARACTERS} characters")
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-I", "-m", __name__),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    question = json.dumps({"pattern": pattern, "texts": texts}).encode()
    try:
        async with asyncio.timeout(_PATIENCE_SECONDS):
            answer, _ = await process.communicate(question)
    except TimeoutError:
        answer = b""
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    if not answer:
        raise CommandError(
            f"the pattern {pattern!r} takes too long",
            help="repetitions inside repetitions, such as (a+)+, may take for ever",
        )
    found = json.loads(answer)
    if "error" in found:
        raise CommandError(f"{pattern!r} is no regular expression: {found['error']}")
    value: str | None = found["value"]
    return value


def _answer(question: dict[str, Any]) -> dict[str, str | None]:
    try:
        pattern = re.compile(question["pattern"])
    except (re.error, OverflowError, RecursionError) as error:
        return {"error": str(error)}
    for text in question["texts"]:
        if found := pattern.search(text):
            return {"value": found[1] if pattern.groups else found[0]}
    return {"value": None}


if __name__ == "__main__":
    resource.setrlimit(resource.RLIMIT_CPU, (_SECONDS, _SECONDS))
    resource.setrlimit(resource.RLIMIT_AS, (_MEMORY, _MEMORY))
    json.dump(_answer(json.load(sys.stdin)), sys.stdout)
