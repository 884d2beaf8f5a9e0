# SPDX-License-Identifier: Apache-2.0
"""Samples, standardisation, schedule, canary and the update that learning makes."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from fedge_agent.config.schema import AssetConfig, TagConfig, Training, WindowConfig
from fedge_agent.learning import carry_over
from fedge_agent.learning.canary import clearly_worse
from fedge_agent.learning.carry_over import CarryOver
from fedge_agent.learning.limits import Limit, threshold
from fedge_agent.learning.mixture import Blend
from fedge_agent.learning.schedule import AloneSchedule, Schedule, round_rate
from fedge_agent.learning.serving import Serving, Session
from fedge_agent.learning.training import Data, Trained, train, usable
from fedge_agent.learning.tuning import tune
from fedge_agent.learning.update import code, update_body
from fedge_agent.machines.fit import check_fit
from fedge_agent.samples.sample_table import Sample
from fedge_agent.samples.split import split
from fedge_agent.samples.store import SampleStore
from fedge_aggregator.config.schema import FederationConfig
from fedge_aggregator.federation import admission
from fedge_aggregator.federation.publish import next_grid
from fedge_models.errors import ModelError
from fedge_models.graph import zoo
from fedge_models.graph.card import Card, Channel, Target, WindowSpec
from fedge_models.graph.trainable import TrainableGraph
from fedge_models.messages.quantize import LIMIT, Floats, dequantize, expand
from fedge_models.messages.release import DRIFT_SHARE, Release
from fedge_models.messages.update import decode_update
from fedge_models.system.settings import Seconds
from fedge_models.training import personal, standardise, start_value
from fedge_models.training.config import TrainingConfig
from fedge_models.training.evaluation import predict, row_losses
from fedge_models.training.loop import FitReport
from fedge_models.training.losses import row_errors
from onnx import helper
from support.at_end import AtEnd
from support.databases import Disk
from support.made_releases import make_release

ANOMALY = Card("anomaly", (Channel("a"), Channel("b")), WindowSpec(1, 10, 5), ("mean", "std"))
CLASSIFY = Card("classify", (Channel("a"), Channel("b")), WindowSpec(1, 10, 5), ("mean", "std"), ("ok", "bad"), "ok")
KEY = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))


def head(graph: TrainableGraph) -> Release:
    return make_release(graph.params.copy(), np.full(len(graph.sizes), 0.001, np.float32), 5)


def samples(n: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(n, 4)).astype(np.float32)


def store(path: Path, limit: int = 1000) -> SampleStore:
    made = SampleStore(path / "samples.sqlite", {"m": limit})
    made.start()
    return made


def put(to: SampleStore, x: np.ndarray, y: int | None, held: bool = False) -> None:
    for i, row in enumerate(x, to.collected("m", "pump")[0]):
        to.put(Sample("m", "pump", i, row, y, held))


def test_samples_survive_a_restart(tmp_path: Path) -> None:
    stored, x = store(tmp_path), samples(50)
    put(stored, x[:40], 0)
    put(stored, x[40:], None, held=True)
    stored.stop()
    again = store(tmp_path)
    got, y, *_ = again.rows("m", (4,), held=False)
    np.testing.assert_array_equal(got, x[:40])
    assert (y == 0).all() and again.rows("m", (4,), held=True)[1].tolist() == [-1] * 10
    again.stop()


def test_oldest_of_the_commonest_label_go_first(tmp_path: Path) -> None:
    stored = store(tmp_path, limit=30)
    put(stored, samples(10), 1)
    put(stored, samples(100), 0)
    stored.stop()
    again = store(tmp_path)
    assert again.labels("m") == {"0": 20, "1": 10}
    again.stop()


def test_full_disk_is_counted_and_heals(at_end: AtEnd, disk: Disk, tmp_path: Path) -> None:
    stored = at_end(SampleStore(tmp_path / "samples.sqlite", {"m": 100_000}))
    disk.fill()
    stored.start()
    put(stored, np.ones((300, 400), np.float32), 0)
    stored.stop()
    assert stored.lost == 300 == stored.total["m"]  # they were in memory, and the disk is still full at the end


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
    plan = Schedule(Training(interval=Seconds(100), min_samples=10, new_samples=50))
    assert not plan.due(1, 9, 9, 0)
    assert plan.due(1, 10, 10, 0)
    plan.trained(1, 10, 0)
    assert not plan.due(1, 500, 500, 1e6)  # the same release
    plan.failed = True  # nothing came of it
    assert not plan.due(1, 500, 500, 99) and plan.due(1, 500, 500, 100)
    plan.trained(1, 10, 0)
    assert not plan.due(1, 500, 500, 100)
    assert not plan.due(2, 50, 50, 99)
    assert plan.due(2, 50, 50, 100) and plan.due(2, 60, 60, 1)


def test_the_own_model_is_trained_alone_for_a_release_or_new_samples_and_rests_between() -> None:
    plan = AloneSchedule(Training(interval=Seconds(100), min_samples=10, new_samples=50))
    assert not plan.due(1, 9, 9, 0) and plan.due(1, 10, 10, 0)
    plan.trained(1, 10, 0)
    assert not plan.due(2, 500, 500, 99) and plan.due(2, 10, 10, 100)
    assert not plan.due(1, 59, 59, 100) and plan.due(1, 60, 60, 100)
    assert not AloneSchedule(Training(own_model=0.0, min_samples=10)).due(1, 10, 10, 0)


def test_what_is_trained_on_depends_on_the_task() -> None:
    data = Data(samples(3), np.array([0, 1, -1]))
    assert usable("anomaly", data, labelled=True).y.tolist() == [0]
    assert usable("anomaly", data, labelled=False).y.tolist() == [0, -1]
    assert usable("classify", data, labelled=True).y.tolist() == [0, 1]


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
    residual = np.zeros_like(graph.params)
    body, left = update_body(head(graph), trained, residual, graph.sizes, "gw", 7, KEY)
    got = decode_update(body, KEY.public_key(), graph.sizes)
    sent = dequantize(got.codes, expand(head(graph).header.steps, graph.sizes))
    np.testing.assert_allclose(sent + left, trained.delta, atol=1e-6)
    assert (got.sequence, got.samples, got.base_version) == (7, 200, 5) and "local_macro_f1" in got.metrics


@pytest.mark.parametrize("task", ["regress", "multilabel"])
def test_an_update_of_many_targets_or_labels_is_understood(task: Any) -> None:
    names = tuple(f"remaining life of the spindle bearing {i}" for i in range(20))
    targets = tuple(Target(n) for n in names) if task == "regress" else ()
    card = Card(task, (Channel("a"),), WindowSpec(1, 4, 2), ("mean",), () if targets else names, targets=targets)
    graph = TrainableGraph.load(zoo.mlp(card, 4, (8,)).SerializeToString())
    rng = np.random.default_rng(0)
    data = Data(samples(60), (rng.random((60, 20)) < 0.5).astype(np.float32))
    trained = train(graph, head(graph), data, data, data, Training(), rng, lambda: None)
    body, _ = update_body(head(graph), trained, np.zeros_like(graph.params), graph.sizes, "gw", 7, KEY)
    got = decode_update(body, KEY.public_key(), graph.sizes)
    assert {"base_loss", "local_loss"} <= set(got.metrics) and len(got.metrics) <= 20


def test_diverged_training_makes_no_update() -> None:
    graph = TrainableGraph.load(zoo.mlp(CLASSIFY, 4, (8,)).SerializeToString())
    data = Data(samples(100), np.zeros(100, np.int64))
    data.y[::2] = 1
    config = Training(optimizer="sgd", learning_rate=1e9)
    assert train(graph, head(graph), data, data, data, config, np.random.default_rng(0), lambda: None).delta is None


def test_threshold_comes_from_the_sites_own_normal_windows() -> None:
    graph = TrainableGraph.load(zoo.autoencoder(ANOMALY, 4, (2,)).SerializeToString())
    none, some = Data(samples(0), np.zeros(0, np.int64)), Data(samples(100), np.zeros(100, np.int64))
    assert threshold(Blend(graph, graph.params), none, none).score == float("inf")
    counted = threshold(Blend(graph, graph.params), some, none)
    assert 0 < counted.score < float("inf") and counted.usual is not None and counted.usual.shape == (2,)
    rare = msgspec.structs.replace(ANOMALY, threshold_fit="peaks", threshold_quantile=0.9999)
    beyond = TrainableGraph.load(zoo.autoencoder(rare, 4, (2,)).SerializeToString())
    many = Data(samples(1000), np.zeros(1000, np.int64))
    scores = row_errors(predict(beyond, many.x), many.x)
    assert scores.max() < threshold(Blend(beyond, beyond.params), many, none).score < 3 * scores.max()


def test_canary_refuses_what_is_clearly_worse_and_only_that() -> None:
    rng = np.random.default_rng(0)
    old = rng.exponential(0.1, 100).astype(np.float32)
    assert clearly_worse(old, old * 2, 0.1)
    assert clearly_worse(old, old * np.nan, 0.1)
    assert not clearly_worse(old, old * 0.5, 0.1)
    assert not clearly_worse(old, old * 1.05, 0.1)
    noisy = old + rng.normal(0, 2, 100).astype(np.float32)
    assert not clearly_worse(old, noisy - (noisy - old).mean() + 0.05, 0.1)


def test_canary_lets_pass_what_is_worse_by_next_to_nothing() -> None:
    """A site froze on release 48 of 69 because a loss of a hundred-thousandth had risen by a third."""
    old = np.full(100, 7e-6, np.float32)
    assert not clearly_worse(old, old * 1.3, 0.1) and not clearly_worse(old, old + 0.004, 0.1)
    assert clearly_worse(old, old + 0.006, 0.1)


def test_anomaly_names_the_channel_that_is_unusual() -> None:
    model = zoo.autoencoder(ANOMALY, 4, (2,)).SerializeToString()
    graph, scale = TrainableGraph.load(model), standardise.Scale(np.zeros(4, np.float32), np.ones(4, np.float32))
    nothing = np.zeros_like(graph.params)  # reconstructs zero: the error is the input itself
    session, usual = Session(model, graph.initializers(nothing)), np.array([1.0, 100.0], np.float32)
    for x, name in (([9, 9, 1, 1], "a"), ([0.1, 0.1, 9, 9], "b"), ([3, 3, 3, 3], "a")):
        decision = Serving(session, ANOMALY, 1, scale, Limit(0.0, usual)).decide(np.array(x, np.float32))
        assert (decision.label, decision.channel) == ("anomaly", name)
    assert Serving(session, ANOMALY, 1, scale, Limit(1e9, usual)).decide(np.ones(4, np.float32)).channel == ""


def test_estimate_comes_in_the_users_unit_with_its_distance_from_the_alarm() -> None:
    life, heat = (
        Target("life", "cycles", low=0, high=100, alarm_below=20),
        Target("heat", "K", centre=300, scale=10, alarm_above=330),
    )
    card = Card("regress", ANOMALY.channels, ANOMALY.window, ("mean", "std"), targets=(life, heat))
    model = zoo.mlp(card, 4, ()).SerializeToString()
    graph, scale = TrainableGraph.load(model), standardise.Scale(np.zeros(4, np.float32), np.ones(4, np.float32))
    for bias, values, score, label in (
        ((0.0, 0.0), (50, 300), 0.4, "normal"),
        ((-0.8, 0.0), (10, 300), 1.2, "life"),
        ((-9.0, 5.0), (0, 350), 3.0, "heat"),
    ):
        graph.params[:] = 0
        graph.params[-2:] = bias
        session = Session(model, graph.initializers(graph.params.copy()))
        decision = Serving(session, card, 1, scale, Limit(1.0)).decide(np.ones(4, np.float32))
        assert decision.label == label and decision.score == pytest.approx(score, rel=1e-5)
        assert decision.values == pytest.approx({"life": values[0], "heat": values[1]}, rel=1e-5, abs=1e-4)


def local_training(local: str) -> tuple[TrainableGraph, Release, Data, Training]:
    card = msgspec.structs.replace(CLASSIFY, local=local)
    graph = TrainableGraph.load(zoo.mlp(card, 4, (8,)).SerializeToString())
    x = samples(200)
    return graph, head(graph), Data(x, (x[:, 0] > 0).astype(np.int64)), Training(learning_rate=0.01)


def test_local_tensors_are_trained_stored_and_never_sent() -> None:
    graph, base, data, config = local_training("dense1.*")
    mask, rng = personal.local_mask(graph), np.random.default_rng(0)
    trained = train(graph, base, data, data, data, config, rng, lambda: None)
    assert trained.delta is not None and (trained.delta[mask] == 0).all() and (trained.delta[~mask] != 0).any()
    assert trained.own is not None and np.abs(trained.own - base.weights[mask]).max() > 0.01
    body, left = update_body(base, trained, np.zeros_like(base.weights), graph.sizes, "gw", 7, KEY)
    assert (decode_update(body, KEY.public_key(), graph.sizes).codes[mask] == 0).all() and (left[mask] == 0).all()
    stored = CarryOver(left, trained.own, trained.movement, base.weights, 5)
    back = carry_over.decode(stored.encode(), graph, mask)
    assert back.own is not None and (back.own == trained.own).all() and back.version == 5
    again = train(graph, base, data, data, data, replaced(config, epochs=0), rng, lambda: None, back)
    assert again.own is not None and (again.own == trained.own).all()  # it resumed from its own, not the release's


def test_own_tensors_that_are_offered_change_nothing_else_and_are_carried_over_to_nothing() -> None:
    graph, base, data, config = local_training("dense1.*")
    mask, residual = personal.local_mask(graph), np.zeros_like(base.weights)
    trained = train(graph, base, data, data, data, config, np.random.default_rng(0), lambda: None)
    assert trained.own is not None
    silent, left = update_body(base, trained, residual, graph.sizes, "gw", 7, KEY)
    body, also_left = update_body(base, trained, residual, graph.sizes, "gw", 7, KEY, offered=mask)
    update, without = (decode_update(b, KEY.public_key(), graph.sizes) for b in (body, silent))
    assert (update.codes[~mask] == without.codes[~mask]).all() and (update.codes[mask] != 0).any()
    assert (left == also_left).all() and (left[mask] == 0).all() and (left[~mask] != 0).any()
    tensors = start_value.of_tensors(mask, graph.sizes)
    assert (update.spread[~tensors] == without.spread[~tensors]).all()
    assert start_value.offers(update.spread, tensors) and not start_value.offers(without.spread, tensors)
    reached = (base.weights + dequantize(update.codes, expand(base.header.steps, graph.sizes)))[mask]
    away = np.clip(trained.own - base.weights[mask], -0.127, 0.127)  # what 127 steps of 0.001 hold
    np.testing.assert_allclose(reached, base.weights[mask] + away, atol=0.00051)


def replaced(config: Training, **fields: object) -> Training:
    return msgspec.structs.replace(config, **fields)


def test_memory_that_is_damaged_or_of_another_graph_is_forgotten() -> None:
    graph, base, _, _ = local_training("")
    mask = personal.local_mask(graph)
    stored = CarryOver(base.weights, base.weights[:0], base.weights, base.weights, 5).encode()
    assert (carry_over.decode(stored, graph, mask).residual == base.weights).all()
    for bad in (None, b"", stored[:-1], stored[:40], CarryOver(base.weights[1:]).encode(), b"\x80"):
        found = carry_over.decode(bad, graph, mask)
        assert found.movement is None and (found.residual == 0).all()


def test_drift_is_taken_back_on_the_next_release() -> None:
    graph, base, data, config = local_training("")
    rng, mask = np.random.default_rng(0), personal.local_mask(graph)
    first = train(graph, base, data, data, data, config, rng, lambda: None)
    assert first.movement is not None and first.delta is not None
    stored = CarryOver(np.zeros_like(base.weights), first.own, first.movement, base.weights, 5)
    assert stored.correction(base, 1.0, mask) is None  # the same release says nothing of the others
    moved = (base.weights + 0.5 * first.delta).astype(np.float32)
    after = Release(msgspec.structs.replace(base.header, version=7), base.hash, moved)
    back = stored.correction(after, 1.0, mask)
    assert back is not None
    np.testing.assert_allclose(back, 0.25 * first.delta - first.movement, atol=1e-6)
    still = replaced(config, learning_rate=0.0, proximal_mu=0.0, drift_correction=1.0)
    second = train(graph, after, data, data, data, still, rng, lambda: None, stored)
    assert second.delta is not None and second.movement is not None
    np.testing.assert_allclose(second.delta, back, atol=1e-5)
    np.testing.assert_allclose(second.movement, 0, atol=1e-5)
    robust = msgspec.structs.replace(after.header, figures={DRIFT_SHARE: 0.25})  # the rule allows no more
    third = train(graph, Release(robust, base.hash, moved), data, data, data, still, rng, lambda: None, stored)
    assert third.delta is not None
    np.testing.assert_allclose(third.delta, 0.25 * back, atol=1e-5)


def tunable(seed: int = 0) -> tuple[TrainableGraph, Data, Data]:
    graph, rng = TrainableGraph.load(zoo.mlp(CLASSIFY, 4, (8,)).SerializeToString()), np.random.default_rng(seed)
    x = rng.normal(size=(300, 4)).astype(np.float32)
    y = (x[:, 0] > 0).astype(np.int64)
    return graph, Data(x[:200], y[:200]), Data(x[200:], y[200:])


def test_release_is_tuned_only_where_held_back_data_shows_a_gain() -> None:
    graph, data, held = tunable()
    start, config = graph.params.copy(), TrainingConfig(epochs=2, learning_rate=0.05)

    def tuned(judge: Data, begin: Floats = start) -> Floats | None:
        return tune(graph, begin, data, judge, config, np.random.default_rng(0))

    def loss(params: Floats) -> float:
        graph.set_params(params)
        return float(row_losses(graph, held.x, held.y).mean())

    found = tuned(held)
    assert found is not None and loss(found) < 0.95 * loss(start)
    assert tuned(Data(held.x, 1 - held.y), found) is None  # what was learned is wrong there
    assert tuned(Data(held.x[:5], held.y[:5])) is None  # too few to tell
    one = data.y == 1  # a site that has met a single class would unlearn the other, and its own data could not tell
    assert tune(graph, start, Data(data.x[one], data.y[one]), held, config, np.random.default_rng(0)) is None


def test_learning_rate_halves_over_releases() -> None:
    assert [round_rate(0.8, 10, v) for v in (1, 11, 21)] == pytest.approx([0.8, 0.4, 0.2])
    assert round_rate(0.8, 0, 1000) == 0.8


def test_values_as_labels_are_stored_and_the_oldest_go(tmp_path: Path) -> None:
    stored = store(tmp_path, limit=300)
    for i, row in enumerate(samples(400)):
        stored.put(Sample("m", "cell", i, row, i + 0.5 if i else None, False))
    stored.stop()
    again = store(tmp_path)
    y = again.rows("m", (4,), held=False, targets=1)[1]
    assert len(y) == 300 and y[0] == 100.5 and y[-1] == 399.5
    assert again.labels("m") == {"values": 300, "-": 0}
    again.stop()


def test_several_values_as_labels_are_stored_together(tmp_path: Path) -> None:
    stored = store(tmp_path)
    for i, (row, y) in enumerate(zip(samples(4), ((1.5, 2.5), None, 7.0, (1.0, 2.0, 3.0)), strict=True)):
        stored.put(Sample("m", "cell", i, row, y, False))
    stored.stop()
    again = store(tmp_path)
    unknown = [np.nan, np.nan]  # none, or not as many as the model now has
    np.testing.assert_array_equal(again.rows("m", (4,), False, 2)[1], [[1.5, 2.5], unknown, unknown, unknown])
    np.testing.assert_array_equal(again.rows("m", (4,), False, 1)[1], [np.nan, np.nan, 7.0, np.nan])
    assert again.labels("m") == {"values": 3, "-": 1}
    again.stop()


def test_each_operating_condition_is_standardised_by_itself() -> None:
    rng = np.random.default_rng(0)
    recipe = rng.choice([10.0, 20.0], (80, 30))
    load = 5 * recipe + rng.normal(0, recipe / 10)
    x = np.stack([recipe + rng.normal(0, 0.01, recipe.shape), load], axis=1).astype(np.float32)
    card = Card("anomaly", (Channel("recipe", condition=1.0), Channel("load")), WindowSpec(1, 30, 30))
    scale = standardise.fit(x, card)
    z = standardise.decode(standardise.encode(scale))(x)
    for value in (10.0, 20.0):
        own = z[:, 1][recipe == value]
        assert abs(own.mean()) < 0.01 and own.std() == pytest.approx(1, abs=0.01)
    assert z[:, 0].std() == pytest.approx(1, abs=0.01)  # the graph still sees which it is
    assert standardise.fit(x)(x)[:, 1].std() == pytest.approx(1, abs=0.01)
    np.testing.assert_allclose(scale(x[3]), z[3], atol=1e-6)


def test_channels_that_the_card_scales_are_left_as_they_are() -> None:
    card = Card("anomaly", (Channel("a", centre=3.0, scale=2.0), Channel("b")), WindowSpec(1, 10, 5), ("mean", "std"))
    scale = standardise.fit(samples(100) * 5 + 3, card)
    assert scale.mean[:2].tolist() == [0, 0] and scale.scale[:2].tolist() == [1, 1] and scale.scale[2] > 4


@pytest.mark.parametrize("card", [ANOMALY, CLASSIFY])
def test_serving_scores_as_the_graph_does(card: Card) -> None:
    model = (zoo.autoencoder(card, 4, (2,)) if card is ANOMALY else zoo.mlp(card, 4, (8,))).SerializeToString()
    graph, x = TrainableGraph.load(model), samples(1)
    graph.params += 0.3  # not the file's own weights
    session = Session(model, graph.initializers(graph.params.copy()))
    scale = standardise.fit(samples(50))
    score, label, *_ = Serving(session, card, 3, scale, Limit(0.0)).decide(x[0])
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
    score, label, *_ = Serving(session, CLASSIFY, 3, scale, Limit(0.0), graph.gives_probabilities).decide(x[0])
    p = graph.forward(scale(x))[0]
    assert p.sum() == pytest.approx(1)
    assert score == pytest.approx(1 - p[0], rel=1e-4) and label == CLASSIFY.labels[int(p.argmax())]


def test_wrong_model_for_the_channels_says_expected_and_got() -> None:
    config = AssetConfig(model="m", channels={"a": TagConfig(source="s", tag="a"), "c": TagConfig(source="s", tag="c")})
    with pytest.raises(ModelError, match=r"expects the channels \['a', 'b'\], the configuration has \['a', 'c'\]"):
        check_fit("pump", config, ANOMALY, (4,))
    right = AssetConfig(model="m", channels={c: TagConfig(source="s", tag=c) for c in "ab"})
    two = Card("regress", ANOMALY.channels, ANOMALY.window, ("mean", "std"), targets=(Target("life"), Target("heat")))
    one = msgspec.structs.replace(right, label=TagConfig(source="s", tag="l"))
    with pytest.raises(
        ModelError, match=r"one label cannot stand for the targets \['life', 'heat'\]; give a tag for each"
    ):
        check_fit("pump", one, two, (4,))
    wrong = msgspec.structs.replace(right, targets={"life": TagConfig(source="s", tag="l")})
    with pytest.raises(ModelError, match=r"gives the targets \['life', 'heat'\], the configuration \['life'\]"):
        check_fit("pump", wrong, two, (4,))
    with pytest.raises(ModelError, match=r"inputs of shape \(9,\), this asset gives \(4,\)"):
        check_fit("pump", right, ANOMALY, (9,))
    fast = msgspec.structs.replace(right, window=WindowConfig(rate_hz=50_000, hop=10))
    with pytest.raises(ModelError, match=r"5,000 decisions a second; at most 1,000 .*: raise asset.pump.window.hop"):
        check_fit("pump", fast, ANOMALY, (4,))


def test_a_difference_far_wider_than_the_first_grid_arrives_as_a_part_of_itself_and_the_grid_follows() -> None:
    """Nothing but ends of the grid would be refused, and a grid that learns of no update stays too narrow for ever."""
    graph = TrainableGraph.load(zoo.mlp(CLASSIFY, 4, (8,)).SerializeToString())
    base, residual = head(graph), np.zeros_like(graph.params)
    wide = np.random.default_rng(0).choice([-1.0, 1.0], len(residual)).astype(np.float32)  # hundred times ±127 steps
    arrived, steps = np.zeros_like(residual), base.header.steps
    for count in range(1, 7):
        base = Release(msgspec.structs.replace(base.header, steps=steps), base.hash, base.weights)
        trained = Trained(FitReport((), 1, 0, False), wide if count == 1 else np.zeros_like(wide), {}, {})
        body, residual = update_body(base, trained, residual, graph.sizes, "gw", count, KEY)
        update = decode_update(body, KEY.public_key(), graph.sizes)
        admission.check(update, "gw", base.header.federation, FederationConfig())
        arrived, steps = (
            arrived + dequantize(update.codes, expand(steps, graph.sizes)),
            next_grid(steps, [update.spread]),
        )
    np.testing.assert_allclose(arrived, wide, atol=0.02)


def test_many_values_beyond_the_grid_do_not_shorten_the_others() -> None:
    sizes, steps = np.array([100, 3]), np.full(2, 0.01, np.float32)
    values = np.full(103, 0.5, np.float32)
    values[:85], values[100:] = 9.0, 2.0
    codes, wish = code(values, steps, sizes)
    assert (codes[:85] == LIMIT).all() and (codes[85:100] == 50).all() and (codes[100:] == LIMIT).all()
    np.testing.assert_allclose(wish, [9, 2], rtol=1e-6)
    values[85:95] = 9.0  # now there is hardly anything but ends
    codes, _ = code(values, steps, sizes)
    assert (codes[:95] == LIMIT - 1).all() and (codes[95:100] == 7).all() and (codes[100:] == LIMIT - 1).all()
