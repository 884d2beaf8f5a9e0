# SPDX-License-Identifier: Apache-2.0
"""A histogram's quantiles are right to a bin and a rank; it shows no single value, no extreme, and no small bin."""

from __future__ import annotations

import cbor2
import msgspec
import numpy as np
import pytest
from fedge_models.statistics.histogram import (
    BINS,
    LEAST_COUNT,
    LEAST_VALUES,
    MOST_BINS,
    TAIL,
    Histogram,
    describe,
    rank_error,
)
from hypothesis import given
from hypothesis import strategies as st

LEVELS = st.floats(-1e6, 1e6)
SCALES = st.floats(1e-6, 1e6)
SHAPES = st.sampled_from(["normal", "uniform", "exponential", "two", "sine", "wild"])


def values(shape: str, count: int, seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    made = {
        "normal": rng.normal(size=count),
        "uniform": rng.uniform(-1, 1, count),
        "exponential": rng.exponential(size=count),
        "two": rng.integers(0, 2, count) + 0.01 * rng.normal(size=count),
        "sine": np.sin(rng.uniform(0, 7, count)),
        "wild": np.where(rng.random(count) < 0.01, 1e12, rng.normal(size=count)),
    }
    return np.asarray(made[shape], np.float64)


@given(SHAPES, st.integers(LEAST_VALUES, 3000), LEVELS, SCALES, st.integers(0, 99), st.sampled_from([0.1, 0.5, 0.9]))
def test_a_quantile_is_right_to_a_bin_and_a_rank(
    shape: str, count: int, level: float, scale: float, seed: int, q: float
) -> None:
    x = level + scale * values(shape, count, seed)
    made = describe(x)
    assert made is not None and len(made.codes) <= MOST_BINS
    error = max(rank_error(count), TAIL)
    low, high = np.quantile(x, (max(0.0, q - error - 1 / count), min(1.0, q + error + 1 / count)))
    assert low - 1.001 * made.width <= made.quantile(q) <= high + 1.001 * made.width


@given(SHAPES, st.integers(LEAST_VALUES, 3000), SCALES, st.integers(0, 99))
def test_bins_count_enough_values_and_span_the_middle_only(shape: str, count: int, scale: float, seed: int) -> None:
    x = scale * values(shape, count, seed)
    made = describe(x)
    assert made is not None
    edges = (made.first + np.arange(1, len(made.codes))) * made.width  # the outermost bins are open
    inside = np.histogram(x, np.r_[-np.inf, edges, np.inf])[0]
    assert made.shares[np.flatnonzero(made.shares)].min() >= (LEAST_COUNT / count) - 2 / 255
    assert inside.sum() == count
    low, high = np.quantile(x, (TAIL, 1 - TAIL))
    assert made.first * made.width >= low - made.width
    assert (made.first + len(made.codes)) * made.width <= high + made.width


def test_one_value_of_a_thousand_does_not_change_a_byte() -> None:
    x = np.random.default_rng(0).normal(12, 1, 1000)
    far = x.copy()
    far[far.argmax()] = 1e9
    assert describe(x) == describe(far)


def test_the_width_follows_the_spread_and_not_the_level() -> None:
    x = np.random.default_rng(0).normal(0, 1, 2000)
    near, offset = describe(x), describe(x + 300)
    assert near is not None and offset is not None and near.exponent == offset.exponent
    assert near.width <= 4.2 / BINS * 2


@pytest.mark.parametrize("level", [0.0, 230.0, -1e-9, 1e12])
def test_a_constant_channel_is_one_bin(level: float) -> None:
    made = describe(np.full(500, level))
    assert made is not None and made.is_constant
    assert made.quantile(0.5) == pytest.approx(level, rel=2**-13, abs=1e-20)


def test_too_few_values_and_values_beyond_every_grid_have_no_histogram() -> None:
    assert describe(np.arange(LEAST_VALUES - 1.0)) is None
    assert describe(np.repeat([-1e308, 1e308], 500)) is None


def test_a_channel_takes_few_bytes() -> None:
    sizes = [
        len(cbor2.dumps(msgspec.to_builtins(describe(values(shape, 1024, 1)), builtin_types=(bytes,))))
        for shape in ("normal", "uniform", "exponential", "two", "sine", "wild")
    ]
    assert max(sizes) <= 40


def test_codes_that_count_nothing_have_finite_quantiles() -> None:
    assert np.isfinite(Histogram(0, 5, b"\x00\x00").quantile(0.5))
