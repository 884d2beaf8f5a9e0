# SPDX-License-Identifier: Apache-2.0
"""A chain of dense layers is trained by a way of its own, to what the general way gives."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import msgspec
import numpy as np
import onnx
import pytest
from fedge_models.graph import dense_chain, zoo
from fedge_models.graph.card import Card, Channel, Objective, WindowSpec
from fedge_models.graph.trainable import TrainableGraph
from fedge_models.training import dense_activations, losses, row_losses
from fedge_models.training.config import TrainingConfig
from fedge_models.training.dense_plan import DensePlan
from fedge_models.training.dense_weights import DenseWeights
from fedge_models.training.loop import FitReport, fit
from support.graphs import PLAIN, RAW, N, normal, numeric, small

ANOMALY = Card("anomaly", RAW.channels, WindowSpec(10, 24, 8))
FEATURES = Card("anomaly", (Channel("a"),), WindowSpec(10, 24, 8), ("mean",))


def exported(width: int, *activations: str) -> onnx.ModelProto:
    """As PyTorch writes it: weights (out, in) in an order of their own, the last layer without bias, and a Softmax."""
    tensors: dict[str, np.ndarray] = {}
    nodes: list[Any] = []
    last = "x"
    for i, op_type in enumerate(activations):
        nodes += [N("Gemm", [last, f"w{i}", f"b{i}"], [f"g{i}"], transB=1), N(op_type, [f"g{i}"], [f"a{i}"])]
        tensors = {f"b{i}": normal(width), **tensors, f"w{i}": normal(width, width) / 3}
        last = f"a{i}"
    nodes += [N("MatMul", [last, "head"], ["logits"]), N("Softmax", ["logits"], ["y"], axis=1)]
    return small(nodes, {**tensors, "head": normal(width, 3) / 3}, (width,), (3,))


def raw_classifier(**changes: Any) -> onnx.ModelProto:
    return zoo.mlp(msgspec.structs.replace(RAW, **changes), (2, 24), (9, 5))


MODELS: dict[str, Callable[[], onnx.ModelProto]] = {
    "features": lambda: zoo.mlp(RAW, 10),
    "raw windows": raw_classifier,
    "one layer": lambda: zoo.mlp(RAW, 10, ()),
    "exported": lambda: exported(10, "Relu", "Tanh", "Sigmoid"),
    "class weights": lambda: raw_classifier(objective=Objective(class_weights="balanced")),
    "smoothed": lambda: raw_classifier(objective=Objective(label_smoothing=0.1)),
    "focal": lambda: raw_classifier(objective=Objective("focal")),
    "label skew": lambda: raw_classifier(objective=Objective(label_skew="adjust")),
    "regression": lambda: zoo.mlp(PLAIN, 10),
    "huber": lambda: zoo.mlp(msgspec.structs.replace(PLAIN, objective=Objective("huber")), 10),
    "autoencoder": lambda: zoo.autoencoder(FEATURES, 10, (6, 3)),
    "autoencoder of raw windows": lambda: zoo.autoencoder(ANOMALY, (2, 24), (6, 3)),
}
CONFIGS: dict[str, dict[str, Any]] = {
    "sgd": {"optimizer": "sgd", "learning_rate": 0.05},
    "adam": {"learning_rate": 0.01},
    "adamw": {"optimizer": "adamw", "learning_rate": 0.01},
    "proximal": {"optimizer": "sgd", "learning_rate": 0.05, "proximal_mu": 0.5},
    "clipped": {"optimizer": "sgd", "learning_rate": 0.5, "clip_norm": 0.1},
    "cosine": {"optimizer": "sgd", "learning_rate": 0.05, "schedule": "cosine", "warmup": 0.3},
    "small batches": {"batch": 7},
    "batch of one": {"batch": 1, "epochs": 1},
    "batch above all": {"batch": 500},
}


def rows_for(graph: TrainableGraph, count: int) -> tuple[np.ndarray, np.ndarray | None]:
    x, rng = normal(count, *graph.input_shape), np.random.default_rng(3)
    task = graph.card.task
    labels = rng.choice(3, count, p=(0.6, 0.3, 0.1))
    return x, None if task == "anomaly" else labels if task == "classify" else rng.normal(size=count)


def both(data: bytes, config: TrainingConfig, count: int = 70, **given: Any) -> list[tuple[TrainableGraph, FitReport]]:
    """Train the same model as a chain and as any graph."""
    found: list[tuple[TrainableGraph, FitReport]] = []
    x, y = rows_for(TrainableGraph.load(data), count)
    for chained in (True, False):
        graph = TrainableGraph.load(data)
        assert graph.chain
        graph.chain = graph.chain if chained else ()
        found.append((graph, fit(graph, x, y, config, np.random.default_rng(1), **given)))
    return found


@pytest.mark.parametrize(
    ("model", "config"),
    [*((name, "adam") for name in MODELS), *((name, "sgd") for name in MODELS), *(("exported", n) for n in CONFIGS)],
)
def test_chain_is_trained_as_any_graph_is(model: str, config: str) -> None:
    data = MODELS[model]().SerializeToString()
    (chain, report), (graph, other) = both(data, TrainingConfig(**{"epochs": 3, **CONFIGS[config]}))
    moved = np.abs(graph.params - TrainableGraph.load(data).params).max()
    assert moved > 1e-3
    np.testing.assert_allclose(chain.params, graph.params, atol=2e-3 * moved)
    np.testing.assert_allclose(report.losses, other.losses, rtol=1e-4)
    assert (report.rows, report.dropped, report.diverged) == (other.rows, other.dropped, other.diverged)


def test_drift_is_added_in_the_order_of_the_graph() -> None:
    data = MODELS["exported"]().SerializeToString()
    drift = np.arange(TrainableGraph.load(data).params.size, dtype=np.float32) * 1e-3
    (chain, _), (graph, _) = both(data, TrainingConfig(optimizer="sgd", learning_rate=1e-6, epochs=2), drift=drift)
    np.testing.assert_allclose(chain.params, graph.params, atol=1e-5)
    np.testing.assert_allclose(chain.params - TrainableGraph.load(data).params, drift, atol=1e-3)


def test_rows_shuffled_in_several_runs_make_one_epoch(monkeypatch: pytest.MonkeyPatch) -> None:
    data = MODELS["exported"]().SerializeToString()
    monkeypatch.setattr("fedge_models.training.loop.SHUFFLED_BYTES", 3 * 8 * 10 * 4)  # three batches
    (chain, report), (graph, other) = both(data, TrainingConfig(batch=8, epochs=2))
    np.testing.assert_allclose(chain.params, graph.params, atol=1e-5)
    np.testing.assert_allclose(report.losses, other.losses, rtol=1e-5)


@pytest.mark.parametrize("name", ["features", "one layer", "exported"])
def test_gradient_of_a_plan_equals_central_differences(name: str) -> None:
    graph = TrainableGraph.load(MODELS[name]().SerializeToString(), dtype=np.float64)
    graph.params += 0.05 * np.random.default_rng(0).normal(size=graph.params.size)
    weights = DenseWeights(graph.chain, graph.params, graph.grad)
    plan, rng = DensePlan(weights, 5), np.random.default_rng(2)
    x: Any = rng.normal(size=(5, 10))  # steps are typed for float32, and work in any precision
    slope, ones = rng.normal(size=(5, 3)), np.ones((5, 1))
    rows: Any = np.hstack([x, ones])[:, : len(weights.matrices[0])]
    out: Any = np.empty((5, 3))
    plan.forward(rows, out)
    np.testing.assert_allclose(out, graph.logits(x), atol=1e-12)
    plan.slope[...] = slope
    plan.backward(rows)
    grad = weights.grad.copy()
    run, back = graph.forward, np.empty_like(grad)
    graph.forward = graph.logits  # type: ignore[method-assign]  # the plan ends there
    for mine, theirs in weights._pairs(grad, back):
        theirs[...] = mine
    for i in np.random.default_rng(1).permutation(grad.size)[:60]:
        assert back[i] == pytest.approx(numeric(graph, x, slope, i), abs=1e-6)
    graph.forward = run  # type: ignore[method-assign]


def test_every_activation_of_a_chain_has_its_calls() -> None:
    assert {*dense_activations.ACTIVATIONS} == {"", *dense_chain.ACTIVATIONS}


@pytest.mark.parametrize("scale", [1, 30, 1e4])
@pytest.mark.parametrize("offset", [0, -95, 500])
@pytest.mark.parametrize("weighted", [False, True])
def test_cross_entropy_of_rows_equals_that_of_batches(scale: float, offset: float, weighted: bool) -> None:
    table = np.diag([1, 2, 0.5]).astype(np.float32) if weighted else np.eye(3, dtype=np.float32)
    plain = losses.CrossEntropy(table, weighted)
    rows = row_losses.of(plain, 0.25, (3,))
    assert isinstance(rows, row_losses.CrossEntropyRows)
    outputs, labels = (normal(11, 3) * scale + offset).astype(np.float32), np.arange(11) % 3
    rows.begin(labels, outputs, 4)
    total, into = 0.0, np.empty((4, 3), np.float32)
    with np.errstate(all="ignore"):  # as in the loop
        for start in range(0, 11, 4):
            stop = min(start + 4, 11)
            rows.slope(start, stop, into[: stop - start])
            loss, slope = plain(outputs[start:stop], labels[start:stop])
            np.testing.assert_allclose(into[: stop - start], slope * 0.25, atol=1e-6)
            total += loss * (stop - start)
    assert rows.total() == pytest.approx(total, rel=1e-4, abs=1e-5)


def test_many_classes_take_the_plain_cross_entropy() -> None:
    loss = losses.CrossEntropy(np.eye(row_losses.FEW + 1, dtype=np.float32))
    assert isinstance(row_losses.of(loss, 1.0, (row_losses.FEW + 1,)), row_losses.AnyRows)


def test_what_is_no_number_is_never_hidden() -> None:
    data = MODELS["features"]().SerializeToString()
    for poisoned in (np.nan, np.inf):
        graph = TrainableGraph.load(data)
        graph.params[5] = poisoned
        before = graph.params.copy()
        report = fit(graph, normal(40, 10), np.arange(40) % 3, TrainingConfig(epochs=2), np.random.default_rng(0))
        assert report.diverged and not math.isfinite(report.losses[0])
        np.testing.assert_array_equal(graph.params, before)


def test_parameters_are_in_the_graph_when_training_is_broken_off() -> None:
    graph = TrainableGraph.load(MODELS["features"]().SerializeToString())
    before = graph.params.copy()
    calls: list[int] = []

    def stop() -> None:
        calls.append(1)
        if len(calls) == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fit(graph, normal(200, 10), np.arange(200) % 3, TrainingConfig(), np.random.default_rng(0), stop)
    assert (graph.params != before).any() and np.isfinite(graph.params).all()
