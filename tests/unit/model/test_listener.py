"""The life of a listener: the table against a smaller model, walked at random and in full."""

from __future__ import annotations

import itertools
import re

import pytest
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from mtad.model import listener
from mtad.model.endpoint import TcpEndpoint, UnixEndpoint
from mtad.model.listener import TRANSITIONS, Happening, State, after, member_name

POSSIBLE = {
    State.STOPPED: {Happening.START, Happening.STOP, Happening.DRAINED},
    State.STARTING: set(Happening),
    State.RUNNING: set(Happening) - {Happening.BIND_FAILED},
    State.DRAINING: {Happening.START, Happening.STOP, Happening.DRAINED},
    State.FAILED: {Happening.START, Happening.STOP, Happening.DRAINED},
}


@pytest.mark.parametrize(("state", "happening"), list(itertools.product(State, Happening)))
def test_every_pair_is_defined_or_impossible(state: State, happening: Happening) -> None:
    if happening in POSSIBLE[state]:
        assert after(state, happening) in State
    else:
        with pytest.raises(KeyError):
            after(state, happening)


@pytest.mark.parametrize("happening", [Happening.START, Happening.STOP, Happening.DRAINED])
@pytest.mark.parametrize("state", State)
def test_twice_is_once(state: State, happening: Happening) -> None:
    once = after(state, happening)
    assert after(once, happening) is once


@pytest.mark.parametrize("state", State)
def test_it_runs_when_it_is_served_and_not_before(state: State) -> None:
    started = after(state, Happening.START)
    assert started is (state if state is State.RUNNING else State.STARTING)
    running = after(started, Happening.SERVED)
    assert after(running, Happening.START) is running is State.RUNNING


def test_every_state_can_be_reached_and_left() -> None:
    changes = {(old, new) for (old, _), new in TRANSITIONS.items() if old is not new}
    assert {old for old, _ in changes} == {new for _, new in changes} == set(State)


def test_the_drawing_shows_transitions_that_exist() -> None:
    arrows = re.findall(r"(\w+) ──(\w+)──► (\w+)", listener.__doc__ or "")
    assert ("stopped", "start", "starting") in arrows
    for old, happening, new in arrows:
        assert after(State(old), Happening(happening)) is State(new)


class Life(RuleBasedStateMachine):
    """A listener is its socket and its sessions; its state is a word for the two."""

    def __init__(self) -> None:
        super().__init__()
        self.state = State.STOPPED
        self.socket = self.sessions = self.error = self.begun = self.served = False

    def happens(self, happening: Happening) -> None:
        self.state = after(self.state, happening)

    @precondition(lambda self: not self.begun)
    @rule()
    def start(self) -> None:
        self.happens(Happening.START)
        self.begun = not self.socket

    @precondition(lambda self: self.begun)
    @rule()
    def bind(self) -> None:
        self.begun, self.socket, self.error = False, True, False

    @precondition(lambda self: self.socket)
    @rule()
    def be_served(self) -> None:
        self.happens(Happening.SERVED)
        self.served = True

    @precondition(lambda self: self.begun)
    @rule()
    def fail_to_bind(self) -> None:
        self.happens(Happening.BIND_FAILED)
        self.begun, self.error = False, True

    @precondition(lambda self: self.socket)
    @rule()
    def be_refused(self) -> None:
        self.happens(Happening.REFUSED)
        self.socket, self.served, self.error = False, False, True

    @precondition(lambda self: not self.begun)
    @rule()
    def stop(self) -> None:
        # What was open has to drain; behind a failure there may be sessions of what was before it.
        self.sessions = self.sessions or self.socket or self.error
        self.happens(Happening.STOP)
        self.socket = self.served = self.error = False

    @precondition(lambda self: not self.begun)
    @rule()
    def drain(self) -> None:
        self.happens(Happening.DRAINED)
        self.sessions = False

    @invariant()
    def the_state_says_what_there_is(self) -> None:
        if self.begun:
            expected = State.STARTING
        elif self.socket:
            expected = State.RUNNING if self.served else State.STARTING
        elif self.error:
            expected = State.FAILED
        else:
            expected = State.DRAINING if self.sessions else State.STOPPED
        assert self.state is expected


TestLife = Life.TestCase


@pytest.mark.parametrize(
    ("endpoint", "members", "name"),
    [
        (TcpEndpoint("127.0.0.1", 25), 1, "mx"),
        (TcpEndpoint("127.0.0.1", 25), 2, "mx/127.0.0.1"),
        (TcpEndpoint("::1", 25), 2, "mx/::1"),
        (UnixEndpoint("/run/mx"), 1, "mx"),
    ],
)
def test_names(endpoint: TcpEndpoint | UnixEndpoint, members: int, name: str) -> None:
    assert member_name("mx", endpoint, members) == name
