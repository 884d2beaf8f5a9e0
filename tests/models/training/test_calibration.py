# SPDX-License-Identifier: Apache-2.0
"""Temperature and biases: found where they are planted, the same optimum as a plain search, little from few samples."""

from __future__ import annotations

import numpy as np
import pytest
from fedge_models.training import calibration
from fedge_models.training.calibration import fit
from numpy.typing import NDArray

NONE, ALL = np.zeros(3, np.bool_), np.ones(3, np.bool_)


def drawn(n: int, seed: int = 0) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Logits that say how frequent labels are."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(0, 1.5, (n, 3))
    p = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    return logits, np.array([rng.choice(3, p=row) for row in p])


def test_a_temperature_that_was_planted_is_found_and_the_most_probable_class_stays() -> None:
    logits, labels = drawn(6000)
    found = fit(3 * logits, labels, NONE)
    assert found.temperature == pytest.approx(3, rel=0.06) and not found.biases.any()
    assert (found.applied(3 * logits).argmax(axis=1) == logits.argmax(axis=1)).all()
    assert calibration.error(3 * logits, labels) > 0.1 > 0.03 > calibration.error(found.applied(3 * logits), labels)


def test_biases_that_were_planted_are_found() -> None:
    logits, labels = drawn(6000)
    planted = np.array([1.0, -0.5, -0.5])
    found = fit(logits - planted, labels, ALL)
    np.testing.assert_allclose(found.biases, planted, atol=0.12)
    assert found.temperature == pytest.approx(1, rel=0.06)


def test_a_class_that_no_sample_tells_of_is_neither_favoured_nor_put_back() -> None:
    logits, labels = drawn(3000)
    keep = labels != 2
    found = fit(logits[keep], labels[keep], np.array([True, True, False]))
    assert found.biases[2] == 0 and found.biases.sum() == pytest.approx(0, abs=1e-9)
    assert np.abs(found.biases).max() < 0.2


def test_the_optimum_is_that_of_a_plain_search() -> None:
    logits, labels = drawn(80, 3)
    found = fit(2 * logits, labels, NONE)

    def value(slope: float) -> float:
        losses = calibration.row_losses(slope * 2 * logits, labels).sum()
        return float(losses + calibration.PRIOR / 2 * (slope - 1) ** 2)

    best = min(np.linspace(0.1, 3, 2901), key=value)
    assert found.slope == pytest.approx(best, abs=2e-3)


def test_few_samples_change_little_and_no_sample_nothing() -> None:
    logits, labels = drawn(5, 1)
    few = fit(10 * logits, labels, ALL)
    assert few.slope > 0.1 and np.abs(few.biases).max() < 1
    none = fit(logits[:0], labels[:0], ALL)
    assert none.slope == 1 and not none.biases.any()


def test_extreme_logits_give_finite_numbers() -> None:
    logits = np.array([[1e4, -1e4, 0.0], [-1e4, 1e4, 0.0], [0.0, 0.0, 0.0]] * 20)
    found = fit(logits, np.array([1, 1, 2] * 20), ALL)
    assert np.isfinite(found.slope) and np.isfinite(found.biases).all()
    assert np.isfinite(calibration.row_losses(found.applied(logits), np.array([1, 1, 2] * 20))).all()


def test_calibration_error_is_zero_of_the_right_and_half_of_the_sure_and_wrong() -> None:
    sure = np.array([[50.0, 0.0], [0.0, 50.0]])
    assert calibration.error(sure, np.array([0, 1])) == pytest.approx(0, abs=1e-9)
    assert calibration.error(sure, np.array([0, 0])) == pytest.approx(0.5, abs=1e-9)
