# SPDX-License-Identifier: Apache-2.0
"""Optimisers, schedules and the losses of the hot loop, against their definitions."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import onnx
import pytest
from fedge_models.graph import zoo
from fedge_models.training import losses, optimizers
from fedge_models.training.config import TrainingConfig
from fedge_models.training.evaluation import evaluate, predict
from fedge_models.training.loop import fit
from fedge_models.training.schedules import SCHEDULES, factor
from fedge_models.training.update import Update
from support.counterparts import counterpart
from support.graphs import RAW, N, check_gradient, ints, load, normal, run_ort


def descend(name: str, gradients: list[np.ndarray], rates: list[float]) -> np.ndarray:
    """Parameters after these gradients, from ones."""
    params = np.ones(gradients[0].size, np.float32)
    optimizer = optimizers.OPTIMIZERS[name](params.size, 0.8, 0.1)
    for grad, rate in zip(gradients, rates, strict=True):
        optimizer.step(params, grad.copy(), rate)
    return params


GRADIENTS, RATES = [normal(7) for _ in range(5)], [0.1, 0.2, 0.1, 0.05, 0.01]


def test_sgd_equals_its_definition() -> None:
    p, v = np.ones(7), np.zeros(7)
    for g, r in zip(GRADIENTS, RATES, strict=True):
        v = 0.8 * v - r * g
        p = p + v
    np.testing.assert_allclose(descend("sgd", GRADIENTS, RATES), p, rtol=1e-5)


@pytest.mark.parametrize(("name", "decay"), [("adam", 0.0), ("adamw", 0.1)])
def test_adam_equals_algorithm_1_and_adamw_algorithm_2(name: str, decay: float) -> None:
    p, m, v = np.ones(7), np.zeros(7), np.zeros(7)
    for t, (g, r) in enumerate(zip(GRADIENTS, RATES, strict=True), 1):
        m, v = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g.astype(np.float64) ** 2
        p = p - r * decay * p - r * (m / (1 - 0.9**t)) / (np.sqrt(v / (1 - 0.999**t)) + 1e-8)
    np.testing.assert_allclose(descend(name, GRADIENTS, RATES), p, rtol=1e-5)


@pytest.mark.parametrize("name", ["sgd", "adam", "adamw"])
def test_optimizers_equal_pytorch(name: str) -> None:
    torch = counterpart("torch")
    tensor = torch.ones(7, requires_grad=True)
    kind = {"sgd": torch.optim.SGD, "adam": torch.optim.Adam, "adamw": torch.optim.AdamW}[name]
    extra = {"sgd": {"momentum": 0.8}, "adam": {}, "adamw": {"weight_decay": 0.1}}[name]
    step = kind([tensor], lr=0.05, **extra)
    for g in GRADIENTS:
        tensor.grad = torch.from_numpy(g.copy())
        step.step()
    np.testing.assert_allclose(descend(name, GRADIENTS, [0.05] * 5), tensor.detach().numpy(), rtol=1e-5)


def test_clipping_bounds_the_norm_of_the_whole_gradient() -> None:
    grad = np.array([3, 4], np.float32)
    optimizers.clip(grad, 10.0)
    assert grad.tolist() == [3, 4]
    optimizers.clip(grad, 1.0)
    np.testing.assert_allclose(grad, [0.6, 0.8], rtol=1e-6)


def test_schedules_worked_out() -> None:
    assert [factor("constant", i, 8, 0.5) for i in range(8)] == [0.25, 0.5, 0.75, 1, 1, 1, 1, 1]
    assert [factor("linear", i, 4, 0.0) for i in range(4)] == [1, 0.75, 0.5, 0.25]
    assert factor("cosine", 4, 8, 0.0) == pytest.approx(0.5)
    assert factor("cosine", 7, 12, 1 / 6) == pytest.approx((1 + math.cos(math.pi / 2)) / 2)


@pytest.mark.parametrize("name", SCHEDULES)
@pytest.mark.parametrize("warmup", [0.0, 0.1, 0.5, 1.0])
def test_every_schedule_stays_above_0_and_rises_only_at_first(name: str, warmup: float) -> None:
    for steps in (1, 2, 3, 10, 101):
        factors = [factor(name, i, steps, warmup) for i in range(steps)]
        top = factors.index(max(factors))
        assert 0 < min(factors) <= max(factors) <= 1 and factors[top:] == sorted(factors[top:], reverse=True)
        assert factors[: top + 1] == sorted(factors[: top + 1]) and top <= warmup * steps


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"optimizer": "adm"}, "optimizer 'adm': expected one of sgd, adam, adamw"),
        ({"schedule": "step"}, "schedule 'step': expected one of constant, cosine, linear"),
        ({"learning_rate": float("nan")}, "learning_rate nan"),
        ({"warmup": 1.5}, r"warmup 1.5: expected 0 to 1"),
        ({"batch": 0}, "batch 0"),
    ],
)
def test_nonsense_is_refused_by_name(change: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        TrainingConfig(**change)  # type: ignore[arg-type]


def test_schedule_and_momentum_reach_the_loop() -> None:
    x, y = normal(64, 10), np.arange(64) % 3
    ends = []
    changes: tuple[dict[str, Any], ...] = ({}, {"schedule": "cosine"}, {"warmup": 0.5}, {"momentum": 0.0})
    for change in changes:
        graph = load(zoo.mlp(RAW, 10))
        fit(graph, x, y, TrainingConfig(optimizer="sgd", learning_rate=0.1, **change), np.random.default_rng(0))
        ends.append(graph.params.copy())
    assert all(np.abs(end - ends[0]).max() > 1e-3 for end in ends[1:])


# --- losses -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("scale", [1, 30, 1e4])
@pytest.mark.parametrize("offset", [0, -95, 500])
@pytest.mark.parametrize("weights", [None, np.array([1, 2, 0.5], np.float32)], ids=["even", "weighted"])
def test_kept_cross_entropy_equals_the_plain_one(scale: float, offset: float, weights: np.ndarray | None) -> None:
    table = np.eye(3, dtype=np.float32) if weights is None else np.diag(weights)
    loss = losses.CrossEntropy(table, weights is not None)
    for rows in (5, 2, 5, 9):
        logits, labels = (normal(rows, 3) * scale + offset).astype(np.float32), np.arange(rows) % 3
        with np.errstate(all="ignore"):  # as in the loop
            got, grad = loss(logits.copy(), labels)
        expected, other = losses.adjusted_cross_entropy(logits, labels, weights)
        assert got == pytest.approx(expected, rel=1e-4, abs=1e-5)
        np.testing.assert_allclose(grad, other, atol=1e-6)


def test_cross_entropy_towards_smoothed_labels() -> None:
    logits, labels = normal(6, 3), ints(0, 1, 2, 0, 1, 2)
    table = (0.9 * np.eye(3) + 0.1 / 3).astype(np.float32)
    p = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    loss, grad = losses.CrossEntropy(table)(logits, labels)
    assert loss == pytest.approx(-float((table[labels] * np.log(p)).sum(axis=1).mean()), rel=1e-5)
    np.testing.assert_allclose(grad, (p - table[labels]) / 6, atol=1e-6)


def test_loss_of_what_is_no_number_is_none() -> None:
    logits = normal(4, 3)
    logits[2, 1] = np.nan
    with np.errstate(all="ignore"):
        assert math.isnan(losses.CrossEntropy(np.eye(3, dtype=np.float32))(logits, ints(0, 1, 2, 0))[0])


def behind_softmax(op_type: str = "Softmax") -> onnx.ModelProto:
    model = zoo.mlp(RAW, 10)
    model.graph.node[-1].output[0] = "logits"
    model.graph.node.append(N(op_type, ["logits"], ["y"], axis=1))
    return model


def test_model_that_ends_in_softmax_trains_as_without_it_and_still_gives_probabilities() -> None:
    plain, soft = load(zoo.mlp(RAW, 10)), load(behind_softmax())
    assert soft.gives_probabilities and not plain.gives_probabilities
    x, y = normal(64, 10), np.arange(64) % 3
    for graph in (plain, soft):
        fit(graph, x, y, TrainingConfig(epochs=2), np.random.default_rng(0))
    np.testing.assert_array_equal(soft.params, plain.params)
    assert evaluate(soft, x, y) == evaluate(plain, x, y)
    np.testing.assert_allclose(predict(soft, x).sum(axis=1), 1, rtol=1e-5)
    np.testing.assert_allclose(predict(soft, x, logits=True), predict(plain, x))


def test_softmax_elsewhere_stays() -> None:
    model = behind_softmax()
    model.graph.node.append(N("Mul", ["y", "y"], ["z"]))
    model.graph.output[0].name = "z"
    assert not load(model).gives_probabilities
    check_gradient(model, normal(5, 10))
    logs, x = behind_softmax("LogSoftmax"), normal(5, 10)
    graph = load(logs)
    np.testing.assert_allclose(graph.logits(x), run_ort(logs.SerializeToString(), x), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", optimizers.OPTIMIZERS)
def test_updates_by_blocks_are_those_of_the_whole(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    config = TrainingConfig(optimizer=name, weight_decay=0.01, proximal_mu=0.5, clip_norm=1.0)
    start, found = normal(1000), []
    for block in (1000, 300):
        monkeypatch.setattr(optimizers, "BLOCK", block)
        params, grad = start.copy(), np.empty_like(start)
        update = Update(params, grad, start, config, 3, statistics=np.arange(1000) % 7 == 0)
        for step in range(3):
            grad[...] = np.cos(np.arange(1000) + step)
            update()
        found.append(params)
    np.testing.assert_array_equal(*found)
    np.testing.assert_array_equal(found[0][::7], start[::7])
    assert (found[0][1::7] != start[1::7]).all()
