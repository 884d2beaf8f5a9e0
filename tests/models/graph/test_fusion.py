# SPDX-License-Identifier: Apache-2.0
"""Nodes run as one give what they give apart; plans survive changing batches; nothing is allocated step after step."""

from __future__ import annotations

import math
import tracemalloc
from typing import Any

import numpy as np
import onnx
import pytest
from fedge_models.errors import ModelError
from fedge_models.graph import zoo
from fedge_models.graph.card import Card, Channel, WindowSpec
from fedge_models.graph.fusion import fuse
from fedge_models.graph.trainable import TrainableGraph
from fedge_models.ops.conv import columns
from fedge_models.ops.conv.operator import conv
from fedge_models.ops.geometry import geometry
from fedge_models.ops.operator import Node
from fedge_models.training.config import TrainingConfig
from fedge_models.training.evaluation import evaluate, predict
from fedge_models.training.loop import fit
from hypothesis import HealthCheck, given, settings
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
    "Conv Relu, strided": conv_case(
        (2, 7, 9), (4, 3, 3, 3), (4, 4, 5), N("Relu", ["c"], ["y"]), strides=[2, 2], pads=[1] * 4
    ),
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
    "BatchNormalization Relu, residual": (
        [
            N("Conv", ["x", "w", "b"], ["c"], pads=[1, 1]),
            N("BatchNormalization", ["c", "scale", "bias", "mean", "var"], ["n"]),
            N("Relu", ["n"], ["r"]),
            N("Conv", ["r", "v"], ["d"], pads=[1, 1]),
            N("BatchNormalization", ["d", "scale2", "bias2", "mean", "var"], ["e"]),
            N("Add", ["e", "c"], ["s"]),
            N("Relu", ["s"], ["y"]),
        ],
        {
            **{"w": normal(4, 2, 3), "b": normal(4), "v": normal(4, 4, 3)},
            **{name: normal(4) for name in ("scale", "bias", "scale2", "bias2", "mean")},
            "var": 1 + np.abs(normal(4)),
        },
        (2, 13),
        (4, 13),
    ),
    "Add Relu, stretched": (
        [
            N("Conv", ["x", "w"], ["c"]),
            N("ReduceMean", ["c"], ["m"], axes=[2]),
            N("Add", ["m", "c"], ["s"]),
            N("Relu", ["s"], ["y"]),
        ],
        {"w": normal(4, 2, 3)},
        (2, 13),
        (4, 11),
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
        node_of("Relu", "a", "k"),
        node_of("BatchNormalization", "k d d d d", "n"),
        node_of("Relu", "n", "o"),
        node_of("Add", "o k", "q"),
        node_of("Relu", "q", "y"),
    ]
    nodes[8].updates_statistics = True
    fused = fuse(nodes, constants, "y")
    assert [(n.op_type, [t.op_type for t in n.then]) for n in fused] == [
        ("Conv", ["Relu", "MaxPool"]),
        ("GlobalAveragePool", []),
        ("Flatten", []),
        ("Gemm", ["Relu"]),
        ("BatchNormalization", ["Relu"]),
        ("Add", ["Relu"]),
    ]
    assert fused[4].updates_statistics
    assert fused[3].inputs == ("f", "v", "d") and fused[3].wanted == (True, True, True)


@pytest.mark.parametrize(
    ("nodes", "output"),
    [
        ([node_of("Gemm", "x v d", "h"), node_of("Relu", "h", "r"), node_of("Add", "h r", "y")], "y"),
        ([node_of("Gemm", "x v d", "h"), node_of("Relu", "h", "r")], "h"),
        ([node_of("Gemm", "x v d", "h", alpha=2.0), node_of("Relu", "h", "y")], "y"),
        ([node_of("Gemm", "x h d", "g"), node_of("Relu", "g", "y")], "y"),
        ([node_of("Conv", "x w b", "c"), node_of("MaxPool", "c", "y", kernel_shape=[3], strides=[2])], "y"),
        ([node_of("MatMul", "x v", "m"), node_of("Add", "m x", "y")], "y"),
    ],
    ids=["read twice", "is the output", "scaled", "product of activations", "overlapping", "no bias"],
)
def test_what_is_not(nodes: list[Node], output: str) -> None:
    constants = {"w": normal(8, 3, 5), "b": normal(8), "v": normal(8, 4), "d": normal(4)}
    assert fuse(nodes, constants, output) == nodes


