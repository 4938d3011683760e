"""What a sender does to meet a fault: a function of the port, that returns what it saw."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor

from harness.talk import ENDS, Talk

Scene = Callable[[int], object]


class Some:
    """Equal to a list that has ``what`` in it, and something else, too."""

    def __init__(self, what: object) -> None:
        self.what = what

    def __eq__(self, seen: object) -> bool:
        return isinstance(seen, list) and 0 < seen.count(self.what) < len(seen)

    def __repr__(self) -> str:
        return f"some {self.what!r}"

    __hash__ = None  # type: ignore[assignment]  # as of a list


def strikes(command: str) -> Scene:
    """The answer to a command, and what comes behind it: the end, or that it goes on."""

    def scene(port: int) -> object:
        with Talk(port) as talk:
            answer = talk.reach(command)
            if answer in ENDS or answer.startswith("354"):
                return answer
            behind = talk.answer() if answer.startswith("421") else talk.say("NOOP")
            return answer, behind if behind in ENDS else "goes on"

    return scene


def late(command: str) -> Scene:
    """The first digit that answers a command, and whether that takes a second."""

    def scene(port: int) -> object:
        with Talk(port) as talk:
            return talk.reach(command)[0], min(whole(talk.seconds), 1)

    return scene


def whole(number: float) -> int:
    """Return it without its fraction: machines are late, and timers a little early."""
    return int(number + 0.1)


def announces(keyword: str) -> Scene:
    """Whether EHLO has this keyword."""

    def scene(port: int) -> object:
        with Talk(port) as talk:
            return keyword in {line[4:].split(" ")[0] for line in talk.reach("EHLO").split("\n")}

    return scene


def greeting(port: int) -> object:
    """The greeting."""
    with Talk(port) as talk:
        return talk.answer()


def answers(*lines: str) -> Scene:
    """The codes that answer these lines, or how the connection ended."""

    def scene(port: int) -> object:
        with Talk(port) as talk:
            seen = [talk.answer()[:3]]
            for line in lines:
                if seen[-1] not in ENDS:
                    seen.append(talk.say(line)[:3])
            return seen[1:]

    return scene


def message(
    number: int = 0,
    *,
    sender: str = "sender@example.org",
    recipient: str = "rcpt@example.com",
    subject: str = "test",
    size: int = 0,
) -> list[str]:
    """Return what is said to send a message; each ``number`` has names of its own."""
    content = "\r\n".join(["hello", *["x" * 62] * (size // 64)])
    sender, recipient = (f"{number or ''}{who}" for who in (sender, recipient))
    return [
        f"EHLO client{number or ''}.example",
        f"MAIL FROM:<{sender}>",
        f"RCPT TO:<{recipient}>",
        "DATA",
        f"Subject: {subject}\r\n\r\n{content}\r\n.",
    ]


def login(number: int = 0) -> list[str]:
    """Return what is said to log in."""
    return [f"EHLO client{number or ''}.example", "AUTH"]


def fate(lines: Iterable[str]) -> Scene:
    """The first answer to these lines that is a refusal or the end, or the last code of all."""

    def scene(port: int) -> object:
        with Talk(port, patience=3) as talk:
            answer = talk.answer()
            for line in lines:
                if answer[0] not in "23":
                    return answer
                answer = talk.say(line)
            if answer[0] in "23":
                talk.say("QUIT")
                talk.answer()
                answer = answer[:3]
            return answer

    return scene


def each(*scenes: Scene) -> Scene:
    """All of these, one after the other; "refused" where nobody listens."""

    def scene(port: int) -> object:
        seen = []
        for one in scenes:
            try:
                seen.append(one(port))
            except ConnectionRefusedError:
                seen.append("refused")
        return seen

    return scene


def many(lines: Callable[[int], list[str]] = message, attempts: int = 40) -> Scene:
    """The fates of senders that differ in their names."""
    return each(*(fate(lines(number)) for number in range(1, attempts + 1)))


def after(seconds: float, scene: Scene) -> Scene:
    """The same, so much later."""

    def later(port: int) -> object:
        time.sleep(seconds)
        return scene(port)

    return later


def beside_each_other(one: Scene, attempts: int = 8) -> Scene:
    """The same scene several times at once; what is seen is sorted."""

    def scene(port: int) -> object:
        with ThreadPoolExecutor(attempts) as pool:
            return sorted(pool.map(one, [port] * attempts), key=repr)

    return scene


def hostname(port: int) -> object:
    """The name that the greeting has."""
    return str(greeting(port)).split(" ")[1]
