# SPDX-License-Identifier: Apache-2.0
"""The sample store: an asset that delivers a hundred times its rate costs others nothing, and is counted."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from fedge_agent.samples import held_rows
from fedge_agent.samples.baseline import Plan
from fedge_agent.samples.sample_table import Sample
from fedge_agent.samples.store import QUEUE, SampleStore
from fedge_models.system import healing
from support.databases import Disk, rows

S = 10**9
MOST = 100


@pytest.fixture
def store(tmp_path: Path) -> Iterator[SampleStore]:
    plans = {"m": {n: Plan(100 * S) for n in ("slow", "fast", "other", "fourth")}}
    made = SampleStore(tmp_path / "s", {"m": MOST}, None, plans)
    yield made
    made.stop()


def sample(asset: str, at: float, y: float | None = None, covers: float = 0.0) -> Sample:
    return Sample("m", asset, round(at * S), np.zeros(2, np.float32), y, False, 0, "", round(covers * S))


def counts(path: Path) -> dict[str, int]:
    return dict(rows(path, "SELECT asset, count(*) FROM samples GROUP BY asset"))


def test_a_flood_of_one_asset_displaces_no_sample_of_another(store: SampleStore, tmp_path: Path) -> None:
    for i in range(20):
        store.put(sample("slow", i))
    for i in range(3000):
        store.put(sample("fast", i / 100))
    for i in range(25):
        store.put(sample("other", i))
    assert store.crowded == {"fast": 3000 - QUEUE // 2 - 1} and store.lost == store.crowded["fast"]
    store.flush()
    assert counts(tmp_path / "s") == {"slow": 20, "fast": MOST - 45, "other": 25}


@pytest.mark.parametrize(("kind", "expected"), [(np.float32, 100), (np.float64, 50), (np.uint8, 100)])
def test_memory_of_samples_is_counted_as_it_is_while_training(kind: type, expected: int, tmp_path: Path) -> None:
    store = SampleStore(tmp_path / "s", {"m": 1000}, {"m": 100 * 4 * 2}, {})
    try:
        for i in range(300):
            store.put(sample("pump", i)._replace(x=np.zeros(2, kind)))
        store.put(sample("pump", 300)._replace(x=np.zeros(2, np.uint8 if kind is np.uint8 else np.float32)))
        store.flush()
    finally:
        store.stop()
    assert counts(tmp_path / "s") == {"pump": expected}  # also where the newest sample is small


def test_labels_are_thinned_by_the_commonest_within_the_asset_that_has_most(store: SampleStore, tmp_path: Path) -> None:
    for i in range(30):
        store.put(sample("slow", i, 0))
    for i in range(200):
        store.put(sample("fast", i, i % 20 == 0))
    store.flush()
    found = dict(rows(tmp_path / "s", "SELECT y, count(*) FROM samples WHERE asset = 'fast' GROUP BY y"))
    assert counts(tmp_path / "s")["slow"] == 30 and found == {0: 60, 1: 10}


def test_windows_are_stored_so_far_apart_that_an_asset_s_share_covers_its_baseline_twice(
    store: SampleStore, tmp_path: Path
) -> None:
    for i in range(0, 200):
        store.put(sample("slow", i, covers=1))
    store.flush()
    times = [t // S for (t,) in rows(tmp_path / "s", "SELECT time_ns FROM samples ORDER BY id")]
    assert times == [*range(0, 200, 8)]  # a share of 25 over 200 s
    assert store.thinned["slow"] == 175 and store.covered_ns("m", "slow") == 193 * S


def test_operation_is_counted_over_restarts_and_begins_again_with_another_model(tmp_path: Path) -> None:
    def again() -> SampleStore:
        return SampleStore(tmp_path / "s", {"m": MOST})

    store = again()
    store.put(sample("slow", 1, covers=10))
    store.stop()
    store = again()
    store.put(sample("slow", 2, covers=10))
    store.flush()
    assert store.covered_ns("m", "slow") == 20 * S
    store.estimate_cover("m", "slow", S)  # it is known already
    store.put(Sample("m", "slow", 3 * S, np.zeros(5, np.float32), None, False, covers_ns=7 * S))
    store.flush()
    assert store.covered_ns("m", "slow") == 7 * S
    store.stop()


def test_samples_of_an_earlier_version_count_as_operation(tmp_path: Path) -> None:
    store = SampleStore(tmp_path / "s", {"m": MOST})
    for i in range(6):
        store.put(sample("slow", i))
    store.flush()
    store.estimate_cover("m", "slow", 10 * S)
    assert store.covered_ns("m", "slow") == 60 * S
    store.stop()
    store = SampleStore(tmp_path / "s", {"m": MOST})
    assert store.covered_ns("m", "slow") == 60 * S
    store.stop()


def test_what_the_disk_did_not_take_is_not_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    disk = Disk(monkeypatch)
    monkeypatch.setattr(held_rows, "OTHER_BYTES", 64 * 1024)  # nor does the memory that stands in for it
    monkeypatch.setattr(held_rows, "budget_bytes", lambda: 64 * 1024)
    made = SampleStore(tmp_path / "s", {"m": MOST})
    disk.fill()
    for i in range(300):
        made.put(sample("slow", i, covers=1.0)._replace(x=np.zeros(20_000, np.float32)))
    assert made.collected("m", "slow") == (300, 300 * S) and made.all_collected("m") == 300
    made.flush()
    assert made.lost > 0
    assert made.all_collected("m") == 300 - made.lost == made.collected("m", "slow")[0]
    assert made.collected("m", "slow")[1] == (300 - made.lost) * S
    disk.free()
    monkeypatch.setattr(healing, "TRY_S", 0.0)
    made.put(sample("slow", 300, covers=1.0))
    made.flush()
    assert made.all_collected("m") == 301 - made.lost and counts(tmp_path / "s") == {"slow": 301 - made.lost}
    made.stop()
