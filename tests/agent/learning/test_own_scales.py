# SPDX-License-Identifier: Apache-2.0
"""A card that scales every channel leaves nothing to learn of a site: its model decides at once."""

from __future__ import annotations

import math
from pathlib import Path

import msgspec
import numpy as np
import pytest
from fedge_agent.config.schema import ModelConfig, Training
from fedge_agent.durable.releases import ChainStore
from fedge_agent.durable.spool import Spool
from fedge_agent.learning.local_model import LocalModel
from fedge_agent.samples.sample_table import Sample
from fedge_agent.samples.store import SampleStore
from fedge_models.graph import zoo
from fedge_models.graph.card import Card, Channel, WindowSpec
from fedge_models.training import standardise
from support.at_end import AtEnd

OWN = (Channel("a", centre=5.0, scale=2.0), Channel("b", centre=0.0, scale=9.0))
LABELS = ("ok", "worn")
CLASSIFY = Card("classify", OWN, WindowSpec(1, 1, 1), labels=LABELS)
MULTILABEL = Card("multilabel", OWN, WindowSpec(1, 1, 1), labels=LABELS)
ANOMALY = Card("anomaly", OWN, WindowSpec(1, 1, 1))


def begun(at_end: AtEnd, folder: Path, card: Card) -> tuple[LocalModel, SampleStore]:
    samples, spool = at_end(SampleStore(folder / "s", {"m": 5000})), at_end(Spool(folder / "spool"))
    config = ModelConfig(training=Training(min_samples=64))
    model = LocalModel("m", config, ChainStore(folder / "c"), samples, spool, lambda *_: None, lambda: None, {})
    net = zoo.autoencoder(card, [2, 1], (2,)) if card.task == "anomaly" else zoo.mlp(card, [2, 1], (2,))
    model.adopt(net.SerializeToString())
    model.restore(None)
    model.serve()
    return model, samples


@pytest.mark.parametrize("card", [CLASSIFY, MULTILABEL], ids=lambda c: c.task)
def test_a_classifier_decides_without_any_window_of_the_site(card: Card, at_end: AtEnd, tmp_path: Path) -> None:
    model, samples = begun(at_end, tmp_path, card)
    assert model.serving is not None and model.total == 0
    x = np.array([[1.5], [-0.5]], np.float32)
    early, scores = model.serving.decide(x), model.serving.scale_of_scores
    assert math.isfinite(early.score)
    rng = np.random.default_rng(0)
    for i in range(100):
        row = rng.normal(3, 1, (2, 1)).astype(np.float32)
        samples.put(Sample("m", "pump", i * 10**9, row, None, False, 10**9))
    samples.flush()
    model.rescale()
    model.serve()
    assert model._adopted is not None
    scale = model._adopted.standardisation.scale
    assert scale is not None and scale.bounds is not None  # of wild values, which samples alone tell
    assert model.serving.decide(x).score == pytest.approx(early.score)
    assert model.serving.scale_of_scores != scores  # of the same release


def test_an_anomaly_model_has_no_limit_before_it_has_windows(at_end: AtEnd, tmp_path: Path) -> None:
    model, _ = begun(at_end, tmp_path, ANOMALY)
    assert model.serving is not None
    assert model.serving.decide(np.zeros((2, 1), np.float32)).label == "unknown"


def test_values_that_the_card_scales_are_clipped_and_left() -> None:
    scale = standardise.given(CLASSIFY)
    assert scale is not None and not scale.raw
    np.testing.assert_array_equal(scale(np.array([[[1.5], [-99.0]]], np.float32)), [[[1.5], [-8.0]]])
    x = np.random.default_rng(1).normal(3, 2, (200, 2, 1)).astype(np.float32)
    np.testing.assert_array_equal(standardise.fit(x, CLASSIFY)(x[:9]), scale(x[:9]))


@pytest.mark.parametrize(
    "channels", [(OWN[0], Channel("b")), (OWN[0], Channel("b", condition=1.0, scale=2.0))], ids=["one", "condition"]
)
def test_a_channel_that_the_card_does_not_scale_needs_samples(channels: tuple[Channel, ...]) -> None:
    assert standardise.given(msgspec.structs.replace(CLASSIFY, channels=channels)) is None
