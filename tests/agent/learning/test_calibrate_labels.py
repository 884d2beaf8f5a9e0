# SPDX-License-Identifier: Apache-2.0
"""Labels that may hold together are calibrated each by itself, where held-back units show that it helps."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from fedge_agent.cli.how_sure import calibration as words
from fedge_agent.durable.releases import ChainStore
from fedge_agent.health import _temperatures
from fedge_agent.learning.asking import Seen
from fedge_agent.learning.calibrate import LEAST_OF_CLASS, Calibrated, calibrate, choose_of_labels
from fedge_agent.learning.kept_calibration import KeptCalibration, decode, encode
from fedge_agent.learning.limits import Limit
from fedge_agent.learning.mixture import Blend
from fedge_agent.learning.serving import Serving, Session
from fedge_agent.learning.training import Data
from fedge_agent.samples.units import Summary
from fedge_models.graph import zoo
from fedge_models.graph.card import Card, Channel, WindowSpec
from fedge_models.graph.trainable import TrainableGraph
from fedge_models.training import standardise
from fedge_models.training.calibration import LabelCalibration, two_classes
from numpy.typing import NDArray

LABELS = ("worn", "leak", "loose")
CARD = Card("multilabel", tuple(Channel(c) for c in "abc"), WindowSpec(1, 1, 1), labels=LABELS)
NOTHING = Data(np.zeros((0, 3, 1), np.float32), np.zeros((0, 3), np.float32), units=np.zeros(0, np.int64))
HALF = np.full(3, 0.5)
DAYS = Summary("day", 20, 8)
Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


def drawn(units: int = 8, each: int = 80, seed: int = 0) -> tuple[Floats, Ints, Ints]:
    """Logits that say how frequent each label is, whether it holds, and units."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(0, 1.5, (units * each, 3))
    holds = rng.random(logits.shape) < 1 / (1 + np.exp(-logits))
    return logits, holds.astype(np.int64), np.repeat(np.arange(units), each)


def losses(logits: Floats, holds: Ints) -> Floats:
    """Log-loss of each label (labels,)."""
    found: Floats = np.logaddexp(0, np.where(holds == 1, -logits, logits)).mean(axis=0)
    return found


def test_each_label_gets_what_it_needs() -> None:
    logits, holds, units = drawn()
    off = np.array([4.0, 1.0, 1.0]) * logits + np.array([0.0, 0.0, -2.0])
    found = choose_of_labels(off, holds, units, HALF)
    made = found.calibration
    assert isinstance(made, LabelCalibration) and found.judged is not None
    assert made.temperatures[0] == pytest.approx(4, rel=0.25) and made.biases[0] == pytest.approx(0, abs=0.5)
    assert (made.slopes[1], made.biases[1]) == (1.0, 0.0)  # it was right
    assert made.biases[2] == pytest.approx(2, abs=0.5)
    assert found.judged.log_loss[1] < found.judged.log_loss[0] and found.judged.error[1] < 0.05 < found.judged.error[0]
    new, right, _ = drawn(seed=1)
    off = np.array([4.0, 1.0, 1.0]) * new + np.array([0.0, 0.0, -2.0])
    before, after = losses(off, right), losses(made.applied(off), right)
    assert after[0] < 0.8 * before[0] and after[1] == before[1] and after[2] < 0.8 * before[2]


def test_two_classes_have_the_probability_of_the_label() -> None:
    logits = np.array([-3.0, 0.0, 2.0])
    two = two_classes(logits)
    assert (two[:, 1] - two[:, 0]).tolist() == logits.tolist()


def test_a_label_that_hardly_occurs_stays() -> None:
    """All say no: a steeper slope would always gain, and hide the first fault that comes."""
    logits, holds, units = drawn()
    rare = np.zeros(len(units), np.int64)
    rare[: LEAST_OF_CLASS - 1] = 1
    holds[:, 0], logits[:, 0] = rare, -1 + 0.3 * logits[:, 0]
    logits[:, 1] *= 5
    found = choose_of_labels(logits, holds, units, HALF).calibration
    assert isinstance(found, LabelCalibration)
    assert (found.slopes[0], found.biases[0]) == (1.0, 0.0) and found.slopes[1] < 0.4


def test_labels_that_are_right_stay_as_they_are() -> None:
    found = choose_of_labels(*drawn(), HALF)
    assert found.calibration is None and found.judged is not None and "does not help" in found.why
    assert found.judged.log_loss[0] == found.judged.log_loss[1]


