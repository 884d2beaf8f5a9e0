# SPDX-License-Identifier: Apache-2.0
"""Rules and mixings against ByzFL's, each as ByzFL means it, with n and f where the two mean the same."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from fedge_aggregator.rounds.engine import blocks
from fedge_aggregator.rounds.engine.update_rows import MemoryRows
from fedge_aggregator.rounds.rules.registry import build_pipeline
from support import rule_references as references
from support.counterparts import part_of

byzfl = part_of("byzfl", "aggregators")

N, F = 13, 2
LIARS = 2


def rows(seed: int) -> np.ndarray:
    """Honest sites in two groups, and rows of liars far off."""
    rng = np.random.default_rng(seed)
    x = rng.normal(0, 15, (N, 40)) + rng.choice([-10, 10], (N, 1))
    x[:LIARS] = rng.choice([-1, 1], (LIARS, 40)) * rng.integers(60, 120, (LIARS, 40))
    return x[rng.permutation(N)].clip(-127, 127).round().astype(np.int8)


# Table here, and what ByzFL calls it. Its Krum counts n - f - 1 neighbours, Blanchard et al. n - f - 2: as for f + 1.
CASES: list[tuple[dict[str, object], Callable[[], Any]]] = [
    ({"name": "fedavg"}, byzfl.Average),
    ({"name": "median"}, byzfl.Median),
    ({"name": "trimmed_mean", "byzantine": F}, lambda: byzfl.TrMean(F)),
    ({"name": "krum", "byzantine": F}, lambda: byzfl.Krum(F + 1)),
    ({"name": "multi_krum", "byzantine": F}, lambda: byzfl.MultiKrum(F)),
    ({"name": "geometric_median", "iterations": 2000}, lambda: byzfl.GeometricMedian(nu=1e-3, T=2000)),
    ({"name": "centred_clipping", "radius": 60.0, "iterations": 4}, lambda: byzfl.CenteredClipping(L=4, tau=60.0)),
    ({"name": "norm_clipping", "radius": 60.0}, lambda: lambda x: byzfl.Clipping(60.0)(x.copy()).mean(axis=0)),
]


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("mixing", [None, F], ids=["alone", "mixed"])
@pytest.mark.parametrize(("table", "theirs"), CASES, ids=lambda c: c["name"] if isinstance(c, dict) else "")
def test_rule_agrees_with_byzfl(
    table: dict[str, object], theirs: Callable[[], Any], mixing: int | None, seed: int
) -> None:
    codes = rows(seed)
    x = codes.astype(np.float64)
    before = None if mixing is None else {"name": "nearest_neighbour_mixing", "byzantine": mixing}
    if mixing is not None:
        x = byzfl.NNM(mixing)(x)
    got = blocks.aggregate(build_pipeline(table, before, "t"), MemoryRows(codes), np.ones(N))
    np.testing.assert_allclose(got, theirs()(x), rtol=1e-4, atol=2e-3)


def test_these_rows_make_byzfl_s_rules_disagree() -> None:
    results = [theirs()(rows(0).astype(np.float64)).round(2) for _, theirs in CASES]
    assert len({tuple(result) for result in results}) == len(CASES)


def test_all_that_byzfl_has_is_compared() -> None:
    ours = {table["name"] for table in references.TABLES}
    assert ours - {table["name"] for table, _ in CASES} == {"bulyan"}  # ByzFL has none


def test_bucketing_agrees_with_byzfl_for_the_same_deal(monkeypatch: pytest.MonkeyPatch) -> None:
    codes, seed = rows(0), 5
    monkeypatch.setattr(np.random, "permutation", lambda x: x[np.random.default_rng(seed).permutation(len(x))])
    theirs = byzfl.Median()(byzfl.Bucketing(3)(codes.astype(np.float64)))
    pipeline = build_pipeline({"name": "median"}, {"name": "bucketing", "size": 3}, "t")
    ours = blocks.aggregate(pipeline, MemoryRows(codes), np.ones(N), seed=seed)
    np.testing.assert_allclose(ours, theirs, atol=1e-4)
