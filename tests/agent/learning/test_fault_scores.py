# SPDX-License-Identifier: Apache-2.0
"""What stored windows of confirmed faults score bounds the limit, of pictures too, and whatever else is stored."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fedge_agent.config.schema import ModelConfig, Training
from fedge_agent.durable.releases import ChainStore
from fedge_agent.durable.spool import Spool
from fedge_agent.learning import label_worth
from fedge_agent.learning.local_model import LocalModel
from fedge_agent.samples.sample_table import Sample
from fedge_agent.samples.store import SampleStore
from fedge_models.graph import zoo
from fedge_models.graph.card import Card, Channel, ImageSpec, WindowSpec
from support.at_end import AtEnd

TABLE = Card("anomaly", (Channel("a"), Channel("b")), WindowSpec(1, 1, 1))
PICTURE = Card("anomaly", (Channel("camera"),), WindowSpec(1, 1, 1), image=ImageSpec(4, 4))


class Gateway:
    """A model with 64 normal windows, and those of a fault."""

    def __init__(self, at_end: AtEnd, folder: Path, card: Card) -> None:
        self.is_picture, self.time = card.image is not None, 0
        self.shape = (1, 4, 4) if self.is_picture else (2, 1)
        self.samples, spool = at_end(SampleStore(folder / "s", {"m": 5000})), at_end(Spool(folder / "spool"))
        config, chain = ModelConfig(training=Training(min_samples=64)), ChainStore(folder / "c")
        self.model = LocalModel("m", config, chain, self.samples, spool, lambda *_: None, lambda: None, {})
        self.model.adopt(zoo.autoencoder(card, self.shape, (2,)).SerializeToString())
        self.model.restore(None)
        for _ in range(64):
            self.put(100.0, None)
        self.samples.flush()
        self.model.rescale()

    def put(self, level: float, y: int | None) -> None:
        self.time += 1
        x: np.ndarray[Any, Any] = np.random.default_rng(self.time).normal(level, 10, self.shape)
        x = x.clip(0, 255).astype(np.uint8) if self.is_picture else x.astype(np.float32)
        self.samples.put(Sample("m", "pump", self.time * 10**9, x, y, False, 10**9))

    def below(self) -> Mapping[str, float]:
        self.samples.flush()
        self.model.serve()
        assert self.model.serving is not None
        return self.model.serving.below


@pytest.mark.parametrize("card", [TABLE, PICTURE], ids=["table", "pictures"])
def test_windows_of_a_fault_bound_the_limit(card: Card, at_end: AtEnd, tmp_path: Path) -> None:
    gateway = Gateway(at_end, tmp_path, card)
    assert gateway.below() == {}
    for _ in range(5):
        gateway.put(200.0, 1)
    assert gateway.below()["pump"] > 0.1


def test_a_window_without_a_number_takes_no_bound_away(at_end: AtEnd, tmp_path: Path) -> None:
    gateway = Gateway(at_end, tmp_path, TABLE)
    for _ in range(5):
        gateway.put(200.0, 1)
    bound = gateway.below()["pump"]
    for level in (math.nan, math.inf, math.nan, math.nan):
        gateway.put(level, 1)
    assert gateway.below() == {"pump": bound}


def test_as_many_windows_are_looked_at_as_memory_takes() -> None:
    assert label_worth.most_windows((2, 1), 500) == 500
    assert label_worth.most_windows((3, 512, 512), 500) == 2
    assert label_worth.most_windows((10**9,), 500) == 1
