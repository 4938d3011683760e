"""What the engine benchmark makes of its measurements."""

from __future__ import annotations

from engine import Measurement, summarize, verdicts
from rig.figures import paired


def measured(server: str, turn: int, cpu: float, rate: float = 1_000.0) -> Measurement:
    return Measurement(
        row="pipelined",
        server=server,
        turn=turn,
        messages=1_000,
        seconds=1.0,
        rate=rate,
        cpu=cpu,
        p50_ms=1.0,
        p99_ms=None,
        peak_mb=10.0 + turn,
    )


def test_a_ratio_is_that_of_one_turn() -> None:
    # A slow moment in turn 1 hits both; the medians alone would say 8 / 1 or 10 / 2.
    figures = [measured("aiosmtpd", turn, cpu) for turn, cpu in enumerate((8.0, 40.0, 10.0))]
    figures += [measured("mtad", turn, cpu) for turn, cpu in enumerate((1.0, 5.0, 2.0))]
    assert paired(figures, "pipelined", "aiosmtpd", "mtad", "cpu") == 8.0


def test_without_the_other_there_is_no_ratio() -> None:
    figures = [measured("mtad", 0, 1.0)]
    assert paired(figures, "pipelined", "smtp-sink", "mtad", "cpu") is None
    (line,) = summarize(figures)
    assert line.times_sink is None
    assert list(verdicts(figures, [line])) == []


def test_medians_and_the_highest_peak() -> None:
    (line,) = summarize([measured("mtad", turn, cpu) for turn, cpu in enumerate((3.0, 9.0, 4.0))])
    assert (line.cpu, line.peak_mb, line.p50_ms, line.p99_ms) == (4.0, 12.0, 1.0, None)


def test_goals() -> None:
    figures = [
        measured("aiosmtpd", 0, 12.0),
        measured("smtp-sink", 0, 1.1),
        measured("mtad", 0, 1.0, rate=1_000),
        measured("mtad, 2 workers", 0, 1.05, rate=1_600),
    ]
    goals = [
        goal.partition(": ")[2].partition(",")[0]
        for _, _, goal in verdicts(figures, summarize(figures))
    ]
    assert goals == ["met", "missed", "met", "met"]
