"""The fault rules there are: added, written, changed, counted, and over."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from msgspec.structs import replace

from mtad.errors import RuleError
from mtad.ipc.messages import Hit
from mtad.model.rules.values import At, Chance, Do, First, Moment, Rule, Said, Source, When, Where
from mtad.supervisor import rules as module
from mtad.supervisor.events import Events
from mtad.supervisor.rule import Standing
from mtad.supervisor.rules import Rules

LATER = Do(Said(450))


def rule(name: str, **more: Any) -> Rule:
    return Rule(name, (At(Moment.RCPT),), **{"do": LATER, "source": Source.ADDED, **more})


def written(name: str, **more: Any) -> Rule:
    return rule(name, source=Source.FILE, **more)


class Kept(Rules):
    """Rules, how often others were asked since, and what was told."""

    def __init__(self) -> None:
        self.changes = 0
        self.told = Events()
        self.follower = self.told.follow()
        super().__init__(self.told, self._count)

    def _count(self) -> None:
        self.changes += 1

    def names(self) -> list[str]:
        return [rule.name for rule in self.in_force()]

    def hit(self, *names: str, key: bytes = b"", times: int = 1) -> list[str]:
        """Return what fired."""
        fired = []
        for _ in range(times):
            found, _ = self.weigh([Hit(name, key, 0) for name in names])
            fired.append(found.name if found else "")
        return fired

    async def events(self, number: int) -> list[dict[str, Any]]:
        async with asyncio.timeout(5):
            return [await anext(self.follower) for _ in range(number)]


@pytest.fixture
async def rules() -> AsyncIterator[Kept]:
    kept = Kept()
    yield kept
    await kept.follower.aclose()


async def test_added_rules_are_asked_first_and_in_their_order(rules: Kept) -> None:
    rules.replace([written("file"), rule("p/x", source=Source.PROFILE)])
    rules.add([rule("a")], "me")
    rules.add([rule("b")], "me")
    assert rules.names() == ["a", "b", "file", "p/x"]
    rules.add([rule("c"), rule("d")], "me", before="b")
    rules.add([rule("e")], "me", before="file")
    assert rules.names() == ["a", "c", "d", "b", "e", "file", "p/x"]
    assert rules.changes == 5


async def test_a_set_is_added_whole_or_not_at_all(
    rules: Kept, monkeypatch: pytest.MonkeyPatch
) -> None:
    rules.replace([written("file")])
    rules.add([rule("a")], "me")
    monkeypatch.setattr(module, "MAX_ADDED", 3)
    for new, said in (
        ([rule("b"), rule("a")], "a rule is called 'a' already"),
        ([rule("b"), rule("file")], "a rule is called 'file' already"),
        ([rule("b"), rule("c"), rule("d")], "there can be 3 added rules"),
    ):
        with pytest.raises(RuleError, match=said):
            rules.add(new, "me")
    with pytest.raises(RuleError, match="no rule is called 'x'"):
        rules.add([rule("b")], "me", before="x")
    with pytest.raises(RuleError):
        rules.add([rule("file")], "me", clear=True)
    assert rules.names() == ["a", "file"]
    rules.add([rule("a", do=Do()), rule("b")], "me", clear=True)
    assert rules.names() == ["a", "b", "file"]


async def test_who_is_not_known_is_told_whom_there_is(rules: Kept) -> None:
    rules.add([rule(f"r{number}") for number in range(12)], "me")
    changes: list[Callable[[], None]] = [
        lambda: rules.remove(["r1", "r99"], "me"),
        lambda: rules.enable(["r1", "r99"], False, "me"),
        lambda: rules.reset(["r1", "r99"], "me"),
        lambda: rules.change(rule("r99"), "me"),
    ]
    for change in changes:
        with pytest.raises(RuleError) as raised:
            change()
        assert raised.value.help.startswith("there are: r0, r1, ")
        assert raised.value.help.endswith(", r9 and 2 more")
    assert len(rules.names()) == 12


async def test_a_change_keeps_the_place_and_begins_anew(rules: Kept) -> None:
    rules.replace([written("file", when=When(First(1)))])
    rules.add([rule("a", when=When(First(1))), rule("b")], "me")
    assert rules.hit("a", "file", times=3) == ["a", "file", ""]
    rules.change(rule("a", when=When(First(2))), "you")
    rules.change(rule("file", when=When(First(2))), "you")
    assert rules.names() == ["a", "b", "file"]
    assert rules.get("file").rule.source is Source.FILE
    assert rules.get("a").by == "you"
    assert rules.hit("a", "file", times=5) == ["a", "a", "file", "file", ""]


async def test_disabled_is_not_asked_and_counts_stay(rules: Kept) -> None:
    rules.add([rule("a", when=When(First(2))), rule("b")], "me")
    assert rules.hit("a", "b") == ["a"]
    rules.enable(["a"], False, "me")
    assert rules.names() == ["b"]
    assert rules.standing(rules.get("a")) is Standing.DISABLED
    assert rules.hit("a", "b") == ["b"]
    rules.enable(["a"], True, "me")
    assert rules.hit("a", "b", times=2) == ["a", "b"]
    assert rules.ledger.counts("a")[:2] == (3, 2)


async def test_spent_after_its_hits_and_reset(rules: Kept) -> None:
    rules.add([rule("a", hits=2), rule("b")], "me")
    assert rules.hit("a", "b", times=3) == ["a", "a", "b"]
    assert rules.standing(rules.get("a")) is Standing.SPENT
    assert rules.names() == ["b"]
    told = await rules.events(3)
    assert told[2]["event"] == "rule.spent"
    assert (told[2]["rule"], told[2]["hits"]) == ("a", 2)
    rules.reset(["a"], "me")
    assert rules.hit("a", "b", times=3) == ["a", "a", "b"]


async def test_workers_are_told_once_of_many_rules_that_are_spent(
    rules: Kept, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_SPENT_SECONDS", 0.01)
    rules.add([rule(f"r{number}", hits=1) for number in range(20)], "me")
    for number in range(19):
        assert rules.hit(f"r{number}", times=2) == [f"r{number}", ""]
    assert rules.changes == 1
    assert rules.names() == ["r19"]
    await asyncio.sleep(0.05)
    assert rules.changes == 2


async def test_expired_after_its_time_and_reset(rules: Kept) -> None:
    rules.add([rule("a", seconds=0.03, when=When(First(9)))], "me")
    assert rules.hit("a") == ["a"]
    told = await rules.events(2)
    assert (told[1]["event"], told[1]["rule"]) == ("rule.expired", "a")
    assert rules.hit("a") == [""]
    assert rules.names() == []
    assert rules.standing(rules.get("a")) is Standing.EXPIRED
    rules.enable(["a"], False, "me")
    rules.enable(["a"], True, "me")
    assert rules.names() == [], "to enable it gives it no time"
    rules.reset(["a"], "me")
    assert rules.names() == ["a"]
    assert (await rules.events(4))[-1]["event"] == "rule.expired"


@pytest.mark.parametrize("end", ["remove", "change", "reset", "reload"])
async def test_no_time_runs_on(rules: Kept, end: str) -> None:
    """Of a rule that is gone, or that is another by now."""
    rules.replace([written("f", seconds=60)])
    rules.add([rule("a", seconds=60)], "me")
    timers = [kept.timer for kept in rules]
    if end == "remove":
        rules.remove(["a", "f"], "me")
        rules.add([rule("a"), rule("f")], "me")
    elif end == "change":
        rules.change(rule("a"), "me")
        rules.change(rule("f"), "me")
    elif end == "reset":
        rules.reset(["a", "f"], "me")
    else:
        rules.replace([written("f"), written("a")])
    assert [timer is not None and timer.cancelled() for timer in timers] == [True, True]
    assert sorted(rules.names()) == ["a", "f"]


async def test_a_reload_is_mark_and_sweep(rules: Kept) -> None:
    first = When(First(2))
    rules.replace([written(name, when=first) for name in ("same", "other", "gone")])
    rules.add([rule("added", when=first)], "me")
    for name in ("same", "other", "gone", "added"):
        assert rules.hit(name) == [name]
    new = [written("new"), written("other", when=When(First(3))), written("same", when=first)]
    assert rules.differences(new) == [
        "rule gone: removed",
        "rule new: new",
        "rule other: changed",
        "rules: asked in another order",
    ]
    rules.replace(new)
    assert rules.names() == ["added", "new", "other", "same"]
    counts = {name: rules.ledger.counts(name).fired for name in rules.names()}
    assert counts == {"added": 1, "new": 0, "other": 0, "same": 1}
    assert rules.differences(new) == []


async def test_what_an_operator_did_and_a_reload(rules: Kept) -> None:
    """Changes and removals last until then; what is disabled stays so, unless the file changes."""
    file = [written(name) for name in ("changed", "removed", "disabled", "again", "both")]
    rules.replace(file)
    for name in ("changed", "both"):
        rules.change(rule(name, do=Do()), "me")
    rules.remove(["removed"], "me")
    rules.enable(["disabled", "again", "both"], False, "me")
    assert rules.differences(file) == [
        "rule changed: as it is written again",
        "rule removed: new",
        "rule both: as it is written again",
    ]
    rules.replace(file)
    assert rules.names() == ["changed", "removed"]
    assert rules.get("changed").rule == file[0]
    assert rules.get("both").rule == replace(file[4], enabled=False)
    mind = [*file[:3], replace(file[3], enabled=False), file[4]]
    rules.replace(mind)
    assert rules.differences(file) == ["rule again: changed"]
    rules.replace(file)
    assert rules.names() == ["changed", "removed", "again"]


async def test_a_rule_of_the_file_takes_the_name_of_an_added_one(rules: Kept) -> None:
    rules.add([rule("a"), rule("b")], "me")
    assert rules.differences([written("a")]) == ["rule a: new, in place of the one that was added"]
    rules.replace([written("a")])
    assert rules.names() == ["b", "a"]
    assert rules.get("a").rule.source is Source.FILE


async def test_a_seed_that_is_drawn_is_told_and_outlives_a_reload(rules: Kept) -> None:
    def drawn(seed: int, **more: Any) -> Rule:
        return written("a", when=When(Chance(0.5), seed=seed, drawn=True), **more)

    rules.replace([drawn(7)])
    (told,) = await rules.events(1)
    assert (told["event"], told["rule"], told["seed"]) == ("rule.seed", "a", 7)
    rules.hit("a")
    assert rules.differences([drawn(8)]) == []
    rules.replace([drawn(8)])
    rules.replace([drawn(9, enabled=False)])
    assert rules.get("a").rule.when.seed == 7
    assert rules.ledger.counts("a").seen == 1
    assert rules.names() == []
    rules.replace([drawn(10, do=Do())])
    assert rules.get("a").rule.when.seed == 10
    plain = written("a", when=When(Chance(0.5), seed=7))
    assert rules.differences([plain]) == ["rule a: changed"]


async def test_what_is_a_runs_or_over_is_forgotten_in_time(
    rules: Kept, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An hour after it was asked last; of the others, and of the file, nothing is."""
    monkeypatch.setattr(module, "_LOOK_SECONDS", 0.01)
    mine = Where(run="ci")
    rules.replace([written("file", hits=1, where=mine)])
    rules.add([rule("run", where=mine), rule("busy", where=mine), rule("stays")], "me")
    rules.add([rule("spent", hits=1), rule("expired", seconds=0.01)], "me")
    assert [kept.rule.name for kept in rules.of_run("ci")] == ["run", "busy"]
    rules.hit("spent")
    rules.hit("file")
    assert [one["event"] for one in await rules.events(8)][5:] == [
        *["rule.spent"] * 2,
        "rule.expired",
    ]
    await asyncio.sleep(0.03)
    assert len(list(rules)) == 6
    for kept in rules:
        kept.idle_since -= module.FORGET_SECONDS
    rules.hit("busy")
    removed = {one["rule"]: one for one in await rules.events(3)}
    assert removed.keys() == {"run", "spent", "expired"}
    assert {one["event"] for one in removed.values()} == {"rule.removed"}
    assert [kept.rule.name for kept in rules] == ["busy", "stays", "file"]
    assert rules.hit("run", "spent") == [""]


async def test_a_removed_rule_is_not_asked_by_sessions_that_had_it(rules: Kept) -> None:
    rules.add([rule("a"), rule("b")], "me")
    rules.remove(["a", "a"], "me")
    assert rules.hit("a", "b") == ["b"]
    assert rules.ledger.counts("a") == (0, 0, 0)
