# SPDX-License-Identifier: Apache-2.0
"""Quantiles of few scores are raised until the next score exceeds them as rarely as promised."""

from __future__ import annotations

import pytest
from fedge_models.training.extremes import promised, student_quantile


@pytest.mark.parametrize(
    ("p", "dof", "expected"),
    [
        (0.975, 4, 2.7764451),
        (0.995, 4, 4.6040949),
        (0.995, 30, 2.7499957),
        (0.9995, 10, 4.5868939),
        (0.95, 120, 1.6576509),
    ],
)
def test_student_quantiles_are_those_of_tables(p: float, dof: float, expected: float) -> None:
    assert student_quantile(p, dof) == pytest.approx(expected, rel=1e-5)


def test_a_quantile_of_many_independent_scores_stays_as_it_was_counted() -> None:
    assert promised(5.0, 1.0, 0.995, 1e6) == pytest.approx(5.0, rel=1e-4)
    assert 5.3 < promised(5.0, 1.0, 0.995, 50) < 5.6 and promised(5.0, 1.0, 0.995, 1) == promised(5.0, 1.0, 0.995, 5)
    assert promised(0.0, 0.0, 0.995, 5) == 0.0 and promised(1.0, 1.0, 0.995, 5) == 1.0
