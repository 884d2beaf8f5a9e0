"""A participant's own tensors, values as labels and several targets, without a network."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
from fedge_agent.alerts import AlertState
from fedge_agent.assets import Asset
from fedge_agent.chain import ChainStore
from fedge_agent.config import AssetConfig, ModelConfig, TagConfig, Training
from fedge_agent.health import Latency
from fedge_agent.memory import Memory
from fedge_agent.participant import Participant
from fedge_agent.samples import Sample, SampleStore
from fedge_agent.spool import Spool
from fedge_agent.types import Batch, Quality, Reading
from fedge_models import personal, zoo
from fedge_models.card import Card, Channel, Target, WindowSpec
from fedge_models.evaluation import evaluate
from fedge_models.graph import TrainableGraph
from fedge_models.release import GENESIS, Header, header_hash, weights_hash
from fedge_models.training import TrainingConfig, fit
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
        assert len(made._model.usable(held=False).x) == 79  # values are labels; the one without is left out
        return made.serving.decide(np.zeros(2, np.float32)).values["life"]

    assert life() == 50  # the release's own bias: the middle of the range
    mask = personal.local_mask(graph)
    own = Memory(np.zeros_like(weights), np.full(int(mask.sum()), -0.5, np.float32), weights, weights, 3)
    spool.put_update("m", 3, 1, b"body", digest, own.encode())
    assert life() == 25
    spool.close()


def test_a_machine_teaches_a_model_with_two_targets(tmp_path: Path) -> None:
    targets = (Target("life", "cycles", low=0, high=100), Target("heat", "degC", centre=50, scale=20))
    card = Card("regress", (Channel("a"),), WindowSpec(1, 4, 2), ("mean",), targets=targets)
    (tmp_path / "m.onnx").write_bytes(zoo.mlp(card, 1, (8,)).SerializeToString())
    samples, spool = SampleStore(tmp_path / "samples.sqlite", {"m": 1000}), Spool(tmp_path / "spool.sqlite")
    part = Participant(
        "m", ModelConfig(file=tmp_path / "m.onnx", training=Training(min_samples=10)), tmp_path / "models", samples,
        spool, None, None, True, lambda *_: None, lambda _: False,
    )  # fmt: skip
    part._restore()
    tags = {n: TagConfig(source="plc", tag=n) for n in ("a", "life", "heat")}
    config = AssetConfig(model="m", channels={"a": tags["a"]}, targets={n: tags[n] for n in ("heat", "life")})
    asset = Asset("gw", "cell", config, part, samples, Latency(), AlertState(), lambda *_: None)
    rng = np.random.default_rng(0)
    for t, a in enumerate(np.sin(np.arange(2400) / 50)):
        known = (("life", 50 + 20 * a), ("heat", 50 - 10 * a)) if t > 100 else (("life", 1.0),)
        readings = [Reading(n, t * 10**9, float(v), Quality.GOOD) for n, v in (("a", a), *known)]
        asset.push(Batch("plc", tuple(readings), None, 0))
    samples.start()
    samples.stop()
    part._model._samples = samples = SampleStore(tmp_path / "samples.sqlite", {"m": 1000})
    samples.start()
    part._model.rescale()
    data, held = part._model.usable(held=False), part._model.usable(held=True)
    assert part.graph is not None and data.y.shape == (len(data.x), 2) and len(data.x) > 500
    fit(part.graph, data.x, data.y, TrainingConfig(epochs=20, learning_rate=0.01), rng)
    found = evaluate(part.graph, held.x, held.y)
    assert found["rmse_life"] < 3 and found["rmse_heat"] < 2, found
    part._model.serve()
    assert part.serving is not None
    said, truth = part.serving.decide(np.array([0.5], np.float32)), {"life": 60.0, "heat": 45.0}
    assert said.bounds.keys() == truth.keys()
    assert all(low - 3 < truth[n] < high + 3 and high - low < 12 for n, (low, high) in said.bounds.items()), said
    past = part.serving.past["cell"]
    assert 500 < len(past) <= 1000 and past == sorted(past, key=lambda p: p[0])
    assert np.ptp([v["life"] for _, v in past]) > 30
    samples.stop()
    spool.close()


def test_a_release_is_tuned_to_the_machines_here_and_that_survives_a_restart(tmp_path: Path) -> None:
    model = zoo.mlp(CARD, 2, (8,)).SerializeToString()
    graph, digest = TrainableGraph.load(model), hashlib.sha256(model).digest()
    header = Header("m", 3, GENESIS, digest, weights_hash(graph.params), 0, 1, np.full(4, 0.1, np.float32), "r", {})
    chain, spool = ChainStore(tmp_path / "models"), Spool(tmp_path / "spool.sqlite")
    chain.save_graph(model)
    chain.save("head", Head(header, header_hash(header), graph.params.copy()))
    samples = SampleStore(tmp_path / "samples.sqlite", {"m": 1000})
    for i, row in enumerate(np.random.default_rng(0).normal(size=(200, 2)).astype(np.float32)):
        samples.put(Sample("m", "pump", i, row, float(50 + 10 * row[0]), i % 5 == 0))
    samples.start()
    samples.stop()

    def serves(look: bool) -> tuple[bool, float]:
        kept = SampleStore(tmp_path / "samples.sqlite", {"m": 1000})
        kept.start()
        training = Training(min_samples=10, learning_rate=0.05)
        made = Participant(
            "m", ModelConfig(training=training), tmp_path / "models", kept, spool, None, None, True, lambda *_: None,
            lambda _: False,
        )  # fmt: skip
        made._restore()
        if look:
            made._model.rescale()
        assert made.serving is not None and made.serving.release == 3
        said = made.status()["fine_tuned"], made.serving.decide(np.ones(2, np.float32)).values["life"]
        kept.stop()
        return said

    first = serves(look=True)
    assert first[0] and serves(look=False) == first
    (tmp_path / "models" / "tuned.bin").write_bytes(b"of another release")
    tuned, life = serves(look=False)
    assert not tuned and life != first[1]
    spool.close()
