# SPDX-License-Identifier: Apache-2.0
"""Losses against central differences and written-out formulas; class weights, label skew, targets, extremes, drift."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
import pytest
from fedge_models.errors import ModelError
from fedge_models.graph import zoo
from fedge_models.graph.card import Card, Channel, Objective, Target, WindowSpec, decode_card
from fedge_models.graph.trainable import TrainableGraph
from fedge_models.training import drift, extremes, losses, objective, personal
from fedge_models.training.config import TrainingConfig
from fedge_models.training.evaluation import average_precision, evaluate
from fedge_models.training.loop import fit
from numpy.typing import NDArray
from support.graphs import N, ints, normal

Floats = NDArray[Any]  # losses are typed for float32, and work in any precision
WINDOW = WindowSpec(1, 4, 1)
CHANNEL = (Channel("a"),)
LABELS = ints(0, 1, 2, 1, 0)
WEIGHTS: Floats = np.array([1, 2, 3], np.float64)
ONES: Floats = np.ones((5, 3))
GONE: Floats = np.array([0.0, 0.0, -np.inf])


def regress(*targets: Target, **fields: object) -> Card:
    return Card("regress", CHANNEL, WINDOW, ("mean",), targets=targets, **fields)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "loss",
    [
        lambda y: losses.CrossEntropy(np.diag(WEIGHTS), weighted=True)(y, LABELS),
        lambda y: losses.adjusted_cross_entropy(y, LABELS, WEIGHTS, np.log(WEIGHTS), 0.1),
        lambda y: losses.adjusted_cross_entropy(y, ints(0, 1, 0, 1, 1), None, GONE, 0.2),
        lambda y: losses.focal(y, LABELS, 2.0, WEIGHTS),
        lambda y: losses.focal(y, LABELS, 0.5),
        lambda y: losses.squared_error(y, ONES),
        lambda y: losses.huber(y, ONES, 0.7),
        lambda y: losses.pinball(y, ONES, 0.9),
    ],
    ids=["weighted", "adjusted", "restricted", "focal", "focal-half", "squared", "huber", "pinball"],
)
def test_gradient_is_the_slope(loss: Callable[[np.ndarray], tuple[float, np.ndarray]]) -> None:
    y = normal(5, 3).astype(np.float64)
    grad = loss(y.copy())[1]
    for i in range(y.size):
        up, down = y.copy(), y.copy()
        up.flat[i] += 1e-6
        down.flat[i] -= 1e-6
        assert grad.flat[i] == pytest.approx((loss(up)[0] - loss(down)[0]) / 2e-6, abs=1e-8)


def test_losses_against_written_out_formulas() -> None:
    y: Floats = np.array([[0.0], [2.0], [-3.0]])
    t: Floats = np.zeros((3, 1))
    assert losses.huber(y, t, 1.0)[0] == pytest.approx((0 + 1.5 + 2.5) / 3)
    assert losses.pinball(y, t, 0.9)[0] == pytest.approx((0 + 0.1 * 2 + 0.9 * 3) / 3)
    logits = np.log(np.array([[0.9, 0.1], [0.5, 0.5]]))
    expected = -(0.1**2 * np.log(0.9) + 0.5**2 * np.log(0.5)) / 2
    assert losses.focal(logits, ints(0, 1), 2.0)[0] == pytest.approx(expected)
    smooth = -(0.95 * np.log(0.9) + 0.05 * np.log(0.1) + np.log(0.5)) / 2
    assert losses.adjusted_cross_entropy(logits, ints(0, 1), smoothing=0.1)[0] == pytest.approx(smooth)
    logits = normal(5, 3)
    plain = losses.CrossEntropy(np.diag(WEIGHTS).astype(np.float32), weighted=True)(logits.copy(), LABELS)[0]
    assert losses.focal(logits, LABELS, 0.0, WEIGHTS)[0] == pytest.approx(plain, rel=1e-6)
    assert losses.adjusted_cross_entropy(logits, LABELS, WEIGHTS)[0] == pytest.approx(plain, rel=1e-6)


def test_class_weights_even_out_the_classes() -> None:
    counts = ints(900, 100, 0)
    balanced, sqrt = (objective.class_weights(counts, how) for how in ("balanced", "sqrt"))
    assert balanced is not None and sqrt is not None
    assert balanced[0] * 900 == pytest.approx(balanced[1] * 100) and (sqrt[1] / sqrt[0]) == pytest.approx(3)
    assert (balanced @ counts) == pytest.approx(1000) and balanced[2] == 0
    assert objective.class_weights(counts, "none") is objective.class_weights(ints(5, 0, 0), "sqrt") is None


def test_label_skew_spares_the_classes_a_site_does_not_have() -> None:
    counts, y = ints(40, 20, 0), normal(60, 3)
    labels = np.repeat(ints(0, 1), [40, 20])
    restricted = objective.build(card_of("restrict"), counts)
    adjusted, plain = objective.build(card_of("adjust"), counts), objective.build(card_of("none"), counts)
    pulls = [float(np.abs(loss(y.copy(), labels)[1][:, 2]).sum()) for loss in (restricted, adjusted, plain)]
    assert pulls[0] == 0 < pulls[1] < 0.1 * pulls[2]
    alone = ints(9, 0, 0)
    assert objective.skew_offset(alone, "restrict") is None  # a softmax over one class would teach nothing
    taught = objective.build(card_of("adjust"), alone)(normal(9, 3), ints(*[0] * 9))[1]
    assert (taught[:, 0] < 0).all()


def card_of(skew: str) -> Card:
    how = Objective(label_skew=skew, class_weights="none")  # type: ignore[arg-type]
    return Card("classify", CHANNEL, WINDOW, ("mean",), ("a", "b", "c"), objective=how)


def test_targets_are_scaled_for_the_graph_and_back_for_the_user() -> None:
    card = regress(Target("life", "cycles", low=0, high=125), Target("wear", "um", centre=10, scale=2))
    y = np.array([[0, 10], [125, 14], [300, 6]])
    inner = objective.scaled(card, y, (2,))
    assert inner.tolist() == [[-1, 0], [1, 2], [1, -2]]
    assert objective.unscaled(card, inner).tolist() == [[0, 10], [125, 14], [125, 6]]


@pytest.mark.parametrize("loss", ["squared", "huber", "pinball"])
def test_regression_learns_in_the_users_unit(loss: str) -> None:
    card = regress(Target("life", "cycles", low=0, high=125), objective=Objective(loss=loss))  # type: ignore[arg-type]
    graph = TrainableGraph.load(zoo.mlp(card, 3, (16,)).SerializeToString())
    x = normal(400, 3)
    y = 60 + 30 * np.tanh(x[:, 0])
    y[7] = np.nan
    before = evaluate(graph, x[50:], y[50:])["rmse"]
    report = fit(graph, x, y, TrainingConfig(epochs=20, learning_rate=0.01), np.random.default_rng(0))
    after = evaluate(graph, x[50:], y[50:])
    assert report.dropped == 1 and after["rmse"] < 6 < 20 < before and after["mae"] <= after["rmse"]


def test_several_targets_are_evaluated_one_by_one() -> None:
    card = regress(Target("hot", "K", centre=300, scale=10), Target("wear", "um", centre=5, scale=1))
    graph = TrainableGraph.load(zoo.mlp(card, 3, (16,)).SerializeToString())
    x = normal(300, 3)
    y = np.stack([300 + 10 * x[:, 0], 5 + x[:, 1]], axis=1)
    fit(graph, x, y, TrainingConfig(epochs=20, learning_rate=0.01), np.random.default_rng(0))
    figures = evaluate(graph, x, y)
    assert figures["rmse_hot"] < 3 and figures["rmse_wear"] < 0.3


def test_focal_loss_finds_the_rare_class() -> None:
    card = Card("classify", CHANNEL, WINDOW, ("mean",), ("ok", "bad"), objective=Objective(loss="focal"))
    graph = TrainableGraph.load(zoo.mlp(card, 3, (16,)).SerializeToString())
    x = normal(1000, 3)
    y = (x[:, 0] > 1.9).astype(np.int64)
    fit(graph, x, y, TrainingConfig(epochs=20, learning_rate=0.01), np.random.default_rng(0))
    assert 0.01 < y.mean() < 0.05 and evaluate(graph, x, y)["average_precision"] > 0.9


def test_average_precision_against_a_worked_example() -> None:
    positive = np.array([True, False, True, False])
    assert average_precision(np.array([4.0, 3, 2, 1]), positive) == pytest.approx((1 + 2 / 3) / 2)
    assert average_precision(np.ones(4), positive) == pytest.approx(0.5)  # one threshold for all


# --- the card -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("card", "message"),
    [
        (regress(objective=Objective(loss="focal")), r"objective.loss is 'focal'.*task regress.*'huber'"),
        (regress(Target("t", low=5, high=5)), "target 't': low is 5, expected less than high"),
        (regress(Target("t"), Target("t")), "targets repeat a name"),
        (regress(Target("t", high=float("inf"))), "target 't': has a value that is not finite"),
        (Card("anomaly", CHANNEL, WINDOW, targets=(Target("t"),)), "targets are for task regress"),
        (Card("anomaly", (Channel("a", centre=1.0),), WINDOW), r"channels \['a'\] have only one of centre and scale"),
        (Card("anomaly", (Channel("a", condition=1.0),), WINDOW, ("mean",)), "needs the raw window"),
    ],
)
def test_card_that_cannot_be_meant_names_its_field(card: Card, message: str) -> None:
    with pytest.raises(ModelError, match=message):
        zoo.mlp(card, 1)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('"objective":{"quantile":1.5}', r"objective\.quantile"),
        ('"objective":{"loss":"mse"}', r"objective\.loss"),
        ('"channels":[{"name":"a","scale":0.0,"centre":0.0}]', r"channels\[0\]\.scale"),
    ],
)
def test_card_field_out_of_its_range_is_named(text: str, message: str) -> None:
    base = '"task":"regress","window":{"rate_hz":1,"length":4,"hop":1}'
    rest = "" if "channels" in text else ',"channels":[{"name":"a"}]'
    with pytest.raises(ModelError, match=message):
        decode_card("{" + base + rest + "," + text + "}")


# --- what stays local, what is taken back ----------------------------------------------------------------------------


def graph_with(local: str) -> TrainableGraph:
    card = Card("classify", CHANNEL, WINDOW, ("mean",), ("a", "b"), local=local)
    return TrainableGraph.load(zoo.mlp(card, 3, (4,)).SerializeToString())


def test_local_tensors_are_chosen_by_name() -> None:
    graph = graph_with("dense1.*")
    mask = personal.local_mask(graph)
    own = [t for t in graph.layout if mask[t.start]]
    assert [t.name for t in own] == ["dense1.weight", "dense1.bias"] and mask.sum() == 4 * 2 + 2
    shared = np.zeros(mask.size, np.float32)
    made = personal.compose(shared, np.ones(int(mask.sum()), np.float32), mask)
    assert (made == mask).all() and (personal.extract(made, mask) == 1).all()
    assert personal.compose(shared, None, mask) is shared
    assert not personal.local_mask(graph_with("")).any()


@pytest.mark.parametrize(
    ("local", "words"),
    [
        (
            "dnese1.*",
            "lists 'dnese1.*', which matches no tensor of the file, .* would be sent .*; did you mean 'dense1",
        ),
        ("dense0.*,dnese1.*", "lists 'dnese1.*', which matches no tensor"),
        ("Dense1.*", "lists 'Dense1.*', which matches no tensor"),
        ("*", "matches every trainable tensor; they are: dense0.weight"),
        (" , ", "matches no trainable tensor; they are: dense0.weight"),
    ],
)
def test_local_of_which_a_pattern_matches_nothing_or_all_is_refused(local: str, words: str) -> None:
    with pytest.raises(ModelError, match=f"card: local .*{words}"):
        personal.local_mask(graph_with(local))


def test_local_may_name_what_is_frozen_beside_what_is_trained() -> None:
    card = Card("classify", CHANNEL, WINDOW, ("mean",), ("a", "b"), local="dense0.*,dense1.bias", trainable="dense1.*")
    graph = TrainableGraph.load(zoo.mlp(card, 3, (4,)).SerializeToString())
    assert personal.local_tensors(graph) == {"dense1.bias": (2,)}


def test_tensor_without_values_is_no_hindrance() -> None:
    """Some exporters leave one, at the end of the file."""
    card = Card("classify", CHANNEL, WINDOW, ("mean",), ("a", "b"), local="dense1.bias")
    model = zoo.mlp(card, 3, (4,))
    model.graph.initializer.append(onnx.numpy_helper.from_array(np.zeros((0, 2), np.float32), "nothing"))
    last = model.graph.output[0].name
    writer = next(n for n in model.graph.node if last in n.output)
    writer.output[0] = "before"
    model.graph.node.append(N("Concat", ["before", "nothing"], [last], axis=0))
    graph = TrainableGraph.load(model.SerializeToString())
    assert "nothing" not in [t.name for t in graph.layout]  # nothing to train
    assert personal.local_tensors(graph) == {"dense1.bias": (2,)}


def test_corrections_of_all_sites_sum_to_zero_and_spare_what_is_local() -> None:
    rng, none = np.random.default_rng(0), np.zeros(50, np.bool_)
    moves, shares = rng.normal(size=(3, 50)).astype(np.float32), np.array([0.5, 0.3, 0.2])
    before = rng.normal(size=50).astype(np.float32)
    now = before + (shares @ moves).astype(np.float32)
    made = np.stack([drift.correction(m, before, now, 1, 1.0, none) for m in moves])
    np.testing.assert_allclose(shares @ made, 0, atol=1e-5)
    some = np.arange(50) < 10
    assert (drift.correction(moves[0], before, now, 1, 1.0, some)[:10] == 0).all()
    np.testing.assert_allclose(drift.correction(moves[0], before, now, 1, 0.5, none), made[0] / 2, rtol=1e-5)
    np.testing.assert_allclose(
        drift.correction(moves[0], before, before + 3 * (now - before), 3, 1.0, none), made[0], atol=1e-5
    )


@pytest.mark.parametrize("jump", [1e6, 1e30])
def test_a_release_that_jumps_does_not_throw_a_site_off(jump: float) -> None:
    move = np.full(10, 0.1, np.float32)
    made = drift.correction(
        move, np.zeros(10, np.float32), np.full(10, jump, np.float32), 1, 1.0, np.zeros(10, np.bool_)
    )
    assert np.isfinite(made).all() and np.linalg.norm(made) <= 1.001 * drift.LONGEST * np.linalg.norm(move)


def test_drift_is_spread_over_the_training() -> None:
    graph = graph_with("")
    start, back = graph.params.copy(), normal(graph.params.size)
    still = TrainingConfig(epochs=3, learning_rate=0.0, proximal_mu=0.0)
    fit(graph, normal(70, 3), (np.arange(70) % 2).astype(np.int64), still, np.random.default_rng(0), drift=back)
    np.testing.assert_allclose(graph.params, start + back, atol=1e-4)


# --- extremes ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", [-0.2, 0.0, 0.3])
def test_tail_fit_finds_the_parameters_it_was_drawn_from(shape: float) -> None:
    u = np.random.default_rng(3).uniform(size=20_000)
    peaks = 2 * (-np.log(u) if shape == 0 else (u**-shape - 1) / shape)
    found, scale = extremes.fit(peaks)
    assert found == pytest.approx(shape, abs=0.03) and scale == pytest.approx(2, rel=0.04)


def test_quantile_beyond_the_data_is_near_the_true_one() -> None:
    rng = np.random.default_rng(5)
    errors: dict[str, list[float]] = {"peaks": [], "counted": []}
    for _ in range(30):
        scores = rng.exponential(size=1000)
        truth = -np.log(1e-4)
        errors["peaks"].append(extremes.quantile(scores, 0.9999) - truth)
        errors["counted"].append(float(np.quantile(scores, 0.9999)) - truth)
    assert abs(np.mean(errors["peaks"])) < 0.6 < 1 < abs(np.mean(errors["counted"]))
    few = rng.exponential(size=50)
    assert extremes.quantile(few, 0.99) == np.quantile(few, 0.99)
