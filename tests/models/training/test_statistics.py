# SPDX-License-Identifier: Apache-2.0
"""Batch normalisation whose running statistics are trained along, or stay as delivered."""

from __future__ import annotations

import msgspec
import numpy as np
import onnx
import pytest
from fedge_models.graph.card import read_card, write_card
from fedge_models.graph.intake import with_weights
from fedge_models.graph.trainable import TrainableGraph
from fedge_models.training.config import TrainingConfig
from fedge_models.training.loop import fit
from support.counterparts import counterpart
from support.graphs import N, check_gradient, load, normal, run_ort, small


def model(batch_norm: str) -> onnx.ModelProto:
    nodes = [
        N("Conv", ["x", "c.w"], ["h"]),
        N("BatchNormalization", ["h", "bn.scale", "bn.bias", "bn.mean", "bn.var"], ["n"], momentum=0.8),
        N("Relu", ["n"], ["r"]),
        N("GlobalAveragePool", ["r"], ["p"]),
        N("Flatten", ["p"], ["f"]),
        N("Gemm", ["f", "head"], ["y"]),
    ]
    tensors = {"c.w": normal(4, 2, 3), "bn.scale": 1 + normal(4) / 4, "bn.bias": normal(4), "head": normal(4, 3)}
    made = small(nodes, {**tensors, "bn.mean": normal(4), "bn.var": 1 + np.abs(normal(4))}, (2, 12), (3,))
    write_card(made, msgspec.structs.replace(read_card(made), batch_norm=batch_norm))
    return made


def test_frozen_statistics_are_constants() -> None:
    graph = load(model("frozen"))
    assert graph.statistics is None and [t.name for t in graph.layout] == ["c.w", "bn.scale", "bn.bias", "head"]
    check_gradient(model("frozen"), normal(5, 2, 12))


def test_statistics_move_in_training_only_and_no_optimiser_touches_them() -> None:
    graph, x = load(model("updated")), normal(16, 2, 12)
    own = graph.statistics
    assert own is not None and own.sum() == 8
    before = graph.params.copy()
    graph.forward(x)
    np.testing.assert_array_equal(graph.params, before)
    config = TrainingConfig(
        batch=16, epochs=1, optimizer="adamw", weight_decay=0.5, proximal_mu=10.0, learning_rate=0.1
    )
    fit(graph, x, np.arange(16) % 3, config, np.random.default_rng(0))
    mean, var = (next(t for t in graph.layout if t.name == n) for n in ("bn.mean", "bn.var"))
    assert not np.array_equal(graph.params[~own], before[~own])
    channels = TrainableGraph.load(convolution_only().SerializeToString())
    channels.params[:] = before[: channels.params.size]
    h = channels.forward(x)
    np.testing.assert_allclose(
        graph.params[mean.start : mean.stop],
        0.8 * before[mean.start : mean.stop] + 0.2 * h.mean(axis=(0, 2)),
        rtol=1e-4,
    )
    spread = h.var(axis=(0, 2), ddof=1)
    np.testing.assert_allclose(
        graph.params[var.start : var.stop], 0.8 * before[var.start : var.stop] + 0.2 * spread, rtol=1e-4
    )


def convolution_only() -> onnx.ModelProto:
    """h of the model, from the same first parameters."""
    return small([N("Conv", ["x", "c.w"], ["y"])], {"c.w": normal(4, 2, 3)}, (2, 12), (4, 10))


def test_gradient_through_the_batchs_own_statistics_is_pytorchs() -> None:
    torch = counterpart("torch")
    graph, x = load(model("updated")), normal(8, 2, 12)
    value = {t.name: torch.tensor(graph.params[t.start : t.stop].reshape(t.shape)) for t in graph.layout}
    for tensor in value.values():
        tensor.requires_grad_()
    h = torch.nn.functional.conv1d(torch.from_numpy(x), value["c.w"])
    n = torch.nn.functional.batch_norm(
        h, value["bn.mean"].detach().clone(), value["bn.var"].detach().clone(), value["bn.scale"], value["bn.bias"],
        training=True, momentum=0.2,
    )  # fmt: skip
    y = torch.relu(n).mean(dim=2) @ value["head"]
    weight = normal(8, 3)
    (y * torch.from_numpy(weight)).sum().backward()
    graph.training(np.random.default_rng(0))
    np.testing.assert_allclose(graph.forward(x), y.detach().numpy(), rtol=1e-4, atol=1e-5)
    graph.backward(weight)
    for t in graph.layout:
        if t.name in ("bn.mean", "bn.var"):
            assert not graph.grad[t.start : t.stop].any()
        else:
            theirs = value[t.name].grad.numpy().ravel()
            np.testing.assert_allclose(graph.grad[t.start : t.stop], theirs, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("batch_norm", ["frozen", "updated"])
def test_single_row_is_no_division_by_zero(batch_norm: str) -> None:
    graph = load(model(batch_norm))
    report = fit(graph, normal(1, 2, 12), np.zeros(1, np.int64), TrainingConfig(), np.random.default_rng(0))
    assert not report.diverged and np.isfinite(graph.params).all()


def test_variance_below_zero_spoils_no_decision() -> None:
    """Steps of 8 bits are as coarse as the widest channel needs; a narrow one can pass below 0 in an average."""
    graph, x = load(model("updated")), normal(5, 2, 12)
    var = next(t for t in graph.layout if t.name == "bn.var")
    graph.params[var.start] = -0.3
    assert graph.initializers(graph.params)["bn.var"].min() == 0
    served = with_weights(model("updated").SerializeToString(), graph.initializers(graph.params))
    y = graph.forward(x)
    assert np.isfinite(y).all()
    np.testing.assert_allclose(y, run_ort(served, x), rtol=1e-5, atol=1e-5)