def convolution(data: st.DataObject) -> tuple[Node, list[np.ndarray]]:
    """A Conv of float64 with values for its inputs, of any sizes that fit."""
    axes, group = data.draw(st.integers(1, 3)), data.draw(st.integers(1, 3))
    each = st.lists(st.integers(1, 3), min_size=axes, max_size=axes)
    kernel, strides, dilations = data.draw(each), data.draw(each), data.draw(each)
    reach = [(k - 1) * d + 1 for k, d in zip(kernel, dilations, strict=True)]
    pads = [data.draw(st.integers(0, r)) for r in reach * 2]  # also a whole window of padding
    short = [max(1, r - pads[i] - pads[i + axes]) for i, r in enumerate(reach)]
    spatial = tuple(data.draw(st.integers(s, s + 4)) for s in short)
    batch, channels, outputs = (data.draw(st.integers(1, n)) for n in (4, 3, 4))
    rng = np.random.default_rng(data.draw(st.integers(0, 99)))
    node = node_of("Conv", "x w b", "y", pads=pads, strides=strides, dilations=dilations, group=group)
    node.dtype = np.float64
    shapes = ((batch, group * channels, *spatial), (group * outputs, channels, *kernel), (group * outputs,))
    return node, [rng.normal(size=s) for s in shapes]


def by_windows(node: Node, x: np.ndarray, w: np.ndarray, b: np.ndarray, dy: Any) -> list[np.ndarray]:
    """The output and the three gradients, window by window."""
    places, group = geometry(node, x.shape[2:], w.shape[2:]), node.attr("group", 1)
    y = np.zeros((len(x), len(w), *places.out)) + b.reshape(-1, *[1] * (x.ndim - 2))
    padded = places.pad(x, 0)
    dx, dw, each = np.zeros_like(padded), np.zeros_like(w), w.shape[1]
    for at in np.ndindex(*places.out):
        starts = [i * s for i, s in zip(at, places.strides, strict=True)]
        spans = [(k - 1) * d + 1 for k, d in zip(places.kernel, places.dilations, strict=True)]
        window = [slice(i, i + n, d) for i, n, d in zip(starts, spans, places.dilations, strict=True)]
        for o in range(len(w)):
            channels = slice(o // (len(w) // group) * each, (o // (len(w) // group) + 1) * each)
            index = (slice(None), channels, *window)
            place = (slice(None), o, *at)
            y[place] += (padded[index] * w[o]).reshape(len(x), -1).sum(axis=1)
            slopes = dy(y.shape)[place].reshape(-1, *[1] * (x.ndim - 1))
            dx[index] += slopes * w[o]
            dw[o] += (slopes * padded[index]).sum(axis=0)
    return [y, dx[places.inside(x.shape[2:])], dw, dy(y.shape).sum(axis=(0, *range(2, x.ndim)))]


@pytest.mark.parametrize("tile", [1, 60, columns.TILE])
@given(data=st.data())
@settings(max_examples=examples(60), deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_convolution_by_tiles_equals_windows(data: st.DataObject, tile: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(columns, "TILE", tile)
    node, (x, w, b) = convolution(data)
    y, backprop = conv(node, x, w, b)

    def dy(shape: Shape) -> np.ndarray:
        return np.cos(np.arange(math.prod(shape))).reshape(shape)

    expected = by_windows(node, x, w, b, dy)
    for mine, other in zip([y, *backprop(dy(y.shape))], expected, strict=True):
        assert mine is not None
        np.testing.assert_allclose(mine, other, atol=1e-12)


def test_kernel_larger_than_its_input_is_refused() -> None:
    model = small([N("Conv", ["x", "w"], ["y"], pads=[0, 1])], {"w": normal(4, 2, 9)}, (2, 6), (4, 1))
    with pytest.raises(ModelError, match=r"Conv.*kernel of \(9,\) is larger than the padded input of \(6,\)"):
        load(model).forward(normal(3, 2, 6))


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


def test_backward_is_once_for_each_forward_and_leaves_no_activations() -> None:
    graph, x = load(zoo.cnn2d(IMAGES, (1, 12, 9))), normal(6, 1, 12, 9)
    dy = np.zeros_like(graph.forward(x))
    graph.backward(dy)
    with pytest.raises(RuntimeError, match="backward without forward"):
        graph.backward(dy)


def test_backward_after_a_forward_run_that_failed_is_refused() -> None:
    graph, x = load(zoo.mlp(IMAGES, 4)), normal(6, 4)
    dy = np.zeros_like(graph.forward(x))
    with pytest.raises(ModelError):
        graph.forward(normal(6, 5))
    with pytest.raises(RuntimeError, match="backward without forward"):
        graph.backward(dy)


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
