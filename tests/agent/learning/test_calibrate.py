# SPDX-License-Identifier: Apache-2.0
"""Probabilities are calibrated where held-back units show that it helps; kept, set aside when damaged, and served."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from fedge_agent.cli.how_sure import calibration as words
from fedge_agent.durable.releases import ChainStore
from fedge_agent.health import _sureness, _temperatures
from fedge_agent.learning.calibrate import LEAST_UNITS, Calibrated, calibrate, choose
from fedge_agent.learning.kept_calibration import KeptCalibration, decode, encode
from fedge_agent.learning.mixture import Blend
from fedge_agent.learning.serving import Serving, Session
from fedge_agent.learning.training import Data
from fedge_agent.samples.units import Summary
from fedge_models.graph import zoo
from fedge_models.graph.card import Card, Channel, WindowSpec
from fedge_models.graph.trainable import TrainableGraph
from fedge_models.training import calibration, standardise
from fedge_models.training.calibration import Calibration
from numpy.typing import NDArray

CARD = Card("classify", (Channel("a"),), WindowSpec(1, 4, 2), ("mean", "std"), labels=("ok", "worn", "broken"))
NOTHING = Data(np.zeros((0, 2), np.float32), np.zeros(0, np.int64), units=np.zeros(0, np.int64))
Floats = NDArray[np.float64]
Labels = NDArray[np.int64]


def drawn(units: int, each: int = 60, seed: int = 0, shift: float = 0.0) -> tuple[Floats, Labels, Labels]:
    """Logits that say how frequent labels are, labels, and units; shift: how much the logits of units differ."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(0, 1.5, (units * each, 3))
    right = logits + np.repeat(rng.normal(0, shift, units), each)[:, None] * np.array([1, -1, 0])
    p = np.exp(right) / np.exp(right).sum(axis=1, keepdims=True)
    labels = np.array([rng.choice(3, p=row) for row in p])
    return logits, labels, np.repeat(np.arange(units), each)


def test_a_model_that_is_too_sure_is_calibrated_and_its_classes_stay() -> None:
    logits, labels, units = drawn(8)
    found = choose(4 * logits, labels, units)
    assert isinstance(found.calibration, Calibration) and found.calibration.temperature == pytest.approx(4, rel=0.2)
    assert found.judged is not None and found.judged.log_loss[1] < found.judged.log_loss[0]
    assert found.judged.error[1] < 0.05 < found.judged.error[0]
    assert not found.calibration.biases.any()
    new, right, _ = drawn(20, seed=1)
    losses = [calibration.row_losses(z, right).mean() for z in (4 * new, found.calibration.applied(4 * new))]
    assert losses[1] < losses[0]


def test_a_bias_has_to_show_in_the_units_and_not_in_one_of_them() -> None:
    logits, labels, units = drawn(8)
    everywhere = choose(logits - np.array([1.5, 0, 0]), labels, units)
    assert everywhere.calibration is not None and everywhere.calibration.biases[0] > 0.5
    for seed in range(5):  # units differ, and the next differs in another way
        differing = choose(*drawn(4, seed=seed, shift=2.0))
        assert differing.calibration is None or not differing.calibration.biases.any()


