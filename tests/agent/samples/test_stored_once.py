# SPDX-License-Identifier: Apache-2.0
"""A window is stored once, however often its rows are read; another window of the same time is stored, too."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from fedge_agent.samples.baseline import Plan
from fedge_agent.samples.sample_table import Sample
from fedge_agent.samples.store import SampleStore
from support.databases import rows

S = 10**9
MOST = 100
SLOW = {"m": {n: Plan(100 * S) for n in ("slow", "fast", "other", "fourth")}}  # each 8 s one is stored


def window(at: int, seed: int = 0) -> np.ndarray[tuple[int], np.dtype[np.float32]]:
    """The numbers of a window, others at each time and with each seed."""
    return np.random.default_rng([seed, at]).normal(size=2).astype(np.float32)


def sample(asset: str, at: int, y: float | None = None, covers: float = 0.0, seed: int = 0) -> Sample:
    return Sample("m", asset, at * S, window(at, seed), y, False, 0, "", round(covers * S))


def counts(path: Path) -> dict[str, int]:
    return dict(rows(path, "SELECT asset, count(*) FROM samples GROUP BY asset"))


def test_a_window_that_is_read_again_is_one_sample_and_gives_it_the_label_of_its_tag(tmp_path: Path) -> None:
    """A person adds the label's tag to the configuration, deletes the position, and has the file read once more."""

    def again() -> SampleStore:
        return SampleStore(tmp_path / "s", {"m": MOST})

    store = again()
    for i in range(10):
        store.put(sample("slow", i, covers=1))
    store.stop()
    store = again()
    for i in range(12):
        store.put(sample("slow", i, 1 if i < 5 else None, covers=1))
    store.flush()
    assert rows(tmp_path / "s", "SELECT y, count(*) FROM samples GROUP BY y") == [(None, 7), (1, 5)]
    assert store.repeated == {"slow": 10} and store.lost == 0
    assert store.collected("m", "slow") == (12, 12 * S) and store.covered_ns("m", "slow") == 12 * S
    assert store.total == {"m": 12 + 5}  # training is due by what is new, labels too
    store.stop()


def test_windows_read_again_in_another_rhythm_are_the_same_ones(tmp_path: Path) -> None:
    first = SampleStore(tmp_path / "s", {"m": MOST}, None, SLOW)
    for i in range(200):
        first.put(sample("slow", i, covers=1))
    first.stop()
    other = SampleStore(tmp_path / "s", {"m": MOST}, None, SLOW)
    for i in range(83, 230):  # 83 was left out before, and is the one that comes in addition
        other.put(sample("slow", i, covers=1))
    other.stop()
    times = [t // S for (t,) in rows(tmp_path / "s", "SELECT time_ns FROM samples ORDER BY id")]
    assert times == [*range(0, 200, 8), 83, *range(200, 230, 8)]
    assert other.covered_ns("m", "slow") <= 230 * S


@pytest.mark.parametrize("plans", [None, SLOW])
def test_a_clock_that_begins_again_at_each_start_repeats_no_window(
    plans: dict[str, dict[str, Plan]] | None, tmp_path: Path
) -> None:
    """A gateway without a battery-backed clock, whose readings have no time stamps."""
    for boot in range(3):
        store = SampleStore(tmp_path / "s", {"m": 1000}, None, plans)
        for i in range(60, 110):
            store.put(sample("slow", i, covers=1, seed=boot))
        store.flush()
        assert store.repeated == {} and store.covered_ns("m", "slow") > (boot + 1) * 40 * S
        stored = counts(tmp_path / "s")["slow"]
        store.stop()
    assert stored == 3 * (50 if plans is None else stored // 3) and stored >= 3 * 6


def test_a_label_is_not_given_to_another_window_of_the_same_time(tmp_path: Path) -> None:
    store = SampleStore(tmp_path / "s", {"m": MOST})
    store.put(sample("slow", 1, 0, seed=1))
    store.flush()
    store.put(sample("slow", 1, 1, seed=2))
    store.put(sample("slow", 1, 1, seed=1))  # its own label does change
    store.stop()
    found = rows(tmp_path / "s", "SELECT x, y FROM samples ORDER BY id")
    assert found == [(window(1, 1).tobytes(), 1), (window(1, 2).tobytes(), 1)]
    assert store.repeated == {"slow": 1} and store.total == {"m": 3}


@pytest.mark.parametrize("kinds", [(np.float32, np.float64), (np.float64, np.float32)])
def test_a_window_is_the_same_in_either_type_and_not_with_one_other_number(
    kinds: tuple[type, type], tmp_path: Path
) -> None:
    store, numbers = SampleStore(tmp_path / "s", {"m": MOST}), np.array([1 / 3, 1e6 / 7, np.nan])
    for kind in kinds:
        store.put(sample("slow", 1)._replace(x=numbers.astype(kind)))
    store.flush()
    assert store.repeated == {"slow": 1}
    store.put(sample("slow", 1)._replace(x=(numbers * (1, 1 + 1e-5, 1)).astype(kinds[0])))
    store.stop()
    assert counts(tmp_path / "s") == {"slow": 2} and store.repeated == {"slow": 1}


def test_two_pictures_of_one_time_are_two_samples_and_one_that_comes_twice_is_one(tmp_path: Path) -> None:
    store = SampleStore(tmp_path / "s", {"m": MOST})
    for value in (1, 2, 1):
        store.put(sample("slow", 1)._replace(x=np.full(4, value, np.uint8)))
    store.stop()
    assert counts(tmp_path / "s") == {"slow": 2} and store.repeated == {"slow": 1}


def test_samples_of_another_recipe_do_not_stand_for_a_window_that_is_read_again(tmp_path: Path) -> None:
    store = SampleStore(tmp_path / "s", {"m": MOST})
    for recipe in (b"before", b"now", b"now"):
        store.begin("m", recipe)
        store.put(sample("slow", 1))
        store.flush()
    store.stop()
    assert counts(tmp_path / "s") == {"slow": 2} and store.repeated == {"slow": 1}
