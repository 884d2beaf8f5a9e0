"""Samples, standardisation, schedule, canary and the update that learning makes."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from fedge_agent import standardise
from fedge_agent.assets import check_fit
from fedge_agent.config import AssetConfig, TagConfig, Training
from fedge_agent.inference import Serving, Session
from fedge_agent.learning import Data, Schedule, threshold, train, update_body, usable
from fedge_agent.participant import clearly_worse
from fedge_agent.samples import Sample, SampleStore, split
from fedge_models import zoo
from fedge_models.card import Card, Channel, WindowSpec
from fedge_models.errors import ModelError
from fedge_models.graph import TrainableGraph
from fedge_models.quantize import dequantize, expand
from fedge_models.release import GENESIS, Header, header_hash, weights_hash
from fedge_models.trust_chain import Head
from fedge_models.update import decode_update
from onnx import helper

ANOMALY = Card("anomaly", (Channel("a"), Channel("b")), WindowSpec(1, 10, 5), ("mean", "std"))
CLASSIFY = Card("classify", (Channel("a"), Channel("b")), WindowSpec(1, 10, 5), ("mean", "std"), ("ok", "bad"), "ok")
KEY = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))


def head(graph: TrainableGraph) -> Head:
    steps = np.full(len(graph.sizes), 0.001, np.float32)
    weights = graph.params.copy()
    made = Header("f", 5, GENESIS, bytes(32), weights_hash(weights), 0, 1, steps, "r", {})
    return Head(made, header_hash(made), weights)


def samples(n: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(n, 4)).astype(np.float32)


def store(path: Path, limit: int = 1000) -> SampleStore:
    made = SampleStore(path / "samples.sqlite", {"m": limit})
    made.start()
    return made


def put(to: SampleStore, x: np.ndarray, y: int | None, held: bool = False) -> None:
    for i, row in enumerate(x):
        to.put(Sample("m", "pump", i, row, y, held))


def test_samples_and_their_scale_survive_a_restart(tmp_path: Path) -> None:
    kept, x = store(tmp_path), samples(50)
    put(kept, x[:40], 0)
    put(kept, x[40:], None, held=True)
    kept.stop()
    again = store(tmp_path)
    got, y = again.load("m", (4,), held=False)
    np.testing.assert_array_equal(got, x[:40])
    assert (y == 0).all() and again.load("m", (4,), held=True)[1].tolist() == [-1] * 10
    made = again.fit_scale("m", got)
    found = again.scale("m", (4,))
    assert found is not None and found[1] == 40 and (found[0].mean == made.mean).all()
    assert again.scale("m", (5,)) is None
    again.stop()


def test_oldest_of_the_commonest_label_go_first(tmp_path: Path) -> None:
    kept = store(tmp_path, limit=30)
    put(kept, samples(10), 1)
    put(kept, samples(100), 0)
    kept.stop()
    again = store(tmp_path)
    assert again.labels("m") == {"0": 20, "1": 10}
    again.stop()


def test_full_disk_is_counted_and_heals(tmp_path: Path) -> None:
    kept = SampleStore(tmp_path / "samples.sqlite", {"m": 100_000})
    kept._db.execute("PRAGMA max_page_count = 12")
    kept.start()
    put(kept, np.ones((300, 400), np.float32), 0)
    kept.stop()
    assert kept.lost >= 256 and kept.total.get("m", 0) + kept.lost == 300


def test_held_back_blocks_never_share_a_window() -> None:
    how, period = split(1.0, 10, 5, 0.2), 1_000_000_000
    ends = [i * 5 * period for i in range(2000)]
    parts = [how.held(end - 10 * period, end) for end in ends]
    assert 0.1 < parts.count(True) / len(parts) < 0.25 and None in parts
    for before, after in pairwise(parts):
        assert {before, after} != {True, False}  # between the parts there is always a dropped window


def test_standardised_is_zero_mean_unit_scale_and_bounded() -> None:
    x = samples(500) * [1, 10, 100, 0] + [0, 5, -3, 7]
    z = standardise.fit(x.astype(np.float32))(x.astype(np.float32))
    np.testing.assert_allclose(z[:, :3].std(axis=0), 1, atol=0.01)
    assert np.isfinite(z).all() and np.abs(z).max() <= standardise.CLIP


def test_schedule_trains_once_a_release_when_it_may() -> None:
    plan = Schedule(Training(interval=100.0, min_samples=10, new_samples=50))
    assert not plan.due(1, 9, 9, 0)
    assert plan.due(1, 10, 10, 0)
    plan.trained(1, 10, 0)
    assert not plan.due(1, 500, 500, 1e6)  # the same release
    assert not plan.due(2, 50, 50, 99)
    assert plan.due(2, 50, 50, 100) and plan.due(2, 60, 60, 1)


def test_what_is_trained_on_depends_on_the_task() -> None:
    data = Data(samples(3), np.array([0, 1, -1]))
    assert usable("anomaly", *data, labelled=True).y.tolist() == [0]
    assert usable("anomaly", *data, labelled=False).y.tolist() == [0, -1]
    assert usable("classify", *data, labelled=True).y.tolist() == [0, 1]


def test_update_says_what_training_changed() -> None:
    graph = TrainableGraph.load(zoo.mlp(CLASSIFY, 4, (8,)).SerializeToString())
    x = samples(200)
    data, held = (
        Data(x, (x[:, 0] > 0).astype(np.int64)),
        Data(samples(40, 1), (samples(40, 1)[:, 0] > 0).astype(np.int64)),
    )
    config = Training(learning_rate=0.01)
    trained = train(graph, head(graph), data, held, held, config, np.random.default_rng(0), lambda: None)
    assert trained.delta is not None and trained.after["loss"] < trained.before["loss"]
    graph.set_params(head(graph).weights)
    owed = np.zeros_like(graph.params)
    body, left = update_body(head(graph), trained, owed, graph.sizes, "gw", 7, KEY)
    got = decode_update(body, KEY.public_key(), graph.sizes)
    sent = dequantize(got.codes, expand(head(graph).header.steps, graph.sizes))
    np.testing.assert_allclose(sent + left, trained.delta, atol=1e-6)
    assert (got.sequence, got.samples, got.base_version) == (7, 200, 5) and "local_macro_f1" in got.metrics


def test_diverged_training_makes_no_update() -> None:
    graph = TrainableGraph.load(zoo.mlp(CLASSIFY, 4, (8,)).SerializeToString())
    data = Data(samples(100), np.zeros(100, np.int64))
    data.y[::2] = 1
    config = Training(optimizer="sgd", learning_rate=1e9)
    assert train(graph, head(graph), data, data, data, config, np.random.default_rng(0), lambda: None).delta is None


def test_threshold_comes_from_the_sites_own_normal_windows() -> None:
    graph = TrainableGraph.load(zoo.autoencoder(ANOMALY, 4, (2,)).SerializeToString())
    none, some = Data(samples(0), np.zeros(0, np.int64)), Data(samples(100), np.zeros(100, np.int64))
    assert threshold(graph, none, none) == float("inf")
    assert 0 < threshold(graph, some, none) < float("inf")


def test_canary_refuses_what_is_clearly_worse_and_only_that() -> None:
    rng = np.random.default_rng(0)
    old = rng.exponential(0.1, 100).astype(np.float32)
    assert clearly_worse(old, old * 2, 0.1)
    assert clearly_worse(old, old * np.nan, 0.1)
    assert not clearly_worse(old, old * 0.5, 0.1)
    assert not clearly_worse(old, old * 1.05, 0.1)
    noisy = old + rng.normal(0, 2, 100).astype(np.float32)
    assert not clearly_worse(old, noisy - (noisy - old).mean() + 0.05, 0.1)


@pytest.mark.parametrize("card", [ANOMALY, CLASSIFY])
def test_serving_scores_as_the_graph_does(card: Card) -> None:
    model = (zoo.autoencoder(card, 4, (2,)) if card is ANOMALY else zoo.mlp(card, 4, (8,))).SerializeToString()
    graph, x = TrainableGraph.load(model), samples(1)
    graph.params += 0.3  # not the file's own weights
    session = Session(model, graph.initializers(graph.params.copy()))
    scale = standardise.fit(samples(50))
    score, label = Serving(session, card, 3, scale, 0.0).decide(x[0])
    y = graph.forward(scale(x))
    if card is ANOMALY:
        assert score == pytest.approx(float(((y - scale(x)) ** 2).mean()), rel=1e-4) and label == "anomaly"
    else:
        p = np.exp(y[0]) / np.exp(y[0]).sum()
        assert score == pytest.approx(1 - p[0], rel=1e-4) and label == card.labels[int(p.argmax())]


def test_output_behind_a_softmax_is_not_softmaxed_again() -> None:
    model = zoo.mlp(CLASSIFY, 4, (8,))
    model.graph.node[-1].output[0] = "logits"
    model.graph.node.append(helper.make_node("Softmax", ["logits"], ["y"]))
    graph, x, scale = TrainableGraph.load(model.SerializeToString()), samples(1), standardise.fit(samples(50))
    session = Session(model.SerializeToString(), graph.initializers(graph.params.copy()))
    score, label = Serving(session, CLASSIFY, 3, scale, 0.0, graph.gives_probabilities).decide(x[0])
    p = graph.forward(scale(x))[0]
    assert p.sum() == pytest.approx(1)
    assert score == pytest.approx(1 - p[0], rel=1e-4) and label == CLASSIFY.labels[int(p.argmax())]


def test_wrong_model_for_the_channels_says_expected_and_got() -> None:
    config = AssetConfig(model="m", channels={"a": TagConfig(source="s", tag="a"), "c": TagConfig(source="s", tag="c")})
    with pytest.raises(ModelError, match=r"expects the channels \['a', 'b'\], the configuration has \['a', 'c'\]"):
        check_fit("pump", config, ANOMALY, (4,))
    right = AssetConfig(model="m", channels={c: TagConfig(source="s", tag=c) for c in "ab"})
    with pytest.raises(ModelError, match=r"inputs of shape \(9,\), this asset gives \(4,\)"):
        check_fit("pump", right, ANOMALY, (9,))
