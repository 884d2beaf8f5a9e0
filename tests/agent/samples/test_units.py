# SPDX-License-Identifier: Apache-2.0
"""Held-back data are whole units of the site: runs, days, machines, labelled events."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from fedge_agent.learning.training_set import TrainingSet
from fedge_agent.samples.baseline import Plan
from fedge_agent.samples.held_units import divide
from fedge_agent.samples.sample_table import Sample
from fedge_agent.samples.split import split
from fedge_agent.samples.store import SampleStore
from fedge_agent.samples.units import HOLD, LEARN, NEITHER, Chosen, Classes, Stored, choose
from fedge_models.graph.card import Card, Channel, WindowSpec
from fedge_models.training import standardise
from support.at_end import AtEnd

S = 10**9
HOP, LENGTH = 5 * S, 60 * S
HOUR = 3600
BLOCKS = split(1.0, 60, 5, 0.2)
PER_ASSET = Classes(judged=1, by_asset=True)


def stored(runs: Sequence[tuple[str, int, int, int]], decided: Sequence[int] | None = None) -> Stored:
    """Windows each 5 s, of runs of (asset, first second, windows, class)."""
    rows = [(a, (begin * S) + i * HOP, c) for a, begin, count, c in runs for i in range(count)]
    ends = np.array([end for _, end, _ in rows], np.int64)
    held = [BLOCKS.held(int(end) - LENGTH, int(end)) for end in ends]
    n = len(rows)
    return Stored(
        np.arange(n, dtype=np.int64),
        np.array([a for a, _, _ in rows], np.str_),
        ends,
        np.full(n, LENGTH),
        np.full(n, "", np.str_),
        np.array([c for _, _, c in rows], np.int64),
        np.array([NEITHER if h is None else HOLD if h else LEARN for h in held], np.int64),
        np.full(n, -1) if decided is None else np.array(decided, np.int64),
    )


def whole_runs(made: Chosen, per_run: int) -> list[int]:
    """The numbers of the runs that are held back, each whole."""
    found = []
    for i in range(len(made.purposes) // per_run):
        part = made.purposes[i * per_run : (i + 1) * per_run]
        assert len(set(part.tolist())) == 1
        found += [i] if part[0] == HOLD else []
    return found


def experiments(count: int, asset: str = "pump", label: int = 0) -> list[tuple[str, int, int, int]]:
    return [(asset, i * 2 * HOUR + 700, 100, label) for i in range(count)]


def test_of_experiments_between_gaps_the_third_and_then_one_in_five_is_held_back_whole() -> None:
    made = choose(stored(experiments(14)), 0.2, PER_ASSET)
    assert whole_runs(made, 100) == [2, 7, 12]
    assert made.summary.text() == "3 held-back runs of 14"


def test_days_of_one_long_run_are_units() -> None:
    day = [("pump", 0, 14 * 17_280, 0)]
    made = choose(stored(day), 0.2, PER_ASSET)
    days = {int(d) for d in (stored(day).ends[made.purposes == HOLD] // (86_400 * S))}
    assert days == {2, 7, 12} and made.summary.text() == "3 held-back days of 14"
    assert (made.purposes == NEITHER).any()  # at midnight, windows of two days


def test_windows_that_share_samples_never_lie_in_both_parts() -> None:
    for runs in ([("pump", 0, 4 * 17_280, 0)], experiments(6), [("pump", 0, 500, 0)]):
        given = stored(runs)
        made = choose(given, 0.2, PER_ASSET)
        held, learnt = (np.flatnonzero(made.purposes == part) for part in (HOLD, LEARN))
        assert len(held) and len(learnt)
        apart = np.abs(given.ends[held][:, None] - given.ends[learnt][None, ::3]).min()
        assert apart > LENGTH


def test_how_many_windows_apart_overlapping_ones_are_worth() -> None:
    made = choose(stored(experiments(2)), 0.2, PER_ASSET)
    assert made.shares.sum() == pytest.approx(2 * (1 + 99 * 5 / 60))


def test_one_run_only_is_judged_by_blocks_of_it_and_that_is_said() -> None:
    made = choose(stored([("pump", 0, 500, 0)]), 0.2, PER_ASSET)
    assert (made.purposes == stored([("pump", 0, 500, 0)]).blocks).all()
    assert made.summary.text() == "blocks of the same run only: 1 run so far, none held back whole"


def test_each_machine_of_an_anomaly_model_is_judged_by_runs_of_its_own() -> None:
    made = choose(stored([*experiments(4, "a"), *experiments(2, "b")]), 0.2, PER_ASSET)
    assert whole_runs(Chosen(made.purposes[:400], *made[1:]), 100) == [2]
    assert made.summary.text() == "1 held-back run of 6; b by blocks of the same run only"
    assert (made.purposes[400:] == HOLD).any()


def test_of_machines_with_one_run_each_the_third_is_held_back_where_they_are_learnt_together() -> None:
    cells = [(f"cell{i}", i * HOUR, 60, 0) for i in range(6)]
    made = choose(stored(cells), 0.2, Classes())
    assert whole_runs(made, 60) == [2] and made.summary.text() == "1 held-back machine of 6"


def test_what_a_class_was_met_in_first_is_learnt_from() -> None:
    """A leak in the run that is held back for the sake of normal windows was met there first."""
    runs = [("pump", i * 2 * HOUR, 100, 0) for i in range(3)]
    leak = ("pump", 2 * 2 * HOUR + 3000, 40, 1)
    made = choose(stored([*runs, leak]), 0.2, Classes())
    assert whole_runs(Chosen(made.purposes[:300], *made[1:]), 100) == [2]
    assert (made.purposes[300:] != HOLD).sum() > 0 and (made.decided[300:] == LEARN).all()
    more = [("pump", (6 + 2 * i) * HOUR + 9000, 40, 1) for i in range(2)]
    made = choose(stored([*runs, leak, *more]), 0.2, Classes())
    assert set(made.purposes[-40:].tolist()) == {HOLD}  # the third leak, whole


def test_no_unit_ends_within_a_labelled_event() -> None:
    """A fault over midnight is one event; the day ends when it does."""
    before = [("pump", 0, 17_000, 0), ("pump", 85_000, 800, 1), ("pump", 89_000, 17_000, 0)]
    made = choose(stored(before), 0.2, Classes())
    assert len(set(made.units[17_000:17_800].tolist())) == 1
    assert made.units[0] == made.units[17_799] != made.units[17_800]


def test_what_was_decided_of_a_unit_holds_for_its_later_windows() -> None:
    """The oldest samples are deleted, and the last run goes on: it is the second by now, and is held back still."""
    runs = [("pump", 2 * HOUR + 950, 50, 0), ("pump", 4 * HOUR + 700, 200, 0)]
    given = stored(runs, [LEARN] * 50 + [HOLD] * 100 + [-1] * 100)
    assert choose(given, 0.2, PER_ASSET).decided.tolist() == [LEARN] * 50 + [HOLD] * 200
    learnt = stored(runs, [LEARN] * 150 + [-1] * 100)
    assert set(choose(learnt, 0.2, PER_ASSET).decided.tolist()) == {LEARN}


def test_nothing_is_held_back_with_a_holdout_of_zero() -> None:
    assert not choose(stored(experiments(6)), 0.0, PER_ASSET).purposes.any()


def test_a_holdout_that_was_set_to_zero_holds_nothing_back_that_was_held_before() -> None:
    """At midnight, windows share samples with a held-back day; they are learnt from again."""
    days = [("pump", 0, 4 * 17_280, 0)]
    before = choose(stored(days), 0.2, PER_ASSET)
    assert before.whole.any() and (before.purposes == NEITHER).any()
    made = choose(stored(days, before.decided.tolist()), 0.0, PER_ASSET)
    assert not made.purposes.any() and not made.whole.any() and made.summary.held == 0
    assert made.summary.text() == "blocks of the same day only: 4 days so far, none held back whole"
    again = choose(stored(days, made.decided.tolist()), 0.2, PER_ASSET)
    assert not again.whole.any()  # it was learnt from, so it never judges later


@pytest.mark.parametrize(("holdout", "held"), [(0.5, [1, 3, 5, 7]), (0.34, [2, 5])])
def test_the_share_that_is_held_back(holdout: float, held: list[int]) -> None:
    assert whole_runs(choose(stored(experiments(8)), holdout, PER_ASSET), 100) == held


CARD = Card("anomaly", (Channel("a"), Channel("b")), WindowSpec(1, 60, 5), ("mean",))


def fill(samples: SampleStore, runs: range) -> None:
    for run in runs:
        for i in range(60):
            end = (run * 2 * HOUR + 900) * S + i * HOP
            block = BLOCKS.held(end - LENGTH, end)
            purpose = NEITHER if block is None else HOLD if block else LEARN
            samples.put(Sample("m", "pump", end, np.array([run, i], np.float32), None, purpose, LENGTH))
    samples.flush()


def test_what_was_decided_survives_a_restart_and_new_runs_join(at_end: AtEnd, tmp_path: Path) -> None:
    path = tmp_path / "samples.sqlite"
    first = at_end(SampleStore(path, {"m": 10_000}))
    fill(first, range(2))
    data = TrainingSet("m", CARD, (2,), first, {"pump": Plan()}, None, 0.2)
    scale = standardise.fit(data.to_scale(), CARD)
    assert 0 < len(data.usable(scale, held=True).x) < 90 and data.divided.summary.held == 0
    fill(first, range(2, 4))
    held = data.usable(scale, held=True)
    assert len(held.x) == 60 and len(set(held.units.tolist())) == 1 and data.divided.summary.held == 1
    assert len(data.usable(scale, held=False).x) == 180
    first.stop()
    again = at_end(SampleStore(path, {"m": 10_000}))
    found = divide(again.tables, "m", CARD, 0.2)
    assert (found.summary.held, found.summary.units) == (1, 4)
    runs = again.rows("m", (2,), held=True).x[:, 0]
    assert set(runs.tolist()) == {2.0}


def test_samples_that_earlier_versions_stored_keep_their_blocks_until_a_unit_is_held_back(
    at_end: AtEnd, tmp_path: Path
) -> None:
    samples = at_end(SampleStore(tmp_path / "samples.sqlite", {"m": 10_000}))
    for i in range(100):
        samples.put(Sample("m", "pump", i * HOP, np.zeros(2, np.float32), None, int(i >= 80), LENGTH))
    samples.flush()
    divide(samples.tables, "m", CARD, 0.2)
    assert len(samples.rows("m", (2,), held=True).x) == 20 and len(samples.rows("m", (2,), held=False).x) == 80
