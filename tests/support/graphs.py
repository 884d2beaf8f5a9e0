# SPDX-License-Identifier: Apache-2.0
"""Small ONNX graphs, and what their gradients are held against."""

from __future__ import annotations

import math
from typing import Any

import msgspec
import numpy as np
import onnx
from fedge_models.graph.card import Card, Channel, Target, WindowSpec, write_card
from fedge_models.graph.trainable import TrainableGraph
from onnx import TensorProto, helper, numpy_helper

RAW = Card("classify", (Channel("a"), Channel("b")), WindowSpec(10, 24, 8), labels=("ok", "bad", "worse"))
PLAIN = Card("regress", RAW.channels, RAW.window)  # of graphs that give anything else
RNG = np.random.default_rng(7)
N = helper.make_node


def load(model: onnx.ModelProto, trainable: str | None = None) -> TrainableGraph:
    return TrainableGraph.load(model.SerializeToString(), trainable)


def run_ort(model: bytes, x: np.ndarray) -> np.ndarray:
    import onnxruntime

    return onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"]).run(None, {"x": x})[0]


def small(
    nodes: list[Any], tensors: dict[str, np.ndarray], x: tuple[int, ...], y: tuple[int, ...], opset: int = 17
) -> onnx.ModelProto:
    """A graph of the given nodes from x to y."""
    values = [helper.make_tensor_value_info(n, TensorProto.FLOAT, ["n", *s]) for n, s in (("x", x), ("y", y))]
    graph = helper.make_graph(
        nodes, "g", [values[0]], [values[1]], [numpy_helper.from_array(v, k) for k, v in tensors.items()]
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)
    write_card(model, fitting(x, y))
    return model


def fitting(x: tuple[int, ...], y: tuple[int, ...]) -> Card:
    """A card for samples of shape x: windows, a row of a table, or (three dimensions) one that says nothing of them."""
    count, length = (x[0], 1) if len(x) == 1 else (x[0], x[1]) if len(x) == 2 else (1, 1)
    base = RAW if y == (3,) else PLAIN
    channels = tuple(Channel(f"c{i}") for i in range(max(count, 1)))
    targets = named(y) if base is PLAIN else ()
    return msgspec.structs.replace(base, channels=channels, window=WindowSpec(10, max(length, 1), 8), targets=targets)


def named(y: tuple[int, ...]) -> tuple[Target, ...]:
    """A target for each of a few values, so that a graph may give them as a matrix."""
    count = math.prod(y)
    return tuple(Target(f"t{i}") for i in range(count)) if 1 < count <= 512 else ()


def normal(*shape: int) -> np.ndarray:
    return RNG.normal(size=shape).astype(np.float32)


def ints(*values: int) -> np.ndarray:
    return np.array(values, np.int64)


def numeric(graph: TrainableGraph, x: np.ndarray, weight: np.ndarray, index: int) -> float:
    """Central difference of sum(weight * y) by one parameter."""
    step, before = 1e-6, graph.params[index]
    sums = []
    for sign in (1, -1):
        graph.params[index] = before + sign * step
        sums.append(float((graph.forward(x) * weight).sum()))
    graph.params[index] = before
    return (sums[0] - sums[1]) / (2 * step)


def check_gradient(model: onnx.ModelProto, x: np.ndarray, trainable: str | None = None, count: int = 60) -> None:
    """In float64 against central differences; in float32 against float64."""
    data = model.SerializeToString()
    graph, single = (TrainableGraph.load(data, trainable, dtype=t) for t in (np.float64, np.float32))
    noise = 0.05 * RNG.normal(size=graph.params.size)  # away from kinks: biases are born 0
    graph.params += noise
    single.params += noise.astype(np.float32)
    x = x.astype(np.float64)
    weight = RNG.normal(size=graph.forward(x).shape)
    graph.forward(x)
    graph.backward(np.asarray(weight, graph.params.dtype))
    grad = graph.grad.copy()
    chosen = RNG.permutation(grad.size)[:count]
    got = np.array([numeric(graph, x, weight, i) for i in chosen])
    scale = np.abs(grad).max() + 1e-9
    np.testing.assert_allclose(grad[chosen] / scale, got / scale, atol=2e-5)
    single.forward(x.astype(np.float32))
    single.backward(weight.astype(np.float32))
    np.testing.assert_allclose(single.grad / scale, grad / scale, atol=1e-4)
