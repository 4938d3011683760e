"""The worker's side of limits: every question has one answer, and every end is told."""

from __future__ import annotations

from mtad.ipc.messages import Admit, Admitted, Left
from mtad.worker.admissions import Admissions


def test_a_question_and_its_answer() -> None:
    sent: list[Admit | Left] = []
    answers: list[str] = []
    asking = Admissions(sent.append)
    first = asking.ask(7, "192.0.2.1", answers.append)
    second = asking.ask(7, "192.0.2.2", lambda why: answers.append(f"second {why}"))
    assert sent == [Admit(first, 7, "192.0.2.1"), Admit(second, 7, "192.0.2.2")]
    assert first != second
    assert answers == []
    asking.answered(Admitted(second, "sessions"))
    asking.answered(Admitted(first, ""))
    asking.answered(Admitted(first, ""))
    assert answers == ["second sessions", ""]
    asking.leave(first)
    assert sent[2:] == [Left(first)]


def test_who_has_left_hears_no_answer() -> None:
    sent: list[Admit | Left] = []
    answers: list[str] = []
    asking = Admissions(sent.append)
    ticket = asking.ask(7, "192.0.2.1", answers.append)
    asking.leave(ticket)
    asking.answered(Admitted(ticket, ""))
    assert answers == []
    assert sent == [Admit(ticket, 7, "192.0.2.1"), Left(ticket)]
