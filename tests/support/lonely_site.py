# SPDX-License-Identifier: Apache-2.0
"""A gateway without an aggregator: its model is a file, its samples lie on disk, in runs with gaps between."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from fedge_agent.config.schema import ModelConfig, Training
from fedge_agent.durable.spool import Spool
from fedge_agent.federation.identity import Identity
from fedge_agent.federation.participant import Participant
from fedge_agent.samples.sample_table import Sample
from fedge_agent.samples.store import SampleStore
from fedge_agent.types import Array
from fedge_models.graph import zoo
from fedge_models.graph.card import Card, Channel, WindowSpec
from fedge_models.graph.trainable import TrainableGraph
from fedge_models.graph.untrained import mark_untrained

from support.offline_site import KEY

CARD = Card("classify", (Channel("a"),), WindowSpec(1, 4, 2), ("mean", "std"), ("ok", "bad"), "ok")
STEP_NS, GAP_NS = 10**9, 10**12


class LonelySite:
    """The folder of a gateway; a window is `bad` where its first feature is above zero."""

    def __init__(self, folder: Path, untrained: bool = True) -> None:
        self.folder, made = folder, zoo.mlp(CARD, 2, (8,))
        self.file = folder / "m.onnx"
        self.file.write_bytes((mark_untrained(made) if untrained else made).SerializeToString())
        self.graph = TrainableGraph.load(self.file.read_bytes())
        self.spool, self.samples = Spool(folder / "spool"), SampleStore(folder / "samples", {"m": 2000})
        self._rng, self._now = np.random.default_rng(0), 0

    def close(self) -> None:
        """Close samples and spool."""
        self.samples.stop()
        self.spool.close()

    def operate(self, samples: int, wrong: float = 0.0) -> None:
        """One more run of so many windows, of which a share has the wrong label. A fifth is held back, as blocks."""
        self._now += GAP_NS
        for i, row in enumerate(self._rng.normal(size=(samples, 2)).astype(np.float32)):
            self._now += STEP_NS
            label = bool(row[0] > 0) != bool(self._rng.random() < wrong)
            self.samples.put(Sample("m", "pump", self._now, row, int(label), i % 5 == 0))
        self.samples.flush()

    def participant(self, training: Training, uplink: Any = None) -> Participant:
        """A participant as the agent starts it; with an `uplink` it has joined."""
        how = ModelConfig(file=self.file, training=training)
        who = None if uplink is None else Identity("https://h:1", "gw", ("m",), KEY, KEY.public_key(), 0.0, self.folder)
        made = Participant(
            "m", how, self.folder / "models", self.samples, self.spool, who, uplink,
            lambda *_: None, lambda _: False, rng=np.random.default_rng(0),
        )  # fmt: skip
        made.restore()
        return made

    def decided(self, made: Participant) -> Array:
        """The scores of some windows by what serves."""
        assert made.serving is not None
        return np.array([made.serving.decide(row).score for row in ROWS], np.float32)


ROWS = np.random.default_rng(5).normal(size=(100, 2)).astype(np.float32)


def right(made: Participant) -> float:
    """Share of windows that are decided as they should be."""
    assert made.serving is not None
    return float(np.mean([(made.serving.decide(row).label == "bad") == (row[0] > 0) for row in ROWS]))
