"""A stage in a log file: a line at its start, at each tenth or minute, and at its end; time is
given, not waited for.
"""

import itertools
import queue

import pytest
from runs import Cell

from unrelearn import progress
from unrelearn.artifact import Spec
from unrelearn.progress import Lines, spell


class Log:
    """The lines, and a clock that the test turns."""

    def __init__(self, total: int, done: int = 0):
        self.now, self.said = 0.0, []
        self.lines = Lines("train", total, done, clock=lambda: self.now, say=self.said.append)

    def steps(self, count: int, seconds: float, n: int = 1, note: str = "loss 0.5") -> list[str]:
        """The new lines of so many calls, each after so many seconds."""
        before = len(self.said)
        for _ in range(count):
            self.now += seconds
            self.lines.advance(n, note=note)
        return self.said[before:]


def test_a_stage_begins_with_a_line_before_any_step():
    assert Log(1000).said == ["train: begins, 1000"]
    assert Log(1000, done=300).said == ["train: goes on at 300 of 1000"]


def test_a_line_at_each_tenth():
    log = Log(1000)
    said = log.steps(100, seconds=3.0, n=10)
    assert said[0] == "train: 100/1000, 4:30 left  loss 0.5"
    assert [line.split()[1] for line in said] == [f"{tenth}00/1000," for tenth in range(1, 10)]
    log.lines.end()
    assert log.said[-1] == "train: 1000/1000 in 5:00  loss 0.5"


@pytest.mark.parametrize("seconds", [1.0, 7.0, 25.0])
def test_a_stage_of_hours_gets_a_line_a_minute_and_not_more_than_ten_more(seconds: float):
    log = Log(10_000)
    stamps = [0.0]
    log.lines.say = lambda line: stamps.append(log.now)
    log.steps(9_999, seconds)
    assert max(b - a for a, b in itertools.pairwise(stamps)) < 60 + seconds
    assert len(stamps) <= log.now / 60 + 11


def test_a_stage_of_a_moment_has_a_first_and_a_last_line():
    log = Log(1000)
    assert log.steps(1000, seconds=0.0004) == []
    log.lines.end()
    assert log.said == ["train: begins, 1000", "train: 1000/1000 in 0:00  loss 0.5"]


def test_the_time_that_is_left_is_that_of_this_run():
    log = Log(1000, done=500)  # what was done before took no time here
    assert log.steps(1, seconds=100.0, n=100) == ["train: 600/1000, 6:40 left  loss 0.5"]


def test_what_broke_off_has_no_last_line(monkeypatch, capsys):
    assert not progress.console.is_terminal
    with pytest.raises(ValueError), progress.bar("train", 10) as advance:
        advance(3)
        raise ValueError
    assert capsys.readouterr().out == "train: begins, 10\n"


def test_what_counts_no_steps_is_heard_of_all_the_same(monkeypatch):
    said = queue.Queue()
    monkeypatch.setattr(progress, "QUIET", 0.01)
    monkeypatch.setattr(progress, "OFTEN", 0.01)
    monkeypatch.setattr(progress.console, "print", lambda line, markup: said.put(line))
    with progress.alive("evaluate"):
        for _ in range(2):
            assert said.get(timeout=900).startswith("evaluate: goes on, 0:")
    said.queue.clear()
    progress.say("another line")  # the only one, as the thread has ended
    assert list(said.queue) == ["another line"]


def test_a_stage_that_counts_no_steps_is_heard_of(compose, monkeypatch):
    said = queue.Queue()
    for name in ("QUIET", "OFTEN"):
        monkeypatch.setattr(progress, name, 0.01)
    monkeypatch.setattr(progress, "say", said.put)
    heard = []
    spec = Spec("reference", 1, {})
    Cell(compose(), "").build(spec, lambda folder: heard.append(said.get(timeout=900)) or {})
    assert heard[0].startswith(f"reference {spec.key}: goes on, 0:")


def test_who_speaks_is_not_spoken_for(monkeypatch, capsys):
    monkeypatch.setattr(progress, "OFTEN", 0.01)
    with progress.alive("train"):
        progress.say("a line")
    assert capsys.readouterr().out == "a line\n"


def test_times_are_spelled():
    assert [spell(s) for s in (0, 7, 750, 93840)] == ["0:00", "0:07", "12:30", "26:04:00"]
