# SPDX-License-Identifier: Apache-2.0
"""When an alarm level will be reached: the line, its bound, and an asset that tells of it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from fedge_agent.config.schema import AssetConfig, ModelConfig, TagConfig, Training
from fedge_agent.durable.spool import Spool
from fedge_agent.federation.participant import Participant
from fedge_agent.health import Latency
from fedge_agent.machines.asset import Asset
from fedge_agent.machines.outlook import Outlook
from fedge_agent.machines.trend import HOUR_NS, Trend
from fedge_agent.samples.store import SampleStore
from fedge_agent.types import AlertState, Batch, Reading
from fedge_models.graph import zoo
from fedge_models.graph.card import Card, Channel, Target, WindowSpec
from fedge_models.training.config import TrainingConfig
from fedge_models.training.loop import fit
from hypothesis import given, settings
from hypothesis import strategies as st
from support.at_end import AtEnd
from support.examples import examples

START = 1_700_000_000 * 10**9
CAPACITY = Target("capacity", "Ah", low=0, high=2, alarm_below=1.4)
LIFE = Target("life", "hours", low=0, high=500, alarm_below=24)


def falling(hours: float, noise: float = 0.05, seed: int = 0) -> list[tuple[int, float]]:
    """2 Ah that lose 0.002 an hour, ten times an hour."""
    rng = np.random.default_rng(seed)
    return [(START + round(h * HOUR_NS), 2 - 0.002 * h + noise * float(rng.normal())) for h in np.arange(0, hours, 0.1)]


def test_a_level_is_reached_when_the_line_does() -> None:
    trend = Trend(200, 0.9)
    for time_ns, value in falling(200):
        trend.add(time_ns, value)
    expected, least = trend.hours_until(START + 200 * HOUR_NS, 1.4, falling=True) or (0, 0)
    assert expected == pytest.approx(100, abs=5)  # 1.6 Ah are left, 0.002 go an hour
    assert 80 < least < expected
    nearer = trend.hours_until(START + 200 * HOUR_NS, 1.4, True, margin=0.05)
    assert nearer is not None and nearer[1] == pytest.approx(least - 25, abs=3)
    assert trend.hours_until(START + 200 * HOUR_NS, 1.9, True) == (0, 0)  # it is below already
    assert trend.hours_until(START + 200 * HOUR_NS, 2.4, falling=False) is None  # it goes the other way


def test_the_bound_holds_as_often_as_stated() -> None:
    held = 0
    for seed in range(100):
        trend = Trend(100, 0.9)
        for time_ns, value in falling(100, 0.2, seed):
            trend.add(time_ns, value)
        found = trend.hours_until(START + 100 * HOUR_NS, 1.4, True)
        held += found is None or found[1] <= 200
    assert held >= 90  # 300 hours until 1.4 Ah, 100 are over


def test_what_does_not_move_has_no_end() -> None:
    trend = Trend(100, 0.9)
    for h in range(100):
        trend.add(START + h * HOUR_NS, 1.6 + (0.05 if h % 2 else -0.05))
    assert trend.hours_until(START + 100 * HOUR_NS, 1.4, True) is None


def test_a_third_of_outliers_does_not_bend_the_line() -> None:
    trend, rng = Trend(200, 0.9), np.random.default_rng(3)
    for time_ns, value in falling(200):
        trend.add(time_ns, 9.0 if rng.random() < 0.02 else value)
    expected, _ = trend.hours_until(START + 200 * HOUR_NS, 1.4, True) or (0, 0)
    assert expected == pytest.approx(100, rel=0.25)


@settings(max_examples=examples(50), deadline=None)
@given(st.lists(st.tuples(st.integers(0, 400), st.floats(-1e6, 1e6)), max_size=200))
def test_any_course_gives_times_in_order_or_none(steps: list[tuple[int, float]]) -> None:
    trend = Trend(100, 0.9)
    for hour, value in steps:  # a clock may go back
        trend.add(START + hour * HOUR_NS, value)
    found = trend.hours_until(START + 400 * HOUR_NS, 0.0, True, 1.0)
    assert found is None or 0 <= found[1] <= found[0]


def test_estimates_in_hours_need_no_line() -> None:
    outlook = Outlook([LIFE], 100, 0.9)
    left = outlook.update(START, {"life": 90.0}, {"life": (60.0, 140.0)})
    assert left is not None and left == (90, 60)
    assert outlook.update(START, {"life": 90.0}, {}) is None  # no bound is known: nothing is promised


def test_the_soonest_target_counts_and_another_model_uses_its_own_past() -> None:
    outlook, now = Outlook([CAPACITY, LIFE], 200, 0.9), START + 200 * HOUR_NS
    outlook.restart([(t, {"capacity": v, "life": 0.0}) for t, v in falling(200)])
    bounds = {"life": (400.0, 500.0), "capacity": (1.55, 1.65)}
    left = outlook.update(now, {"capacity": 1.6, "life": 450.0}, bounds)
    assert left is not None and left.hours == pytest.approx(100, abs=6) and left.at_least == pytest.approx(70, abs=8)
    outlook.restart([])
    left = outlook.update(now, {"capacity": 1.6, "life": 450.0}, bounds)
    assert left == (450, 400)


def _serve(part: Participant) -> None:
    """Serve what the graph holds, as if it were the file's."""
    assert part.graph is not None
    part.model._model.weights._file = part.graph.params.copy()
    part.model.serve()


