"""A participant's own tensors and values as labels, without a network."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
from fedge_agent.chain import ChainStore
from fedge_agent.config import ModelConfig, Training
from fedge_agent.memory import Memory
from fedge_agent.participant import Participant
from fedge_agent.samples import Sample, SampleStore
from fedge_agent.spool import Spool
from fedge_models import personal, zoo
from fedge_models.card import Card, Channel, Target, WindowSpec
from fedge_models.graph import TrainableGraph
from fedge_models.release import GENESIS, Header, header_hash, weights_hash
from fedge_models.trust_chain import Head

CARD = Card(
    "regress",
    (Channel("a"),),
    WindowSpec(1, 4, 2),
    ("mean", "std"),
    targets=(Target("life", "cycles", low=0, high=100, alarm_below=20),),
    local="dense0.bias",
)


def test_a_site_decides_with_its_own_tensors_after_a_restart(tmp_path: Path) -> None:
    model = zoo.mlp(CARD, 2, ()).SerializeToString()
    graph, digest = TrainableGraph.load(model), hashlib.sha256(model).digest()
    weights = np.zeros_like(graph.params)
    header = Header("m", 3, GENESIS, digest, weights_hash(weights), 0, 1, np.full(2, 0.1, np.float32), "r", {})
    chain, spool = ChainStore(tmp_path / "models"), Spool(tmp_path / "spool.sqlite")
    chain.save_graph(model)
    chain.save("head", Head(header, header_hash(header), weights))
    samples = SampleStore(tmp_path / "samples.sqlite", {"m": 1000})
    for i, row in enumerate(np.random.default_rng(0).normal(size=(80, 2)).astype(np.float32)):
        samples.put(Sample("m", "pump", i, row, 50.5 if i else None, False))
    samples.start()
    samples.stop()
    samples = SampleStore(tmp_path / "samples.sqlite", {"m": 1000})
    samples.fit_scale("m", samples.load("m", (2,), None)[0], CARD)

    def life() -> float:
        made = Participant(
            "m", ModelConfig(training=Training(min_samples=10)), tmp_path / "models", samples, spool, None, None, True,
            lambda *_: None, lambda _: False,
        )  # fmt: skip
        made._restore()
        assert made.serving is not None and made.serving.release == 3
        assert len(made._usable(held=False).x) == 79  # values are labels; the one without is left out
        return made.serving.decide(np.zeros(2, np.float32)).values["life"]

    assert life() == 50  # the release's own bias: the middle of the range
    mask = personal.local_mask(graph)
    own = Memory(np.zeros_like(weights), np.full(int(mask.sum()), -0.5, np.float32), weights, weights, 3)
    spool.put_update("m", 3, 1, b"body", digest, own.encode())
    assert life() == 25
    spool.close()
