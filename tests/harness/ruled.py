"""Rules for one opening in the test's own process, and who weighs them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from harness.serving import Serving, serving
from mtad.ipc.messages import Weigh, Weighed
from mtad.model.rules.values import At, Do, Moment, Nth, Rule, When, Where

COUNTED = When(Nth(1))
"""Makes a rule one that the supervisor is asked about."""


def rule(at: Moment | At, name: str = "rule", *, when: When | None = None, **do: Any) -> Rule:
    """Return a rule that does something at a moment, always or ``when``."""
    where = do.pop("where", Where())
    moment = at if isinstance(at, At) else At(at)
    return Rule(name, (moment,), Do(**do), where, when or When())


@asynccontextmanager
async def ruled(*rules: Rule, **options: Any) -> AsyncIterator[Serving]:
    """Serve a listener that has rules; ``options`` are those of ``serving``."""
    async with serving(**{"hostname": "mx.example", **options}) as served:
        served.rules.replace(rules)
        yield served


def asked(served: Serving) -> list[Weigh]:
    """Return the questions that the supervisor has been asked."""
    return [one for one in served.told if isinstance(one, Weigh)]


async def weighed(served: Serving, name: str, draw: float = 0.0, number: int = 1) -> Weigh:
    """Wait for a question, counted from 1; answer it as the supervisor does, and return it."""
    await served.until(lambda: len(asked(served)) >= number)
    question = asked(served)[number - 1]
    served.questions.answered(Weighed(question.ticket, name, draw))
    return question
