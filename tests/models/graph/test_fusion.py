# SPDX-License-Identifier: Apache-2.0
"""Nodes run as one give what they give apart; plans survive changing batches; nothing is allocated step after step."""

from __future__ import annotations

import tracemalloc
from typing import Any

import numpy as np
import onnx
import pytest
from fedge_models.graph import zoo
from fedge_models.graph.card import Card, Channel, WindowSpec
from fedge_models.graph.fusion import fuse
from fedge_models.graph.trainable import TrainableGraph
from fedge_models.ops.conv.depthwise import DepthwiseConv
from fedge_models.ops.conv.flat import FlatConv
from fedge_models.ops.conv.gathered import GatheredConv
from fedge_models.ops.geometry import geometry
from fedge_models.ops.operator import Node
from fedge_models.training.config import TrainingConfig
from fedge_models.training.evaluation import evaluate, predict
from fedge_models.training.loop import fit
from hypothesis import given, settings
from hypothesis import strategies as st
from support.examples import examples
from support.graphs import RAW, N, check_gradient, ints, load, normal, run_ort, small

IMAGES = Card("classify", (Channel("camera"),), WindowSpec(1, 1, 1), labels=("good", "scratch", "hole"))
Shape = tuple[int, ...]
Case = tuple[list[Any], dict[str, np.ndarray], Shape, Shape]


def conv_case(x: Shape, w: Shape, y: Shape, *behind: Any, **attributes: Any) -> Case:
    """Conv named "c", then others, the last of which writes "y"; behind another Conv, so that gradients go through."""
    before = N("Conv", ["x", "w0", "b0"], ["h"], pads=[1, 1] * (len(x) - 1))
    tensors = {"w0": normal(w[1], x[0], *[3] * (len(x) - 1)), "b0": normal(w[1]), "w": normal(*w), "b": normal(w[0])}
    return [before, N("Conv", ["h", "w", "b"], ["c"], **attributes), *behind], tensors, x, y


CASES: dict[str, Case] = {
    "Gemm Relu": (
        [N("Gemm", ["x", "v"], ["h"]), N("Gemm", ["h", "w", "b"], ["r"], transB=1), N("Relu", ["r"], ["y"])],
        {"v": normal(5, 7), "w": normal(3, 7), "b": normal(3)},
        (5,),
        (3,),
    ),
    "Gemm scaled, Relu": (
        [
            N("Gemm", ["x", "v"], ["h"], alpha=0.5),
            N("Gemm", ["h", "w", "b"], ["r"], beta=2.0, transB=1),
            N("Relu", ["r"], ["y"]),
        ],
        {"v": normal(5, 7), "w": normal(3, 7), "b": normal(3)},
        (5,),
        (3,),
    ),
    "Gemm without bias, Relu": (
        [N("Gemm", ["x", "v"], ["h"]), N("Relu", ["h"], ["r"]), N("Gemm", ["r", "w"], ["y"])],
        {"v": normal(5, 7), "w": normal(7, 3)},
        (5,),
        (3,),
    ),
    "MatMul Add Relu": (
        [
            N("MatMul", ["x", "v"], ["h"]),
            N("Add", ["a", "h"], ["s"]),
            N("Relu", ["s"], ["r"]),
            N("MatMul", ["r", "w"], ["t"]),
            N("Add", ["t", "b"], ["y"]),
        ],
        {"v": normal(5, 7), "a": normal(7), "w": normal(7, 3), "b": normal(3)},
        (4, 5),
        (4, 3),
    ),
    "Conv Relu": conv_case((2, 11), (4, 3, 5), (4, 9), N("Relu", ["c"], ["y"]), pads=[0, 2]),
    "Conv Relu wide": conv_case((2, 11), (12, 9, 4), (12, 8), N("Relu", ["c"], ["y"])),
    "Conv Relu, 1": conv_case((2, 11), (4, 3, 1), (4, 11), N("Relu", ["c"], ["y"])),
    "Conv Relu MaxPool": conv_case(
        (2, 11),
        (4, 3, 4),
        (4, 3),
        N("Relu", ["c"], ["r"]),
        N("MaxPool", ["r"], ["y"], kernel_shape=[3], strides=[3]),
        auto_pad="SAME_UPPER",
    ),
    "Conv MaxPool, 2-D": conv_case(
        (2, 5, 7),
        (4, 3, 3, 2),
        (4, 2, 2),
        N("MaxPool", ["c"], ["y"], kernel_shape=[2, 3], strides=[2, 3]),
        pads=[1, 0, 1, 0],
    ),
    "Conv Relu MaxPool, 2-D": conv_case(
        (1, 6, 6),
        (9, 2, 3, 3),
        (9, 3, 3),
        N("Relu", ["c"], ["r"]),
        N("MaxPool", ["r"], ["y"], kernel_shape=[2, 2], strides=[2, 2]),
        pads=[1, 1, 1, 1],
    ),
    "Conv Relu, 3-D": conv_case((2, 3, 4, 3), (3, 2, 2, 3, 2), (3, 2, 2, 2), N("Relu", ["c"], ["y"])),
    "MaxPool alone": (
        [
            N("Conv", ["x", "w", "b"], ["c"], strides=[2]),
            N("MaxPool", ["c"], ["p"], kernel_shape=[2], strides=[2]),
            N("Sigmoid", ["p"], ["y"]),
        ],
        {"w": normal(4, 2, 3), "b": normal(4)},
        (2, 13),
        (4, 3),
    ),
}


