# SPDX-License-Identifier: Apache-2.0
"""The milling set as a federation: its derived columns, its sites, and its folds of whole tool runs."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import pytest
from fedge_fleet.data.problems.milling import AI4I_PHYSICS, FOLDS, ai4i
from fedge_models.graph.trainable import TrainableGraph

HEADER = (
    "type,air_temperature_K,process_temperature_K,rotational_speed_rpm,torque_Nm,tool_wear_min,machine_failure,"
    "tool_run,test"
)
ROWS = 60


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Sixty rows of fifteen tool runs, the last five for the test."""
    lines = [HEADER]
    for i in range(ROWS):
        run = i // 4
        lines.append(f"{'LMH'[i % 3]},298,{308 + i % 5},{1400 + 10 * i},{35 + i % 7},{5 * i},{i % 2},{run},{run > 9:d}")
    (tmp_path / "ai4i").mkdir()
    (tmp_path / "ai4i/ai4i.csv.gz").write_bytes(gzip.compress("\n".join(lines).encode()))
    return tmp_path


def test_physics_are_columns_of_their_own(folder: Path) -> None:
    x = ai4i(folder).sites["L"].x  # rows 0, 3, …
    row = 3
    assert x.shape == (ROWS / 3, 8)
    power, warming, strain = 38 * 1430 * 0.10472, 311 - 298, 15 * 38
    np.testing.assert_allclose(x[1, 5:], [(power - 6250) / 1000, warming - 10, (strain - 4300) / 2500], atol=1e-4)
    assert x[1, 2] == pytest.approx((1400 + 10 * row - 1500) / 200)
    assert ai4i(folder, {}).sites["L"].x.shape == (ROWS / 3, 5)
    assert ai4i(folder, {"power": AI4I_PHYSICS["power"]}).sites["L"].x.shape == (ROWS / 3, 6)


def test_the_net_takes_them_and_its_last_layer_stays_at_the_site(folder: Path) -> None:
    graph = TrainableGraph.load(ai4i(folder).model(0))
    assert graph.input_shape == (8,) and graph.card.local == "dense2.*"
    assert {"dense2.weight", "ramp.centre", "ramp.slope"} <= {t.name for t in graph.layout}


def test_every_row_that_is_not_for_the_test_is_in_one_fold(folder: Path) -> None:
    problem = ai4i(folder)
    folds = [ai4i(folder, fold=k).validation for k in range(FOLDS)]
    for name, site in problem.sites.items():
        assert (np.sum([f[name] for f in folds], axis=0)[~site.test] == 1).all()
    left = problem.validating().sites["L"]
    assert len(left.y) == (~problem.sites["L"].test).sum() and 0 < left.test.sum() < len(left.y)