def test_a_bias_that_hides_a_rare_class_is_not_taken() -> None:
    """Log-loss gains when the rare fault is called less often; what the model is there for would be missed."""
    rng = np.random.default_rng(0)
    labels = np.where(rng.random(900) < 0.06, 1, 0)
    logits = np.stack([np.zeros(900), rng.normal(np.where(labels == 1, 1.2, -1.0), 1.0), np.full(900, -9.0)], axis=1)
    assert (logits.argmax(axis=1) == 1).sum() > 2 * labels.sum()
    found = choose(logits, labels, np.arange(900) // 90)
    before = (logits.argmax(axis=1) == 1)[labels == 1].mean()
    after = logits if found.calibration is None else found.calibration.applied(logits)
    assert (after.argmax(axis=1) == 1)[labels == 1].mean() >= before


def test_a_model_that_is_right_stays_as_it_is() -> None:
    found = choose(*drawn(8))
    assert found.calibration is None and found.judged is not None
    assert found.judged.log_loss[0] == found.judged.log_loss[1]
    assert "does not help" in found.why


@pytest.fixture(scope="module")
def blend() -> Blend:
    """A model whose logits are ten times its inputs' sum, and so on: too sure of what labels below say."""
    graph = TrainableGraph.load(zoo.mlp(CARD, 2, (8,), 1).SerializeToString())
    return Blend(graph, graph.params * 6)


def held(blend: Blend, units: int, each: int = 60) -> Data:
    rng = np.random.default_rng(units)
    x = rng.normal(size=(units * each, 2)).astype(np.float32)
    p = np.exp(blend.predict(x) / 5)
    p /= p.sum(axis=1, keepdims=True)
    y = np.array([rng.choice(3, p=row / row.sum()) for row in p.astype(np.float64)], np.int64)
    return Data(x, y, units=np.repeat(np.arange(units), each).astype(np.int64))


@pytest.mark.parametrize(("units", "whole", "each"), [(LEAST_UNITS - 1, 2, 60), (6, 0, 60), (6, 6, 5)])
def test_with_too_little_held_back_probabilities_stay(blend: Blend, units: int, whole: int, each: int) -> None:
    found = calibrate(blend, held(blend, units, each), NOTHING, Summary("day", 9, whole))
    assert found is not None and found.calibration is None and found.judged is None
    assert f"of {LEAST_UNITS} with 50" in found.why and found.why in words(found.status(CARD))


def test_blocks_of_units_that_are_learnt_from_do_not_count(blend: Blend) -> None:
    """Where a class has no unit that is held back, blocks of it are: they show nothing of another unit."""
    data = held(blend, 8)
    blocks = data.y == 2
    learnt = data.part(blocks)  # other windows of this class in the same units are learnt from
    found = calibrate(blend, data, learnt, Summary("day", 20, 8))
    assert found is not None and found.units == 8 and found.samples == int((~blocks).sum())
    everywhere = calibrate(blend, data, data, Summary("day", 20, 8))
    assert everywhere is not None and everywhere.samples == everywhere.units == 0 and everywhere.calibration is None


def test_what_serves_says_calibrated_probabilities_and_the_same_class(blend: Blend) -> None:
    data = held(blend, 8)
    found = calibrate(blend, data, NOTHING, Summary("day", 20, 8))
    assert found is not None and isinstance(found.calibration, Calibration) and found.calibration.temperature > 2
    graph = blend.graph
    session = Session(zoo.mlp(CARD, 2, (8,), 1).SerializeToString(), graph.initializers(blend.release))
    scale = standardise.Scale(np.zeros(2, np.float32), np.ones(2, np.float32))
    plain, fitted = (Serving(session, CARD, 1, scale, calibration=c) for c in (None, found.calibration))
    logits = blend.predict(data.x)
    p = np.exp(found.calibration.applied(logits))
    expected = 1 - p[:, 0] / p.sum(axis=1)
    for i in range(50):
        said = fitted.decide(data.x[i])
        assert said.score == pytest.approx(expected[i], abs=1e-5) and said.label == plain.decide(data.x[i]).label
    sure = Serving(session, CARD, 1, scale, probabilities=True, calibration=Calibration(2.0, np.zeros(3)))
    probabilities = np.array([0.5, 0.3, 0.2], np.float32)
    assert sure._class(probabilities, probabilities, plain.limit("m")).score == pytest.approx(1 - 0.25 / 0.38)
    nothing = np.array([1.0, 0.0, 0.0], np.float32)
    assert sure._class(nothing, nothing, plain.limit("m")).score == pytest.approx(0)
    broken = np.full(3, np.nan, np.float32)
    assert np.isnan(sure._class(broken, broken, plain.limit("m")).score)  # the machine is blind, not normal


def test_status_says_what_it_is_and_what_it_gains(blend: Blend) -> None:
    found = calibrate(blend, held(blend, 8), NOTHING, Summary("day", 20, 8))
    assert found is not None
    entry = found.status(CARD)
    assert entry["samples"] == 480 and entry["units"] == 8 and entry["error"][1] < entry["error"][0]
    text = words(entry)
    assert text.startswith(f"probabilities calibrated with temperature {entry['temperature']:.3g} (off by ")
    assert text.endswith("before, by 480 samples of 8 held-back units)") and words(None) == ""


def test_metrics_show_temperature_and_error(blend: Blend) -> None:
    found = calibrate(blend, held(blend, 8), NOTHING, Summary("day", 20, 8))
    assert found is not None and found.judged is not None
    models = {
        "m": {"calibration": found.status(CARD), "intervals": None},
        "n": {"calibration": None, "intervals": None},
    }
    gauges = {name: values for name, _, values in _sureness(models)}
    family = _temperatures({"m": models["m"]})
    assert [sample.labels for sample in family.samples] == [{"name": "m", "label": ""}] and family.samples[0].value > 2
    assert not _temperatures({"n": models["n"]}).samples
    before, after = found.judged.error
    assert gauges["calibration_error"] == {"m/before": before, "m/after": after}


def test_a_calibration_outlives_its_samples_but_not_its_model_nor_damage(blend: Blend, tmp_path: Path) -> None:
    chain = ChainStore(tmp_path)
    judged = Summary("day", 20, 8)
    found = KeptCalibration(chain).of(blend, held(blend, 8), NOTHING, judged, b"model")
    assert found is not None and isinstance(found.calibration, Calibration)
    again = KeptCalibration(ChainStore(tmp_path)).of(blend, NOTHING, NOTHING, Summary(), b"model")
    assert again is not None and isinstance(again.calibration, Calibration) and again.samples == 480
    assert again.calibration.slope == found.calibration.slope
    other = KeptCalibration(ChainStore(tmp_path)).of(blend, NOTHING, NOTHING, Summary(), b"another")
    assert other is not None and other.calibration is None
    data = (tmp_path / "calibration.cbor").read_bytes()
    (tmp_path / "calibration.cbor").write_bytes(data[:-3] + bytes(b ^ 1 for b in data[-3:]))
    damaged = KeptCalibration(ChainStore(tmp_path)).of(blend, NOTHING, NOTHING, Summary(), b"model")
    assert damaged is not None and damaged.calibration is None
    assert [p.name for p in tmp_path.iterdir() if "calibration" in p.name] != ["calibration.cbor"]  # set aside


def test_a_stored_calibration_that_no_fit_gives_is_none() -> None:
    for slope, biases in ((100.0, [0.0] * 3), (1.0, [9.0, 0, 0]), (1.0, [0.0] * 2), (float("nan"), [0.0] * 3)):
        found = Calibrated(Calibration(slope, np.array(biases)), "", 9, 3)
        assert decode(encode(found, b"m"), b"m", 3) is None
    assert decode(b"", b"m", 3) is None and decode(None, b"m", 3) is None


def test_other_tasks_are_not_calibrated() -> None:
    card = Card("anomaly", CARD.channels, CARD.window, CARD.features)
    graph = TrainableGraph.load(zoo.autoencoder(card, 2, (1,)).SerializeToString())
    data = Data(np.zeros((60, 2), np.float32), np.zeros(60, np.int64), units=np.arange(60))
    assert calibrate(Blend(graph, graph.params), data, NOTHING, Summary("day", 60, 60)) is None