def test_a_temperature_that_hides_a_label_at_its_limit_is_not_taken() -> None:
    """Above a limit of 0.9 nothing would be called any more; what the label is there for would be missed."""
    rng = np.random.default_rng(3)
    holds = (rng.random((640, 1)) < 0.3).astype(np.int64)
    logits = np.where(holds == 1, rng.normal(2.6, 0.4, holds.shape), rng.normal(-2.2, 4.0, holds.shape))
    units, limits = np.arange(640) // 80, np.array([0.9])
    least = np.log(9.0)
    assert choose_of_labels(logits, holds, units, HALF[:1]).calibration is not None
    found = choose_of_labels(logits, holds, units, limits).calibration
    after = logits if found is None else found.applied(logits)
    assert (after > least)[holds == 1].mean() + (after <= least)[holds == 0].mean() >= (
        (logits > least)[holds == 1].mean() + (logits <= least)[holds == 0].mean() - 0.01
    )


@pytest.fixture(scope="module")
def blend() -> Blend:
    """A network whose logits are four times its input."""
    graph = TrainableGraph.load(zoo.mlp(CARD, [3, 1], ()).SerializeToString())
    params = np.concatenate([4 * np.eye(3).ravel(), np.zeros(3)]).astype(np.float32)
    return Blend(graph, params)


def held() -> Data:
    logits, holds, units = drawn()
    return Data(logits[:, :, None].astype(np.float32), holds.astype(np.float32), units=units)


def serving(blend: Blend, calibration: LabelCalibration | None) -> Serving:
    file = zoo.mlp(CARD, [3, 1], ()).SerializeToString()
    session = Session(file, blend.graph.initializers(blend.release))
    scale = standardise.Scale(np.zeros((3, 1), np.float32), np.ones((3, 1), np.float32))
    return Serving(session, blend.card, 1, scale, Limit(1.0), calibration=calibration)


def test_what_serves_says_calibrated_probabilities_of_labels(blend: Blend) -> None:
    data = held()
    found = calibrate(blend, data, NOTHING, DAYS)
    assert found is not None and isinstance(found.calibration, LabelCalibration)
    assert (found.samples, found.units) == (640, 8)
    made = serving(blend, found.calibration)
    logits = found.calibration.applied(blend.predict(data.x))
    seen = Seen(blend, data.x, np.ones(len(data.x)), found.calibration)
    for i in range(30):
        said = made.decide(data.x[i])
        expected = 1 / (1 + np.exp(-logits[i]))
        assert list(said.values.values()) == pytest.approx(expected.tolist(), abs=1e-5)
        assert said.score == pytest.approx(2 * expected.max(), abs=1e-5) and seen.label(i) == said.label
    broken = np.full((3, 1), np.nan, np.float32)
    assert np.isnan(made.decide(broken).score)  # the machine is blind, not normal


def test_units_that_are_learnt_from_judge_no_label(blend: Blend) -> None:
    data = held()
    learnt = data.part(data.units < 3)
    found = calibrate(blend, data, learnt, DAYS)
    assert found is not None and (found.units, found.samples) == (5, 400)


def test_status_and_metrics_name_the_labels(blend: Blend) -> None:
    found = calibrate(blend, held(), NOTHING, DAYS)
    assert found is not None
    entry = found.status(CARD)
    assert set(entry["temperatures"]) == set(LABELS) and entry["temperatures"]["leak"] > 2
    text = words(entry)
    assert text.startswith("probabilities calibrated label by label with a temperature") and "worn " in text
    assert text.endswith("by 640 samples of 8 held-back units)")
    metric = _temperatures({"m": {"calibration": entry}, "other": {"calibration": None}})
    assert [s.labels for s in metric.samples] == [{"name": "m", "label": label} for label in LABELS]
    assert [s.value for s in metric.samples] == list(entry["temperatures"].values())
    none = Calibrated(why="it does not help on held-back units").status(CARD)
    assert words(none).startswith("probabilities as the model says") and not none["temperatures"]


def test_it_outlives_its_samples(blend: Blend, tmp_path: Path) -> None:
    found = KeptCalibration(ChainStore(tmp_path)).of(blend, held(), NOTHING, DAYS, b"model")
    assert found is not None and isinstance(found.calibration, LabelCalibration)
    again = KeptCalibration(ChainStore(tmp_path)).of(blend, NOTHING, NOTHING, Summary(), b"model")
    assert again is not None and isinstance(again.calibration, LabelCalibration)
    assert again.calibration.slopes.tolist() == found.calibration.slopes.tolist()
    assert again.calibration.biases.tolist() == found.calibration.biases.tolist()


@pytest.mark.parametrize(
    ("slopes", "biases"),
    [([100.0, 1, 1], [0.0] * 3), ([1.0] * 3, [9.0, 0, 0]), ([1.0] * 2, [0.0] * 2), ([float("nan"), 1, 1], [0.0] * 3)],
)
def test_a_stored_one_that_no_fit_gives_is_none(slopes: list[float], biases: list[float]) -> None:
    found = choose_of_labels(*drawn(), HALF)._replace(calibration=LabelCalibration(np.array(slopes), np.array(biases)))
    assert decode(encode(found, b"m"), b"m", 3) is None
    sound = found._replace(calibration=LabelCalibration(np.ones(3), np.zeros(3)))
    assert decode(encode(sound, b"m"), b"m", 3) is not None
