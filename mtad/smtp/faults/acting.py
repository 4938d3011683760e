"""What a rule does in a session when it acts: it answers, and closes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

from mtad.model.rules.values import At, Close, Do
from mtad.smtp.faults.answers import (
    NOTHING,
    Answer,
    Raw,
    Say,
    answer,
    ends,
    is_positive,
    when_done,
)
from mtad.smtp.faults.asking import Asking
from mtad.smtp.faults.facts import facts_of
from mtad.smtp.faults.paced import PacedConnection
from mtad.smtp.lines import Run
from mtad.smtp.stage import Stage


class _Due(NamedTuple):
    """What becomes of the next reply: what is said instead, and what follows it."""

    say: Say
    do: Do


class Acting(Asking):
    """A session that does what rules say; when is said by the classes that build on this."""

    _due = _Due(lambda reply: (reply,), NOTHING)

    def at_command(
        self, at: At, act: Callable[[], Run], say: Callable[[Do], Say] = when_done, **known: Any
    ) -> Run:
        """Carry out a command that may be carried out, if a rule lets it, and as it says.

        ``known`` is for facts_of.
        """
        return self.consult(at, facts_of(self, **known), lambda do: self.carry_out(do, act, say))

    # Answering

    def carry_out(
        self, do: Do, act: Callable[[], Run], say: Callable[[Do], Say] = when_done
    ) -> Run:
        """Do what a rule lets happen, and say of it what the rule says; or only say that."""
        if not is_positive(do):
            self.say_only(do)
            return None
        if do is not NOTHING:
            self.say_next(say(do), do)
        return act()

    def say_only(self, do: Do) -> None:
        """Say what a rule says, which is no answer to anything that was done."""
        self.say(answer(do) or (), do)

    def say_first(self, do: Do, act: Callable[[], Run]) -> Run:
        """Say what a rule says, then do what it lets happen; what never begins is silent."""
        then = act if is_positive(do) else self.fall_silent
        return self.say(answer(do) or (), do, then)

    def say_next(self, say: Say, do: Do) -> None:
        """Have the next reply be what ``say`` makes of it; what ``do`` ends, ends then."""
        self._due = _Due(say, do)
        vars(self)["reply"] = self._reply_due  # replies that are not due do not have to look

    def _reply_due(self, octets: bytes) -> None:
        del vars(self)["reply"]
        self.say(self._due.say(octets), self._due.do)

    @property
    def is_refused_next(self) -> bool:
        """Whether a rule makes a refusal of the next reply, or nothing."""
        return "reply" in vars(self) and not is_positive(self._due.do)

    def goodbye(self, octets: bytes, stage: Stage = Stage.REFUSED) -> None:
        """Say the last reply, whatever was due."""
        vars(self).pop("reply", None)
        super().goodbye(octets, stage)

    def say(self, answers: Sequence[Answer], do: Do, then: Callable[[], Run] | None = None) -> Run:
        """Answer, do what follows, and ``then``, where the dialogue goes on."""
        for one in answers:
            if isinstance(one, bytes):
                self.reply(one)
            elif one.is_long:
                self._speak(one, partial(self._follow, do, then))
                return None
            elif not self._ended:
                self._replies.append(one.octets * one.repeat)
        return self._follow(do, then)

    def _speak(self, raw: Raw, then: Callable[[], Run]) -> None:
        """Say what is too long to be held."""
        self.flush()
        if not self._ended:
            self.hold()
            self.spoke(raw.size)
            self.paced.stream(raw.pieces(), partial(self.go_on, then))

    # What follows an answer

    def _follow(self, do: Do, then: Callable[[], Run] | None) -> Run:
        """Close as a rule says, or fall silent."""
        if self._ended:
            return None
        if do.close is not None and do.close is not Close.HALF:
            self.stage(Stage.BROKEN_OFF, do.close)
            self._break_off(do.close)
        elif ends(do):
            self.fall_silent()
            if do.close is Close.HALF:
                self.connection.shut()
            if do.deaf:
                self.connection.deafen()
        elif then is not None:
            self.flush()
            return then()
        return None

    def _break_off(self, close: Close) -> None:
        if close is Close.FIN:
            self.end(linger=True)
        else:
            self.flush()
            self._ended = True
            self.connection.reset()


class Counting(Acting):
    """A session that counts its refusals: for a tarpit."""

    def reply(self, octets: bytes) -> None:
        """Answer."""
        self.refusals += octets.startswith((b"4", b"5"))
        super().reply(octets)


class Pacing(Acting):
    """A session that may be slow, or speak at length."""

    connection_class = PacedConnection
