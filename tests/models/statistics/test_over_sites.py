# SPDX-License-Identifier: Apache-2.0
"""Each site counts once, extremes and single sites do not show, and a hostile site moves a figure by one rank."""

from __future__ import annotations

import tracemalloc

import msgspec
import numpy as np
import pytest
from fedge_models.statistics.histogram import FURTHEST, MOST_BINS, Histogram, describe
from fedge_models.statistics.over_sites import LEAST_SITES, MOST_KNOTS, Summary, ranks, summarise
from hypothesis import given
from hypothesis import strategies as st


def site(level: float, spread: float = 1.0, count: int = 1024, seed: int = 0) -> Histogram:
    made = describe(np.random.default_rng([seed, int(abs(level) * 1000) % 2**31]).normal(level, spread, count))
    assert made is not None
    return made


def over(*levels: float) -> Summary:
    made = summarise([site(level) for level in levels])
    assert made is not None
    return made


def test_fewer_than_three_sites_have_no_summary() -> None:
    assert summarise([site(1), site(2)]) is None and LEAST_SITES == 3


@given(st.integers(3, 60), st.floats(-1e3, 1e3), st.floats(0.01, 100), st.integers(0, 99))
def test_medians_over_sites_are_right_to_two_bins(sites: int, level: float, spread: float, seed: int) -> None:
    levels = level + spread * np.random.default_rng(seed).normal(size=sites)
    found = [site(float(v), spread, seed=seed) for v in levels]
    made = summarise(found)
    assert made is not None and len(made.medians) == len(made.ranks) <= MOST_KNOTS
    wanted = np.median([[h.quantile(q) for q in (0.1, 0.9)] for h in found], axis=0)
    width = made.width
    assert made.usual[0] == pytest.approx(wanted[0], abs=width) and made.usual[2] == pytest.approx(wanted[1], abs=width)
    ordered = np.sort([h.quantile(0.5) for h in found])
    np.testing.assert_allclose(np.array(made.medians) * width, ordered[np.array(made.ranks) - 1], atol=width)


@given(st.integers(5, 40), st.integers(0, 99))
def test_the_joint_histogram_is_that_of_all_values_together(sites: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    drawn = [rng.normal(20 + rng.normal(), 2, 1024) for _ in range(sites)]
    found = [h for h in map(describe, drawn) if h is not None]
    made = summarise(found)
    assert made is not None
    together = np.concatenate(drawn)
    for q in (0.25, 0.5, 0.75):
        low, high = np.quantile(together, (q - 0.07, q + 0.07))
        assert low - 1.5 * made.joint.width <= made.joint.quantile(q) <= high + 1.5 * made.joint.width


def test_extreme_sites_are_not_published() -> None:
    made = over(8, 9, 10, 11, 12, 13, 5000)
    assert max(made.medians) * made.width < 14 and min(made.medians) * made.width > 8.4
    assert (made.joint.first + len(made.joint.codes)) * made.joint.width < 20


@pytest.mark.parametrize("hostile", [1e30, -1e30, 0.0, 1e9])
def test_a_hostile_site_moves_a_figure_by_one_rank(hostile: float) -> None:
    honest = [site(10 + i / 10) for i in range(9)]
    one = describe(np.full(1000, hostile))
    assert one is not None
    made = summarise([*honest, one])
    assert made is not None
    assert 9.8 < made.usual[1] < 11 and 8.3 < made.usual[0] < 9.7 and 11 < made.usual[2] < 12.5
    assert np.isclose(made.width, 2.0 ** sorted(h.exponent for h in honest)[4], rtol=2)


def test_a_bin_of_the_joint_histogram_counts_three_sites() -> None:
    lonely = [*(site(10, 0.5, seed=i) for i in range(4)), site(13, 0.5)]
    made = summarise(lonely)
    assert made is not None
    edges = (made.joint.first + np.arange(1, len(made.joint.codes))) * made.joint.width
    for low, high, share in zip(np.r_[-np.inf, edges], np.r_[edges, np.inf], made.joint.shares, strict=True):
        middles = [(h.first + np.arange(len(h.codes)) + 0.5) * h.width for h in lonely]
        there = sum(bool(h.shares[(low <= m) & (m < high)].any()) for h, m in zip(lonely, middles, strict=True))
        assert share == 0 or there >= 3 or not np.isfinite(low) or not np.isfinite(high)


def test_as_many_sites_as_may_be_leave_nine_medians() -> None:
    assert [len(ranks(n)) for n in (3, 5, 11, 12, 1000)] == [1, 3, 9, 9, 9]
    assert ranks(5) == [2, 3, 4] and ranks(1000)[0] == 101 and ranks(1000)[-1] == 900


def test_places_stay_within_their_schema() -> None:
    sites = [Histogram(-100, FURTHEST, b"\xff")] * 3 + [Histogram(70, FURTHEST, b"\xff")] * 3
    made = summarise(sites)
    assert made is not None and abs(made.low) <= 4 * FURTHEST and abs(made.joint.first) <= FURTHEST


def test_hostile_places_make_no_summary_and_take_no_memory() -> None:
    honest, far = [site(10 + i) for i in range(3)], [Histogram(100, FURTHEST, b"\xff")] * 2
    tracemalloc.start()
    made = summarise([*honest, *far])
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert made is None and most < 1_000_000


@given(st.lists(st.builds(
    Histogram, st.integers(-100, 100), st.integers(-FURTHEST, FURTHEST), st.binary(min_size=1, max_size=MOST_BINS)
).filter(lambda h: any(h.codes)), min_size=3, max_size=6))  # fmt: skip
def test_whatever_sites_send_gives_a_summary_within_its_schema_or_none(found: list[Histogram]) -> None:
    tracemalloc.start()
    made = summarise(found)
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert most < 1_000_000
    if made is not None:
        msgspec.convert(msgspec.to_builtins(made, builtin_types=(bytes,)), Summary, builtin_types=(bytes,))