def apart(model: onnx.ModelProto) -> onnx.ModelProto:
    """The same with Identity between all nodes, which nothing is fused over."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    del copy.graph.node[:]
    for node in model.graph.node:
        copy.graph.node.append(node)
        if node.output[0] != "y":
            copy.graph.node[-1].output[0] += "_raw"
            copy.graph.node.append(N("Identity", [f"{node.output[0]}_raw"], [node.output[0]]))
    return copy


def gradient(graph: TrainableGraph, x: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    y = graph.forward(x).copy()
    graph.backward(np.cos(np.arange(y.size, dtype=np.float32)).reshape(y.shape))
    return y, graph.grad.copy()


@pytest.mark.parametrize("name", CASES)
def test_fused_equals_apart_and_onnx_runtime(name: str) -> None:
    model, x = small(*CASES[name]), normal(5, *CASES[name][2])
    (y, grad), (other_y, other_grad) = gradient(load(model), x), gradient(load(apart(model)), x)
    np.testing.assert_allclose(y, run_ort(model.SerializeToString(), x), rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(y, other_y, rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(grad, other_grad, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("name", CASES)
def test_fused_gradient_equals_central_differences(name: str) -> None:
    check_gradient(small(*CASES[name]), normal(5, *CASES[name][2]))


def node_of(op_type: str, inputs: str, output: str, **attributes: Any) -> Node:
    node = Node(f"{op_type} {output}", op_type, inputs.split(), [output], attributes)
    node.wanted = tuple(True for _ in node.inputs)
    return node


def test_what_is_fused() -> None:
    constants = {"w": normal(8, 3, 5), "b": normal(8), "v": normal(8, 4), "d": normal(4)}
    nodes = [
        node_of("Conv", "x w b", "c"),
        node_of("Relu", "c", "r"),
        node_of("MaxPool", "r", "p", kernel_shape=[2], strides=[2]),
        node_of("GlobalAveragePool", "p", "g"),
        node_of("Flatten", "g", "f"),
        node_of("MatMul", "f v", "m"),
        node_of("Add", "m d", "a"),
        node_of("Relu", "a", "y"),
    ]
    fused = fuse(nodes, constants, "y")
    assert [(n.op_type, [t.op_type for t in n.then]) for n in fused] == [
        ("Conv", ["Relu", "MaxPool"]),
        ("GlobalAveragePool", []),
        ("Flatten", []),
        ("Gemm", ["Relu"]),
    ]
    assert fused[3].inputs == ("f", "v", "d") and fused[3].wanted == (True, True, True)


@pytest.mark.parametrize(
    ("nodes", "output"),
    [
        ([node_of("Gemm", "x v d", "h"), node_of("Relu", "h", "r"), node_of("Add", "h r", "y")], "y"),
        ([node_of("Gemm", "x v d", "h"), node_of("Relu", "h", "r")], "h"),
        ([node_of("Gemm", "x v d", "h", alpha=2.0), node_of("Relu", "h", "y")], "y"),
        ([node_of("Gemm", "x h d", "g"), node_of("Relu", "g", "y")], "y"),
        ([node_of("Conv", "x w b", "c", strides=[2]), node_of("Relu", "c", "y")], "y"),
        ([node_of("Conv", "x w b", "c"), node_of("MaxPool", "c", "y", kernel_shape=[3], strides=[2])], "y"),
        ([node_of("MatMul", "x v", "m"), node_of("Add", "m x", "y")], "y"),
    ],
    ids=["read twice", "is the output", "scaled", "product of activations", "strided", "overlapping", "no bias"],
)
def test_what_is_not(nodes: list[Node], output: str) -> None:
    constants = {"w": normal(8, 3, 5), "b": normal(8), "v": normal(8, 4), "d": normal(4)}
    assert fuse(nodes, constants, output) == nodes


def convolution(data: st.DataObject, depthwise: bool = False, **attributes: Any) -> tuple[Node, list[np.ndarray]]:
    """A Conv of float64 with values for its inputs, of any sizes that fit."""
    axes = data.draw(st.integers(1, 3))
    kernel = tuple(data.draw(st.integers(1, 4)) for _ in range(axes))
    pads = [data.draw(st.integers(0, k - 1)) for k in kernel * 2]
    short = [max(1, k - pads[i] - pads[i + axes]) for i, k in enumerate(kernel)]
    spatial = tuple(data.draw(st.integers(s, s + 4)) for s in short)
    batch, channels, outputs = (data.draw(st.integers(1, n)) for n in (4, 3, 10))
    w = (channels, 1, *kernel) if depthwise else (outputs, channels, *kernel)
    rng = np.random.default_rng(data.draw(st.integers(0, 99)))
    node = node_of("Conv", "x w b", "y", pads=pads, group=channels if depthwise else 1, **attributes)
    node.dtype = np.float64
    return node, [rng.normal(size=s) for s in ((batch, channels, *spatial), w, w[:1])]


@pytest.mark.parametrize("kind", [FlatConv, DepthwiseConv])
@given(data=st.data())
@settings(max_examples=examples(150), deadline=None)
def test_quick_convolutions_equal_the_gathered_one(kind: Any, data: st.DataObject) -> None:
    node, (x, w, b) = convolution(data, kind is DepthwiseConv)
    places = geometry(node, x.shape[2:], w.shape[2:])
    one, other = kind(node, x, w, b, places), GatheredConv(node, x, w, b, places)
    y, gathered = one.forward(x), other.forward(x)
    np.testing.assert_allclose(y, gathered, atol=1e-12)
    assert y.shape == (len(x), len(w), *places.out)
    dy = np.cos(np.arange(y.size)).reshape(y.shape)
    for mine, expected in zip([g.copy() for g in one.backprop(dy)], other.backprop(dy), strict=True):
        assert expected is not None
        np.testing.assert_allclose(mine, expected, atol=1e-12)


# --- over many batches ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("model", [zoo.mlp(RAW, 10), zoo.cnn1d(RAW, (4, 6), (5, 3)), zoo.cnn2d(IMAGES, (1, 12, 9))])
def test_batch_sizes_may_alternate_and_graphs_live_side_by_side(model: onnx.ModelProto) -> None:
    graph, other = load(model), load(model)
    other.params *= 0.5
    for rows in (6, 3, 6, 1, 7, 3, 1, 6):
        x = normal(rows, *graph.input_shape)
        for one in (graph, other):
            fresh = load(model)
            fresh.set_params(one.params)
            for mine, expected in zip(gradient(one, x), gradient(fresh, x), strict=True):
                np.testing.assert_array_equal(mine, expected)


def test_evaluation_between_forward_runs_changes_nothing() -> None:
    model = zoo.cnn1d(RAW, (4, 6), (5, 3))
    graph, x, y = load(model), normal(6, 2, 24), ints(0, 1, 2, 0, 1, 2)
    before = gradient(graph, x)
    evaluate(graph, normal(900, 2, 24), np.zeros(900, np.int64))
    for mine, expected in zip(gradient(graph, x), before, strict=True):
        np.testing.assert_array_equal(mine, expected)
    assert evaluate(graph, x, y) == evaluate(load(model), x, y)


def test_evaluation_in_parts_equals_one_run() -> None:
    graph, x = load(zoo.cnn2d(IMAGES, (1, 64, 64), (4, 4))), normal(37, 1, 64, 64)
    np.testing.assert_allclose(predict(graph, x), graph.forward(x), atol=1e-5)


def test_activation_with_two_readers_is_not_overwritten() -> None:
    nodes = [
        N("Gemm", ["x", "v", "a"], ["h"]),
        N("Relu", ["h"], ["r"]),
        N("Gemm", ["r", "w", "b"], ["g"]),
        N("Relu", ["g"], ["s"]),
        N("Add", ["s", "r"], ["t"]),  # a residual
        N("Mul", ["t", "h"], ["y"]),
    ]
    tensors = {"v": normal(5, 6), "a": normal(6), "w": normal(6, 6), "b": normal(6)}
    model, x = small(nodes, tensors, (5,), (6,)), normal(4, 5)
    np.testing.assert_allclose(load(model).forward(x), run_ort(model.SerializeToString(), x), rtol=1e-5, atol=1e-5)
    check_gradient(model, x)


@pytest.mark.parametrize(
    ("model", "optimizer"),
    [
        (zoo.mlp(RAW, 10), "sgd"),
        (zoo.mlp(RAW, 10), "adamw"),
        (zoo.autoencoder(Card("anomaly", RAW.channels, RAW.window), 10), "adam"),
        (zoo.cnn1d(RAW, (16, 8), (5, 3)), "adam"),
        (zoo.cnn2d(IMAGES, (1, 24, 24), (4, 8)), "adam"),
    ],
    ids=["mlp sgd", "mlp adamw", "autoencoder", "cnn1d", "cnn2d"],
)
def test_steps_allocate_nothing(model: onnx.ModelProto, optimizer: str) -> None:
    graph, batch = load(model), 1024
    x = normal(9 * batch, *graph.input_shape)
    y = None if graph.card.task == "anomaly" else np.arange(len(x)) % 3
    peaks: list[int] = []

    def between() -> None:
        now, peak = tracemalloc.get_traced_memory()
        peaks.append(peak - now)
        tracemalloc.reset_peak()

    tracemalloc.start()
    try:
        config = TrainingConfig(batch=batch, epochs=1, optimizer=optimizer, clip_norm=1.0)
        fit(graph, x, y, config, np.random.default_rng(0), between)
    finally:
        tracemalloc.stop()
    # NumPy itself takes up to three times 32 KiB to cast or broadcast, whatever the size; an activation is larger.
    assert len(peaks) == 9 and max(peaks[2:]) < 110_000 < batch * 32 * 4
