# SPDX-License-Identifier: Apache-2.0
"""Whole units are held back: no unit lies on two sides, and every part has every class where the data allow it."""

from __future__ import annotations

import numpy as np
import pytest
from fedge_fleet.data import units
from fedge_fleet.data.units import Parts, Units


def shown(labels: np.ndarray[tuple[int], np.dtype[np.int64]], classes: int = 2) -> units.Bools:
    found: units.Bools = labels[:, None] == np.arange(classes)
    return found


def sides(parts: Parts, of: units.Ints) -> list[set[int]]:
    trained = parts.used & ~parts.test & ~parts.held
    return [set(of[part].tolist()) for part in (parts.test, parts.held, trained)]


@pytest.mark.parametrize("seed", range(5))
def test_no_experiment_lies_on_two_sides(seed: int) -> None:
    groups = [f"e{k // 10}" for k in range(200)]
    found = units.of_groups(groups, "experiments")
    assert found is not None
    parts = units.choose(found, shown(np.arange(200) % 2), None, seed)
    test, held, trained = sides(parts, found.first)
    assert parts.used.all() and len(test) == 4 and len(held) == 3 and len(trained) == 13
    assert not test & held and not (test | held) & trained


def test_windows_across_two_parts_are_left_out() -> None:
    starts = np.arange(0, 900, 5, dtype=np.int64)  # windows of 20 rows, three quarters of each shared with the next
    found = units.of_blocks(starts, starts + 20)
    parts = units.choose(found, shown(np.zeros(len(starts), np.int64)), None, 0)
    rows = [set(np.concatenate([np.arange(s, s + 20) for s in starts[p]]).tolist())
            for p in (parts.test, parts.held, parts.used & ~parts.test & ~parts.held)]  # fmt: skip
    assert all(rows) and not rows[0] & rows[1] and not (rows[0] | rows[1]) & rows[2]
    assert 0 < (~parts.used).sum() < 60


def test_a_rare_class_is_in_every_part_where_it_has_units_enough() -> None:
    labels = np.zeros(500, np.int64)
    labels[[3, 250, 480]] = 1  # in three blocks of fifty
    rows = np.arange(500, dtype=np.int64)
    for seed in range(5):
        parts = units.choose(units.of_blocks(rows, rows + 1), shown(labels), None, seed)
        assert [labels[p].sum() for p in (parts.test, parts.held, parts.used & ~parts.test & ~parts.held)] == [1, 1, 1]


def test_the_seed_chooses_and_what_the_data_mark_stays() -> None:
    rows = np.arange(100, dtype=np.int64)
    found, marked = units.of_blocks(rows, rows + 1), rows >= 70
    a, b, again = (units.choose(found, shown(rows % 2), None, seed) for seed in (1, 2, 1))
    assert (a.test == again.test).all() and (a.test != b.test).any()
    kept = [units.choose(found, shown(rows % 2), marked, seed) for seed in (1, 2)]
    assert all((p.test == marked).all() and not (p.held & marked).any() and p.held.any() for p in kept)


def test_runs_between_gaps_in_time_are_units_else_days_are() -> None:
    second, day = 10**9, 86400 * 10**9
    runs = np.concatenate([np.arange(30) * second + k * 3600 * second for k in range(6)]).astype(np.int64)
    found = units.of_times(runs, runs + second)
    assert found is not None and found.kind.startswith("whole runs") and np.bincount(found.first).tolist() == [30] * 6
    hours = np.arange(24 * 6, dtype=np.int64) * 3600 * second
    found = units.of_times(hours + day // 2, hours + day // 2 + 1800 * second)
    assert found is not None and found.kind == "whole days" and found.last.max() == 6
    assert units.of_times(hours[:48], hours[:48]) is None  # two days


def test_files_of_one_site_are_units_of_their_own() -> None:
    one = Units(np.array([0, 1]), np.array([0, 1]), "blocks")
    assert units.joined([one, one]).first.tolist() == [0, 1, 2, 3]
    assert units.of_groups(["a", "a", "b"], "files") is None  # too few to hold one of them back
