# SPDX-License-Identifier: Apache-2.0
"""Labels of which several may hold: their loss, what training needs of them, and the figures of an evaluation."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from fedge_models import Model, TrainingConfig
from fedge_models.errors import ModelError
from fedge_models.graph import zoo
from fedge_models.graph.card import Card, Channel, Objective, WindowSpec, decode_card, encode_card
from fedge_models.training import losses, objective
from fedge_models.training.evaluation import evaluate
from fedge_models.training.scores import sigmoids
from numpy.typing import NDArray

Floats = NDArray[Any]
CHANNELS = (Channel("current"), Channel("pressure"), Channel("vibration"))
LABELS = ("worn", "leak", "loose")


def card(**fields: Any) -> Card:
    return Card("multilabel", CHANNELS, WindowSpec(1, 1, 1), **{"labels": LABELS, **fields})


def site(rows: int = 600, seed: int = 0) -> tuple[Floats, Floats]:
    """Each fault raises a channel of its own; any of them may come together."""
    rng = np.random.default_rng(seed)
    y = (rng.random((rows, 3)) < (0.5, 0.3, 0.1)).astype(np.float32)
    return (3 * y + rng.normal(0, 0.7, (rows, 3))).astype(np.float32), y


def test_loss_is_the_mean_cross_entropy_of_each_sigmoid() -> None:
    z: Floats = np.array([[0.0, 2.0, -3.0], [1.0, -1.0, 0.5]])
    t: Floats = np.array([[1.0, 0.0, 0.0], [1.0, 1.0, 0.0]])
    p = 1 / (1 + np.exp(-z))
    expected = -(t * np.log(p) + (1 - t) * np.log(1 - p))
    assert losses.BinaryCrossEntropy(None)(z, t)[0] == pytest.approx(expected.mean())
    np.testing.assert_allclose(losses.binary_cross_entropies(z, t), expected.mean(axis=1), rtol=1e-6)
    weights: Floats = np.array([[0.5, 1.0, 2.0], [3.0, 1.0, 4.0]])
    weighted = expected * np.where(t > 0, weights[1], weights[0])
    assert losses.BinaryCrossEntropy(weights)(z, t)[0] == pytest.approx(weighted.mean())
    np.testing.assert_allclose(sigmoids(z), p, rtol=1e-12)


@pytest.mark.parametrize("smoothing", [0.0, 0.2])
@pytest.mark.parametrize("weighted", [False, True])
def test_gradient_is_the_slope(smoothing: float, weighted: bool) -> None:
    rng = np.random.default_rng(3)
    z: Floats = rng.normal(0, 4, (5, 3))
    t: Floats = (rng.random((5, 3)) < 0.5).astype(np.float64)
    weights: Floats = rng.random((2, 3)) + 0.5
    loss = losses.BinaryCrossEntropy(weights if weighted else None, smoothing)
    grad = loss(z, t)[1].copy()
    for i in range(z.size):
        up, down = z.copy(), z.copy()
        up.flat[i] += 1e-6
        down.flat[i] -= 1e-6
        assert grad.flat[i] == pytest.approx((loss(up, t)[0] - loss(down, t)[0]) / 2e-6, abs=1e-8)


@pytest.mark.parametrize("labels", [np.int64, np.float32, np.bool_])
def test_no_logit_overflows_and_labels_may_be_of_any_type(labels: Any) -> None:
    z = np.array([[1e4, -1e4, 0]], np.float32)
    value, grad = losses.BinaryCrossEntropy(None)(z, np.array([[0, 0, 1]], labels))
    assert value == pytest.approx((1e4 + 0 + np.log(2)) / 3, rel=1e-6)
    np.testing.assert_allclose(grad, np.array([[1, 0, -0.5]]) / 3, atol=1e-7)


def test_batches_of_several_sizes_share_no_memory_wrongly() -> None:
    loss, (x, y) = losses.BinaryCrossEntropy(None), site(8)
    small = loss(x[:3], y[:3])[1].copy()
    loss(x, y)
    np.testing.assert_array_equal(loss(x[:3], y[:3])[1], small)


def test_a_rare_label_weighs_as_much_as_a_common_one() -> None:
    y: Floats = np.zeros((1000, 3))
    y[:100, 0], y[:500, 1] = 1, 1  # the third never holds
    counts = objective.count(card(), y)
    assert counts is not None and counts.tolist() == [[900, 500, 1000], [100, 500, 0]]
    weights = objective.label_weights(counts, "balanced")
    assert weights is not None
    assert weights[1, 0] * 100 == pytest.approx(weights[0, 0] * 900)
    np.testing.assert_allclose(weights[:, 1], 1)
    np.testing.assert_allclose(weights[:, 2], 1)
    np.testing.assert_allclose((weights * counts).sum(axis=0), 1000, rtol=1e-6)
    assert objective.label_weights(counts, "none") is None


def test_labels_are_learnt_each_by_itself() -> None:
    model, (x, y) = Model(zoo.mlp(card(), [3, 1], (16,)).SerializeToString()), site()
    y[::10] = np.nan  # nobody knows
    before, report = model.evaluate(x, y), model.train(x, y, TrainingConfig(epochs=20))
    after = model.evaluate(x, y)
    assert report.rows == 540 and not report.diverged
    assert after["loss"] < 0.3 * before["loss"] and after["macro_f1"] > 0.9
    p = model.predict(x)
    assert p.shape == (600, 3) and (p > 0.5).all(axis=1).any() and (p < 0.5).all(axis=1).any()
    np.testing.assert_allclose(model.score(x), (p / 0.5).max(axis=1), rtol=1e-5)


def test_figures_of_an_evaluation_are_those_of_each_label_and_their_means() -> None:
    import onnx

    model = zoo.mlp(card(label_limits={"leak": 0.9}), [3, 1], ())
    graph = Model(model.SerializeToString()).graph
    graph.set_params(np.concatenate([np.eye(3).ravel(), np.zeros(3)]).astype(np.float32))  # the input is the logits
    assert onnx.checker.check_model(model) is None
    x: Floats = np.array([[2, 1, -1], [1, 3, -2], [-1, -1, -3], [-2, 2, -4]], np.float32)[..., None]
    y: Floats = np.array([[1, 0, 0], [0, 1, 0], [1, 0, 0], [0, 0, 0]], np.float32)
    found = evaluate(graph, x, y)
    # worn: said of the first two, true of the first and the third; leak: above 0.9 in the second only; loose: never
    assert found["f1_worn"] == pytest.approx(0.5) and found["f1_leak"] == 1 and "f1_loose" not in found
    assert found["macro_f1"] == pytest.approx(0.75) and found["accuracy"] == pytest.approx(2 / 4)
    assert found["ap_worn"] == pytest.approx((1 + 2 / 3) / 2) and found["ap_leak"] == 1 and "ap_loose" not in found
    assert found["auroc_worn"] == pytest.approx(3 / 4) and found["auroc"] == pytest.approx((3 / 4 + 1) / 2)
    assert found["average_precision"] == pytest.approx((5 / 6 + 1) / 2)
    assert list(found)[:5] == ["loss", "accuracy", "macro_f1", "average_precision", "auroc"]


def test_figures_without_any_label_that_holds_are_finite() -> None:
    found = evaluate(
        Model(zoo.mlp(card(), [3, 1], ()).SerializeToString()).graph,
        np.zeros((4, 3, 1), np.float32),
        np.zeros((4, 3), np.float32),
    )
    assert set(found) == {"loss", "accuracy"} and np.isfinite(list(found.values())).all()


@pytest.mark.parametrize(
    ("y", "words"),
    [
        (np.zeros(10), r"y is \(10,\), expected 0 or 1 for each of the 3 labels"),
        (np.zeros((10, 2)), r"y is \(10, 2\)"),
        (np.full((10, 3), 2), "value 2, expected 0 or 1"),
        (np.full((10, 3), -1), "value -1, expected 0 or 1 for each label, NaN where unknown"),
    ],
)
def test_other_labels_are_refused(y: Floats, words: str) -> None:
    model = Model(zoo.mlp(card(), [3, 1], ()).SerializeToString())
    for use in (model.train, model.evaluate):
        with pytest.raises(ValueError, match=words):
            use(np.zeros((10, 3)), y)


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        ({"labels": ("worn",)}, "needs two labels or more, got .*; of one, use classify"),
        ({"labels": ("worn", "worn")}, "labels repeat a name"),
        ({"labels": ("worn", "leak;loose")}, "expected names without ';'"),
        ({"labels": ("normal", "worn")}, "and not 'normal', which says that none holds"),
        ({"normal": "worn"}, "'normal' says that no label holds; remove it"),
        ({"label_limits": {"lek": 0.5}}, r"label_limits \['lek'\]: not among the labels"),
        ({"label_limits": {"leak": 1.5}}, "label_limits"),
        ({"objective": Objective(label_skew="adjust")}, "label_skew is 'adjust', which is for task classify"),
        ({"objective": Objective(loss="focal")}, "focal.*does not fit task multilabel; .*binary_cross_entropy"),
        ({"task": "classify", "label_limits": {"leak": 0.5}}, "label_limits are for task multilabel"),
        ({"task": "classify", "labels": ("worn", "worn")}, "repeat a name: .*each output needs a label of its own"),
    ],
)
def test_cards_that_contradict_themselves_are_refused(fields: dict[str, Any], words: str) -> None:
    text = encode_card(Card(**{"task": "multilabel", "channels": CHANNELS, "window": WindowSpec(1, 1, 1),
                               "labels": LABELS, **fields}))  # fmt: skip
    with pytest.raises(ModelError, match=words):
        decode_card(text)
