# SPDX-License-Identifier: Apache-2.0
"""Wild values change no scale; values that are merely rare count as before."""

from __future__ import annotations

import numpy as np
import pytest
from fedge_models.graph.card import Card, Channel, WindowSpec
from fedge_models.training import outliers, standardise
from numpy.typing import NDArray

CARD = Card("anomaly", (Channel("a"), Channel("b")), WindowSpec(1, 10, 5), ("mean", "std"))
SPEED = Card("anomaly", (Channel("speed", condition=1.0), Channel("power")), WindowSpec(1, 8, 8))
WILD = [1e4, -1e4, 1e6, 1e12, -1e19, 1e25, 3.4e38, -3.4e38]

Rows = NDArray[np.float32]


def normal(rows: int = 600, seed: int = 0) -> Rows:
    """Means and standard deviations of two channels, one far from zero."""
    made = np.random.default_rng(seed).normal(size=(rows, 4)) * [0.3, 0.1, 3.0, 1.0] + [0, 1, 60, 10]
    return made.astype(np.float32)


@pytest.mark.parametrize("seed", range(5))
def test_without_wild_values_the_scale_is_mean_and_standard_deviation(seed: int) -> None:
    rng = np.random.default_rng(seed)
    for drawn in (normal(seed=seed), rng.exponential(size=(400, 4)), rng.standard_t(3, size=(400, 4))):
        x = drawn.astype(np.float32)
        made = standardise.fit(x, CARD)
        np.testing.assert_allclose(made.mean, x.mean(axis=0, dtype=np.float64), rtol=1e-5, atol=1e-6)
        np.testing.assert_allclose(made.scale, x.std(axis=0, dtype=np.float64), rtol=1e-5)
        assert made.plausible(x).all()


@pytest.mark.parametrize("value", WILD)
@pytest.mark.parametrize("at", [(0,), (300,), (599,), (0, 1, 2, 300, 599)])
def test_wild_rows_change_the_scale_by_no_more_than_chance(value: float, at: tuple[int, ...]) -> None:
    x = normal()
    clean = standardise.fit(x, CARD)
    x[list(at), 0] = value
    found = standardise.fit(x, CARD)
    np.testing.assert_allclose(found.scale, clean.scale, rtol=0.02)
    np.testing.assert_allclose(found.mean, clean.mean, atol=0.02, rtol=0.001)
    assert np.flatnonzero(~found.plausible(x)).tolist() == sorted(at)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_row_that_is_not_finite_counts_for_nothing(value: float) -> None:
    x = normal()
    x[7, 2] = value
    found = standardise.fit(x, CARD)
    assert found.finite and np.flatnonzero(~found.plausible(x)).tolist() == [7]
    np.testing.assert_allclose(found.scale, standardise.fit(normal(), CARD).scale, rtol=0.02)


def test_one_reading_lies_in_as_many_windows_as_overlap() -> None:
    """A gateway with few windows knows nothing but that they overlap."""
    card = Card("anomaly", (Channel("a"), Channel("b")), WindowSpec(1, 60, 5), ("mean", "std"))
    x = normal(64)
    clean = standardise.fit(x, card)
    x[20:32, :2] += 1e6
    np.testing.assert_allclose(standardise.fit(x, card).scale, clean.scale, rtol=0.35)


def test_a_set_point_that_seldom_changes_is_not_wild() -> None:
    x = normal()
    x[:, 2:] = np.random.default_rng(1).normal(size=(600, 2)) * 0.001 + [1000, 0.01]
    x[200:205, 2:] = [1100, 50]
    assert standardise.fit(x, CARD).plausible(x).all()


def test_a_switch_that_is_nearly_always_off_is_not_wild() -> None:
    x = normal()
    x[:, 2:] = 0
    x[200:203, 2:] = [1, 0.3]
    found = standardise.fit(x, CARD)
    assert found.plausible(x).all() and found.scale[2] > 0.05


def test_what_a_quarter_of_the_rows_shows_is_a_habit() -> None:
    x = normal()
    x[::3, 0] = -9999.0  # of a logger, for a value that is missing
    found = standardise.fit(x, CARD)
    assert found.plausible(x).all() and found.finite


@pytest.mark.parametrize("value", WILD)
def test_wild_readings_in_raw_windows(value: float) -> None:
    x = np.random.default_rng(0).normal(size=(80, 2, 50)).astype(np.float32)
    clean = standardise.fit(x)
    x[3, 0, 7] = x[50, 1, 0] = value
    found = standardise.fit(x)
    np.testing.assert_allclose(found.scale, clean.scale, rtol=0.02)
    assert np.flatnonzero(~found.plausible(x)).tolist() == [3, 50]


@pytest.mark.parametrize("value", WILD)
def test_wild_readings_leave_each_condition_its_own_scale(value: float) -> None:
    rng = np.random.default_rng(0)
    speed = np.repeat(rng.integers(1, 4, 200) * 100.0, 8).reshape(200, 8)
    x = np.stack([speed, speed * 0.1 + rng.normal(size=(200, 8))], axis=1).astype(np.float32)
    clean = standardise.fit(x, SPEED)
    x[3, 1, 2] = x[90, 0, 5] = value
    found = standardise.fit(x, SPEED)
    assert clean.conditions is not None and found.conditions is not None and found.finite
    assert found.conditions.centres.shape == clean.conditions.centres.shape
    order, before = np.argsort(found.conditions.centres[:, 0]), np.argsort(clean.conditions.centres[:, 0])
    np.testing.assert_allclose(found.conditions.scale[order, 1], clean.conditions.scale[before, 1], rtol=0.05)


def test_bounds_are_stored_with_the_scale() -> None:
    made = standardise.fit(normal(), CARD)
    read = standardise.decode(standardise.encode(made))
    assert made.bounds is not None and read.bounds is not None
    np.testing.assert_array_equal(read.bounds.low, made.bounds.low)
    np.testing.assert_array_equal(read.bounds.high, made.bounds.high)
    earlier = made._replace(bounds=None)
    assert standardise.decode(standardise.encode(earlier)).bounds is None


def test_no_rows_and_one_row() -> None:
    one = outliers.bounds(normal(1), CARD)
    assert one.plausible(normal(1)).all() and one.plausible(normal(0)).tolist() == []


@pytest.mark.parametrize("share", [0.02, 0.05, 0.3])
def test_a_marker_for_missing_values_is_named(share: float) -> None:
    x = normal(1000)
    assert outliers.doubtful(x, CARD) == []
    x[: round(share * 1000), 2] = -9999
    assert outliers.doubtful(x, CARD) == ["b"]
    raw = np.random.default_rng(0).normal(20, 1, (200, 2, 8)).astype(np.float32)
    raw[::3, 0, 2] = -9999
    assert outliers.doubtful(raw, SPEED) == ["speed"]


@pytest.mark.parametrize("seed", range(3))
def test_machines_with_several_states_are_not_doubtful(seed: int) -> None:
    rng = np.random.default_rng(seed)
    x = normal(1000, seed)
    x[:400, 2:] = rng.normal(size=(400, 2)) * 0.001 + [1000, 0.01]  # a set point of 1000, and 60 else
    x[400:420, 2:] = 0  # and off
    assert outliers.doubtful(x, CARD) == []
    x[:, 0], x[:, 2] = rng.lognormal(sigma=2, size=1000), rng.standard_cauchy(1000)
    assert outliers.doubtful(x, CARD) == []
