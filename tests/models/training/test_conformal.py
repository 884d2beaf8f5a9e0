# SPDX-License-Identifier: Apache-2.0
"""Conformal margins: coverage of the same units and of new ones, order, and too little to tell."""

from __future__ import annotations

import numpy as np
import pytest
from fedge_models.training.conformal import error_of_units, margins, margins_of_new_unit
from fedge_models.training.student import two_sided


@pytest.mark.parametrize("confidence", [0.5, 0.9, 0.95])
def test_the_truth_lies_within_the_margins_as_often_as_stated(confidence: float) -> None:
    rng, hits = np.random.default_rng(0), []
    for _ in range(400):
        held, new = rng.standard_t(3, size=79), rng.standard_t(3, size=100)
        found = margins(held, confidence)
        assert found is not None
        hits.append(np.mean((new >= found[0]) & (new <= found[1])))
    assert confidence - 0.01 <= np.mean(hits) <= confidence + 2 / 80 + 0.01  # Lei et al. 2018, theorem 2


def test_margins_are_one_sided_where_the_model_is() -> None:
    errors = np.random.default_rng(1).exponential(size=200) + 1  # the truth is always higher
    low, high = margins(errors, 0.9) or (0, 0)
    assert 1 <= low < high


def test_too_few_errors_give_no_margins() -> None:
    assert margins(np.zeros(18), 0.9) is None  # the 19th of 18
    assert margins(np.arange(19.0), 0.9) == (0, 18)
    assert margins(np.array([np.nan, np.inf, 1.0]), 0.9) is None
    assert margins(np.zeros(0), 0.9) is None


def hits(units: int, confidence: float, seed: int, tail: int = 0) -> tuple[float, float]:
    """Share of new units' errors within the margins for a new unit, and within those for the same units; means.

    tail: degrees of freedom of a Student distribution of units; 0: Gaussian.
    """
    rng, new, same = np.random.default_rng(seed), list[float](), list[float]()
    numbers = np.repeat(np.arange(units), 60)
    for _ in range(300):
        draws = rng.normal(size=units + 50) if not tail else rng.standard_t(tail, units + 50)
        errors = np.repeat(draws[:units], 60) + 0.2 * rng.normal(size=60 * units)
        later = draws[units:] + 0.2 * rng.normal(size=50)
        for found, bounds in (
            (new, margins_of_new_unit(errors, numbers, confidence)),
            (same, margins(errors, confidence)),
        ):
            assert bounds is not None
            found.append(float(np.mean((later >= bounds[0]) & (later <= bounds[1]))))
    return float(np.mean(new)), float(np.mean(same))


@pytest.mark.parametrize("units", [1, 2, 3, 8, 30])
def test_a_new_unit_is_covered_as_often_as_stated(units: int) -> None:
    new, same = hits(units, 0.9, units)
    assert 0.88 <= new <= 0.97, new
    assert same < new - 0.015 and (units > 3 or same < 0.75), same  # what the same units need is too narrow


@pytest.mark.parametrize("tail", [2, 3])
def test_many_units_need_no_bell_curve(tail: int) -> None:
    new, _ = hits(60, 0.9, tail, tail)
    assert 0.89 <= new <= 0.94, new


def test_units_count_alike_however_many_errors_they_have() -> None:
    errors, units = np.array([1.0, *[3.0] * 99]), np.array([7, *[2] * 99])
    assert error_of_units(errors, units) == pytest.approx(np.sqrt(5))
    expected = two_sided(0.9, 2) * np.sqrt(5)
    found = margins_of_new_unit(errors, units, 0.9)
    assert found is not None
    np.testing.assert_allclose(found, (-expected, expected))
    assert error_of_units(np.array([np.nan]), np.array([1])) is None
    assert margins_of_new_unit(np.array([np.nan]), np.array([1]), 0.9) is None


def test_of_many_units_the_margin_is_counted_with_one_to_come() -> None:
    errors, units = np.arange(1.0, 41), np.arange(40)
    assert margins_of_new_unit(errors, units, 0.9) == (-37, 37)  # 0.9 of 41, rounded up


def test_quantiles_of_student_are_those_of_the_tables() -> None:
    table = {(0.9, 1): 6.3138, (0.9, 2): 2.92, (0.95, 5): 2.5706, (0.9, 30): 1.6973, (0.99, 10): 3.1693}
    assert all(two_sided(*key) == pytest.approx(value, abs=1e-4) for key, value in table.items())
    assert two_sided(0.999, 3000) == pytest.approx(3.2935, abs=1e-3)
