# SPDX-License-Identifier: Apache-2.0
"""A limit adapts to a new run from its first normal minutes, within a bound, and to nothing afterwards."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest
from fedge_agent.learning.limits import Limit
from fedge_agent.machines.checkpoint import Checkpoint, decode
from fedge_agent.machines.run_limit import FIRST, RunLimit, RunState
from fedge_agent.types import AlertState

S = 10**9
SPAN, HOP = 60 * S, 5 * S
RELEASED = Limit(2.5, middle=1.0, independent=300.0, runs=1)


class Machine:
    """Windows of 60 s, 5 s apart."""

    def __init__(self, bound: float = 4.0) -> None:
        self.run, self.at, self.limits = RunLimit(bound, SPAN, HOP), 1_000 * S, list[Limit]()

    def windows(self, scores: np.ndarray | list[float], limit: Limit = RELEASED, scale: str = "1") -> Limit:
        """Decide on windows; the limit of the last one."""
        for score in scores:
            self.at += HOP
            self.limits.append(self.run.limit(limit, scale, self.at))
            self.run.learn(float(score), self.at, is_open=False)
        return self.run.limit(limit, scale, self.at)

    def pause(self) -> None:
        self.at += 3600 * S


def level(factor: float, count: int = 80) -> np.ndarray:
    """Scores whose median is `factor` times that of the windows the limit was made from."""
    return factor * np.exp(np.random.default_rng(0).normal(0, 0.3, count))


def test_a_new_run_has_the_limit_of_its_level_after_its_first_windows() -> None:
    machine = Machine()
    assert machine.windows(level(1.3)).score == pytest.approx(1.3 * 2.5, rel=0.15)
    assert not machine.run.limit(RELEASED, "1", machine.at).provisional
    figures = machine.run.figures(RELEASED, "1")
    assert figures.windows >= FIRST and figures.released == 2.5 and figures.unlike is None
    assert figures.factor == pytest.approx(1.3, rel=0.15)


def test_a_run_well_above_the_others_is_said_and_stays_provisional() -> None:
    machine = Machine()
    limit = machine.windows(level(2.0))
    assert limit.score == pytest.approx(2 * 2.5, rel=0.15) and limit.provisional
    assert machine.run.figures(RELEASED, "1").unlike == pytest.approx(2, rel=0.15)


def test_a_run_whose_first_windows_the_limit_covers_raises_it_no_further_than_it_needs() -> None:
    """Its median is three times that of the others, and its scores hardly differ: a fault in it must be seen."""
    machine = Machine()
    quiet = 3.0 * np.exp(np.random.default_rng(0).normal(0, 0.03, 80))
    covering = Limit(6.0, middle=1.0, independent=300.0, runs=1)
    assert machine.windows(quiet, covering) == covering and machine.run.figures(covering, "1").unlike is not None
    other = Machine()
    limit = other.windows(quiet, RELEASED)
    assert limit.score == pytest.approx(1.25 * 3.2, rel=0.05) and limit.provisional
    later = other.windows(quiet, Limit(25.0, middle=10.0, independent=300.0, runs=1), scale="2")
    assert later.score == pytest.approx(10 * limit.score, rel=0.01)  # of another model, with scores ten times as high


def test_rows_that_the_limit_was_made_from_are_no_new_run_when_they_are_read_again() -> None:
    machine = Machine()
    of_them = RELEASED._replace(until_ns=2_000 * S)
    assert machine.windows(level(3.0), of_them) == of_them and not machine.run.figures(of_them, "1").is_new
    machine.pause()
    machine.windows(level(1.0, 1), of_them)
    assert machine.run.figures(of_them, "1").is_new


def test_until_then_it_is_compared_with_the_bound_and_that_is_provisional() -> None:
    machine = Machine()
    machine.windows(level(1.0, 30))
    assert {(limit.score, limit.provisional) for limit in machine.limits} == {(10.0, True)}


def test_a_limit_is_never_lowered() -> None:
    assert Machine().windows(level(0.2)).score == 2.5


def test_a_run_far_from_all_others_gets_no_more_than_the_bound_and_is_said_to_be_unlike_them() -> None:
    for factor in (6.0, 100.0):  # below and above what teaches
        machine = Machine()
        assert machine.windows(level(factor)).score == 10.0
        unlike = machine.run.figures(RELEASED, "1").unlike
        assert unlike is not None and unlike > 4


def test_the_window_that_shows_it_says_so_once() -> None:
    run, told = RunLimit(4.0, SPAN, HOP), []
    for i, score in enumerate(level(6.0)):
        run.limit(RELEASED, "1", (1000 + 5 * i) * S)
        told.append(run.learn(float(score), (1000 + 5 * i) * S, is_open=False))
    (ratio,) = [r for r in told if r is not None]
    assert ratio > 4 and run.since_ns == 1000 * S


def test_a_slow_fault_is_not_learnt_away() -> None:
    """It doubles three times in a day, after the first minutes; the same limit holds until the run ends."""
    machine = Machine()
    after = machine.windows(level(1.0))
    growing = level(1.0, 17_280) * np.exp(np.linspace(0, np.log(8), 17_280))
    assert machine.windows(growing).score == after.score < 3.2 < np.quantile(growing[-100:], 0.05)


def test_the_next_run_begins_again_and_a_short_gap_ends_none() -> None:
    machine = Machine()
    first = machine.windows(level(2.0)).score
    machine.at += 60 * S
    assert machine.windows(level(1.0)).score == first
    machine.pause()
    assert machine.windows(level(1.0)[:1]).score == 10.0
    assert machine.windows(level(1.0)).score == pytest.approx(2.5, rel=0.15)


def test_windows_of_an_open_event_are_not_used() -> None:
    machine = Machine()
    for score in level(2.0):
        machine.at += HOP
        machine.run.limit(RELEASED, "1", machine.at)
        machine.run.learn(float(score), machine.at, is_open=True)
    assert machine.run.figures(RELEASED, "1").unlike is not None  # nothing of it is known to be normal


def test_the_run_that_a_limit_was_made_from_keeps_it() -> None:
    machine, unknown = Machine(), Limit(float("inf"))
    machine.windows(level(2.0), unknown)
    assert machine.windows(level(2.0)).score == 2.5  # its baseline became complete
    machine.pause()
    assert machine.windows(level(1.0)[:1]).score == 10.0


@pytest.mark.parametrize("restarts", [False, True])
def test_runs_of_a_stored_past_that_the_limit_was_made_from_keep_it(restarts: bool) -> None:
    """They are read before anything decides, and decided on once something does: their times come again."""
    machine = Machine()
    for _ in range(3):
        for _ in range(80):
            machine.at += HOP
            machine.run.pass_over(machine.at)
        machine.pause()
    after, machine.at = machine.at, 1_000 * S
    if restarts:
        stored, machine.run = machine.run.state, RunLimit(4.0, SPAN, HOP)
        machine.run.resume(stored)
    for _ in range(3):
        machine.windows(level(2.0))
        machine.pause()
    assert {limit.score for limit in machine.limits} == {2.5}
    assert machine.at == after and machine.windows(level(2.0)[:1]).score == 10.0  # the next run is a new one


def test_scores_of_two_scales_are_not_compared_while_the_first_windows_are_seen() -> None:
    """The own model was trained again in between, with the same release."""
    other = Limit(0.15, middle=0.1, independent=300.0, runs=1)
    machine = Machine()
    machine.windows(level(2.0, 30))
    assert machine.windows(level(0.2), other, scale="2").score == pytest.approx(2 * 0.15, rel=0.15)


def test_a_scale_that_changes_while_there_is_no_limit_is_not_missed() -> None:
    machine = Machine()
    factor = machine.windows(level(2.0)).score / 2.5
    machine.windows(level(0.2, 5), Limit(float("inf")), scale="2")
    other = Limit(0.25, middle=0.1, independent=300.0, runs=1)
    assert machine.windows(level(0.2), other, scale="2").score == pytest.approx(0.25 * factor)


def test_another_release_changes_the_scale_of_scores_and_not_how_far_the_run_is_above_others() -> None:
    machine = Machine()
    factor = machine.windows(level(2.0)).score / 2.5
    other = Limit(0.5, middle=0.1, independent=300.0, runs=1)
    assert machine.windows(level(0.2), other, scale="2").score == pytest.approx(0.5 * factor)


def test_the_limit_shown_after_a_swap_is_the_one_of_the_next_window() -> None:
    machine, other = Machine(), Limit(25.0, middle=10.0, independent=300.0)
    machine.windows(level(2.0))
    was = machine.run.state
    shown = machine.run.figures(other, "2", most=45.0)
    assert shown.in_use == 45.0 and machine.run.figures(other, "2").in_use > 45.0
    assert machine.run.state == was
    assert machine.windows(level(20.0)[:1], other, scale="2").score == machine.run.figures(other, "2").in_use


def test_a_limit_made_anew_from_this_run_too_needs_less_raising() -> None:
    machine = Machine()
    machine.windows(level(2.0))
    again = Limit(5.0, middle=2.0, independent=400.0, runs=1)
    assert machine.windows(level(2.0), again).score == pytest.approx(5.0, rel=0.15)


@pytest.mark.parametrize("limit", [Limit(2.5), Limit(float("inf")), Limit(0.0, middle=0.0)])
def test_a_limit_of_unknown_level_is_used_as_it_is(limit: Limit) -> None:
    assert Machine().windows(level(3.0), limit).score == limit.score


def test_a_bound_of_one_turns_it_off() -> None:
    machine = Machine(bound=1.0)
    assert machine.windows(level(3.0)).score == 2.5 and machine.run.figures(RELEASED, "1").unlike is None


@pytest.mark.parametrize("seen", [30, 80])
def test_what_is_known_of_a_run_survives_a_restart(seen: int) -> None:
    machine, again, scores = Machine(), Machine(), level(2.0, 120)
    machine.windows(scores[:seen])
    stored = Checkpoint(0, AlertState(), run=machine.run.state).encode()
    saved = decode("m", stored)
    assert saved is not None
    again.run.resume(saved.run)
    again.at = machine.at
    assert again.windows(scores[seen:]).score == machine.windows(scores[seen:]).score
    assert len(stored) < 2000


def test_after_a_restart_the_limit_in_use_is_shown_before_the_next_window() -> None:
    machine, again = Machine(), Machine()
    limit = machine.windows(level(2.0))
    again.run.resume(machine.run.state)
    assert again.run.figures(RELEASED, "1").in_use == pytest.approx(limit.score)


def test_no_run_raises_a_limit_above_the_score_of_a_confirmed_fault() -> None:
    machine = Machine()
    machine.windows(level(2.0))
    machine.pause()
    assert machine.run.limit(RELEASED, "1", machine.at, most=3.0).score == 3.0
    assert machine.run.limit(Limit(2.5, middle=1.0, runs=1), "1", machine.at, most=1.0).score == 2.5


def test_a_checkpoint_of_an_earlier_version_is_read() -> None:
    old = msgspec.json.decode(Checkpoint(5, AlertState()).encode())
    del old["run"]
    saved = decode("m", msgspec.json.encode(old))
    assert saved is not None and saved.run == RunState() and saved.start_ns == 5