def test_a_machine_says_how_long_it_has_and_a_new_model_goes_by_its_own_past(at_end: AtEnd, tmp_path: Path) -> None:
    life = Target("life", "%", low=0, high=100, alarm_below=20)
    card = Card("regress", (Channel("a"),), WindowSpec(1 / 3600, 2, 1), ("mean",), targets=(life,))
    (tmp_path / "m.onnx").write_bytes(zoo.mlp(card, 1, ()).SerializeToString())
    samples, spool = (
        at_end(SampleStore(tmp_path / "samples.sqlite", {"m": 1000})),
        at_end(Spool(tmp_path / "spool.sqlite")),
    )
    model = ModelConfig(file=tmp_path / "m.onnx", training=Training(min_samples=10, fine_tune=0))
    part = Participant("m", model, tmp_path / "models", samples, spool, None, None, lambda *_: None, lambda _: False)
    part.restore()
    tags = {n: TagConfig(source="plc", tag=n) for n in ("a", "life")}
    config = AssetConfig(model="m", channels={"a": tags["a"]}, targets={"life": tags["life"]})
    asset = Asset("gw", "cell", config, part, samples, Latency(), AlertState(), lambda *_: None)
    rng = np.random.default_rng(0)

    def run(first: int, last: int) -> None:
        for hour in range(first, last):
            value = 100 - 0.2 * hour + float(rng.normal()) * 0.3
            readings = [Reading(n, START + hour * HOUR_NS, value) for n in ("a", "life")]
            asset.push(Batch("plc", readings, None, 0, fresh=hour == 0))

    run(0, 200)
    samples.flush()
    part.model.rescale()
    data = part.model.usable(held=False)
    assert part.graph is not None
    fit(part.graph, data.x, data.y, TrainingConfig(epochs=200, learning_rate=0.05), rng)
    _serve(part)
    run(200, 210)
    decision = asset.decisions[-1][0]  # 58 % are left: 38 to go, a fifth an hour
    low, high = decision.bounds["life"]
    assert low < decision.values["life"] < high and high - low < 5
    assert decision.hours_left == pytest.approx(190, abs=12)
    assert decision.hours_left is not None and decision.hours_left_at_least is not None
    assert 150 < decision.hours_left_at_least < decision.hours_left

    part.graph.params[-1] += 0.2  # a model that says ten points more: bias in units of half the range
    _serve(part)
    run(210, 212)
    assert asset.decisions[-1][0].values["life"] == pytest.approx(decision.values["life"] + 10, abs=2)
    assert asset.decisions[-1][0].hours_left == pytest.approx(190 + 50, abs=15)
    samples.stop()
    spool.close()
