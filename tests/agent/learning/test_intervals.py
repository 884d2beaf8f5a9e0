# SPDX-License-Identifier: Apache-2.0
"""Bounds of estimates say what they hold for: a new unit, by held-back ones or other sites, or the same units only."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pytest
from fedge_agent.learning.intervals import NEW, SAME, Intervals, intervals, of_other_sites, reported
from fedge_agent.learning.mixture import Blend
from fedge_agent.learning.training import Data
from fedge_agent.samples.units import Summary
from fedge_models.graph import zoo
from fedge_models.graph.card import Card, Channel, Target, WindowSpec
from fedge_models.graph.trainable import TrainableGraph

TARGETS = (Target("wear", "mm", centre=0, scale=1), Target("heat", "degC", centre=50, scale=20))
CARD = Card("regress", (Channel("a"),), WindowSpec(1, 4, 2), ("mean",), targets=TARGETS)


@pytest.fixture(scope="module")
def blend() -> Blend:
    """An untrained model: its errors are those of what the tests say the truth is."""
    graph = TrainableGraph.load(zoo.mlp(CARD, 1, (4,)).SerializeToString())
    return Blend(graph, np.zeros_like(graph.params))  # estimates: 0 mm and 50 degC


def held(units: int, off: float = 1.0, each: int = 30) -> Data:
    """Windows of held-back units that differ by `off`, and within each by a tenth of that."""
    rng = np.random.default_rng(units)
    numbers = np.repeat(np.arange(units), each) + 5
    wear = np.repeat(rng.normal(0, off, units), each) + rng.normal(0, off / 10, units * each)
    y = np.stack([wear, 50 + 10 * wear], axis=1)
    return Data(np.zeros((units * each, 1), np.float32), y, units=numbers.astype(np.int64))


def made(blend: Blend, data: Data, units: int, others: Mapping[str, float] | None = None) -> Intervals:
    found = intervals(blend, data, Summary("run", 20, units), 0.9, others or {})
    assert found is not None
    return found


def test_bounds_say_what_they_hold_for(blend: Blend) -> None:
    by_units, by_blocks = made(blend, held(3), 3), made(blend, held(3), 0)
    assert (by_units.holds_for, by_units.units, by_units.unit, by_units.sites) == (NEW, 3, "run", False)
    assert (by_blocks.holds_for, by_blocks.units, by_blocks.errors) == (SAME, 0, {})
    assert by_units.margins.keys() == by_blocks.margins.keys() == {"wear", "heat"}
    assert by_units.margins["heat"][1] == pytest.approx(10 * by_units.margins["wear"][1], rel=1e-3)
    nothing = made(blend, held(0), 0)
    assert (nothing.holds_for, nothing.margins) == ("", {})


def test_one_held_back_unit_is_wide_and_other_sites_make_it_narrower(blend: Blend) -> None:
    alone, helped = made(blend, held(1), 1), made(blend, held(1), 1, {"wear": 1.0, "heat": 10.0})
    error = alone.errors["wear"]
    assert alone.margins["wear"][1] == pytest.approx(6.314 * error, rel=1e-3)
    assert helped.sites and helped.holds_for == NEW
    assert helped.margins["wear"][1] == pytest.approx(2.353 * np.sqrt((error**2 + 2) / 3), rel=1e-3)


def test_other_sites_alone_are_enough_and_never_narrow_what_is_seen_here(blend: Blend) -> None:
    seen = made(blend, held(4), 0)
    by_others, lied = (made(blend, held(4), 0, {"wear": e, "heat": 10 * e}) for e in (3.0, 1e-9))
    assert by_others.holds_for == NEW and by_others.units == 0 and by_others.sites
    assert by_others.margins["wear"][1] == pytest.approx(2.92 * 3, rel=1e-3)
    assert lied.margins == seen.margins


def test_many_units_count_by_themselves(blend: Blend) -> None:
    alone, helped = made(blend, held(40), 40), made(blend, held(40), 40, {"wear": 100.0, "heat": 1000.0})
    assert alone.margins == helped.margins and not helped.sites


def test_a_target_without_labels_has_no_bounds(blend: Blend) -> None:
    data = held(3)
    data.y[:, 1] = np.nan
    found = made(blend, data, 3)
    assert found.margins.keys() == found.errors.keys() == {"wear"}


def test_sites_report_their_error_and_read_the_median(blend: Blend) -> None:
    found = made(blend, held(3), 3)
    said = reported(found, TARGETS)
    assert said == {"unit_error_wear": found.errors["wear"], "unit_error_heat": found.errors["heat"]}
    assert reported(made(blend, held(3), 0), TARGETS) == reported(None, TARGETS) == {}
    assert reported(Intervals(errors={"wear": 0.5}), TARGETS[:1]) == {"unit_error": 0.5}
    release = {f"base_{name}": value for name, value in said.items()}
    assert of_other_sites(CARD, {**release, "nodes": 3.0}) == found.errors
    assert of_other_sites(CARD, {**release, "nodes": 2.0}) == of_other_sites(CARD, release) == {}
    for bad in (0.0, -1.0):
        assert "wear" not in of_other_sites(CARD, {**release, "base_unit_error_wear": bad, "nodes": 3.0})


def test_other_tasks_have_no_intervals() -> None:
    card = Card("classify", CARD.channels, CARD.window, CARD.features, labels=("ok", "worn"))
    graph = TrainableGraph.load(zoo.mlp(card, 1, (4,)).SerializeToString())
    data = Data(np.zeros((30, 1), np.float32), np.zeros(30, np.int64), units=np.zeros(30, np.int64))
    assert intervals(Blend(graph, graph.params), data, Summary("run", 3, 1), 0.9, {}) is None
