# SPDX-License-Identifier: Apache-2.0
"""Split conformal margins: coverage, order, and too little to tell."""

from __future__ import annotations

import numpy as np
import pytest
from fedge_models.training.conformal import margins


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
