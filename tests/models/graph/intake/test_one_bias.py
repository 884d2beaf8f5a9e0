# SPDX-License-Identifier: Apache-2.0
"""A recurrent layer of a network with one bias trains one: exporters fill the second, which ONNX has, with zeros."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from fedge_models.graph.intake import read_model
from fedge_models.graph.trainable import TrainableGraph
from support.graphs import N, ints, normal, run_ort, small

GATES = {"GRU": 3, "LSTM": 4, "RNN": 1}
IN, TIME, HIDDEN = 2, 5, 3
LAYERS = [(op, directions) for op in GATES for directions in (1, 2)]


def network(
    op: str, directions: int, bias: np.ndarray, producer: str = "tf2onnx", **attributes: int
) -> onnx.ModelProto:
    """Windows (channels, time) through one recurrent layer, whose last state goes into a head; `b` is its bias."""
    width = GATES[op] * HIDDEN
    direction = "bidirectional" if directions == 2 else "forward"
    nodes = [
        N("Transpose", ["x"], ["t"], perm=[2, 0, 1]),
        N(op, ["t", "w", "r", "b"], ["", "last"], hidden_size=HIDDEN, direction=direction, **attributes),
        N("Transpose", ["last"], ["rows"], perm=[1, 0, 2]),
        N("Flatten", ["rows"], ["flat"]),
        N("Gemm", ["flat", "head.weight", "head.bias"], ["y"], transB=1),
    ]
    tensors = {
        "w": normal(directions, width, IN),
        "r": normal(directions, width, HIDDEN),
        "b": bias,
        "head.weight": normal(3, directions * HIDDEN),
        "head.bias": normal(3),
    }
    model = small(nodes, tensors, (IN, TIME), (3,))
    model.producer_name = producer
    return model


def halves(op: str, directions: int, first: bool, second: bool) -> np.ndarray:
    """A bias, of which each half has values or is zero."""
    size = GATES[op] * HIDDEN
    return np.concatenate([normal(directions, size) * filled for filled in (first, second)], axis=1).astype(np.float32)


def taken(model: onnx.ModelProto, folder: Path) -> bytes:
    (folder / "m.onnx").write_bytes(model.SerializeToString())
    data = read_model(folder / "m.onnx")
    (folder / "again.onnx").write_bytes(data)
    assert read_model(folder / "again.onnx") == data  # both ends hash it
    return data


def shape(graph: TrainableGraph, name: str) -> tuple[int, ...]:
    return next((t.shape for t in graph.layout if t.name == name), ())


@pytest.mark.parametrize("first", [True, False])
@pytest.mark.parametrize(("op", "directions"), LAYERS)
def test_bias_moves_as_one_where_the_other_half_is_zero(op: str, directions: int, first: bool, tmp_path: Path) -> None:
    model = network(op, directions, halves(op, directions, first, not first))
    x = normal(4, IN, TIME)
    before = run_ort(model.SerializeToString(), x)
    data = taken(model, tmp_path)
    graph = TrainableGraph.load(data)
    size = GATES[op] * HIDDEN
    assert shape(graph, "b") == (directions, size) and graph.card.constants == ()
    assert any(n.startswith("bias: b: one for each gate") for n in graph.notes)
    np.testing.assert_allclose(graph.forward(x), before, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(run_ort(data, x), before, rtol=1e-5, atol=1e-6)

    whole = TrainableGraph.load(model.SerializeToString())  # not taken in: both halves are one tensor
    dy = normal(4, 3)
    for each in (graph, whole):
        each.forward(x)
        each.backward(dy)
    part = slice(None, size) if first else slice(size, None)
    np.testing.assert_allclose(gradient(graph), gradient(whole)[:, part], rtol=1e-4, atol=1e-5)


def gradient(graph: TrainableGraph) -> np.ndarray:
    return next(t.of(graph.grad) for t in graph.layout if t.name == "b")


@pytest.mark.parametrize("producer", ["", "pytorch", "paddle", "tf2onnx"])
def test_two_halves_with_values_are_two_biases(producer: str, tmp_path: Path) -> None:
    graph = TrainableGraph.load(taken(network("GRU", 1, halves("GRU", 1, True, True), producer), tmp_path))
    assert shape(graph, "b") == (1, 6 * HIDDEN)


def test_pytorch_has_two_biases_also_where_one_was_set_to_zero(tmp_path: Path) -> None:
    """Many set the biases of the state to zero, and the forget gate's to one, before they train."""
    bias = halves("LSTM", 1, True, False)
    assert shape(TrainableGraph.load(taken(network("LSTM", 1, bias, "pytorch"), tmp_path)), "b") == (1, 8 * HIDDEN)
    model = network("LSTM", 1, bias, "onnx.quantize")  # another tool has written it since
    model.graph.node[1].input[3] = next(t for t in model.graph.initializer if t.name == "b").name = "onnx::LSTM_108"
    graph = TrainableGraph.load(taken(model, tmp_path))
    assert [t.shape for t in graph.layout if len(t.shape) == 2 and t.shape[0] == 1] == [(1, 8 * HIDDEN)]


@pytest.mark.parametrize(
    ("op", "producer", "after", "biases"),
    [
        ("LSTM", "tf2onnx", 0, 0),  # use_bias=False: else its forget gates begin with ones
        ("RNN", "tf2onnx", 0, 1),
        ("GRU", "tf2onnx", 0, 1),
        ("GRU", "tf2onnx", 1, 2),  # reset_after=True has two
        ("LSTM", "keras2onnx", 0, 0),
        ("LSTM", "mxnet", 0, 2),  # nothing tells
        ("LSTM", "", 0, 2),
    ],
)
def test_of_a_bias_that_is_zero_as_a_whole_the_exporter_tells(
    op: str, producer: str, after: int, biases: int, tmp_path: Path
) -> None:
    more = {"linear_before_reset": after} if op == "GRU" else {}
    model = network(op, 1, halves(op, 1, False, False), producer, **more)
    graph = TrainableGraph.load(taken(model, tmp_path))
    assert shape(graph, "b") == ((1, biases * GATES[op] * HIDDEN) if biases else ())
    assert graph.card.constants == (() if biases else ("b",))
    assert any("a bias of zeros, in place of none" in n for n in graph.notes) is (not biases)


def test_one_bias_of_two_layers_becomes_one_for_each(tmp_path: Path) -> None:
    model = network("LSTM", 1, halves("LSTM", 1, True, False))
    nodes = [*model.graph.node]
    nodes[1].output[:] = ["all"]
    nodes[2:2] = [
        N("Squeeze", ["all", "axis"], ["hidden"]),
        N("LSTM", ["hidden", "w2", "r", "b"], ["", "last"], hidden_size=HIDDEN),
    ]
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    model.graph.initializer.append(onnx.numpy_helper.from_array(normal(1, 4 * HIDDEN, HIDDEN), "w2"))
    model.graph.initializer.append(onnx.numpy_helper.from_array(ints(1), "axis"))
    x = normal(3, IN, TIME)
    before = run_ort(model.SerializeToString(), x)
    data = taken(model, tmp_path)
    graph = TrainableGraph.load(data)
    assert shape(graph, "b") == shape(graph, "b.2") == (1, 4 * HIDDEN)
    np.testing.assert_allclose(run_ort(data, x), before, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("producer", ["", "pytorch"])
def test_zeros_that_are_joined_to_a_bias_are_no_parameter(producer: str, tmp_path: Path) -> None:
    """As exporters write it that fold nothing: the bias and zeros, joined and given a dimension of directions."""
    model = network("LSTM", 1, halves("LSTM", 1, True, False), producer)
    graph = model.graph
    graph.node.insert(0, N("Concat", ["bias", "none"], ["row"], axis=0))
    graph.node.insert(1, N("Unsqueeze", ["row", "axis"], ["b"]))
    del graph.initializer[next(i for i, t in enumerate(graph.initializer) if t.name == "b")]
    more = {"bias": normal(4 * HIDDEN), "none": np.zeros(4 * HIDDEN, np.float32), "axis": ints(0)}
    graph.initializer.extend(onnx.numpy_helper.from_array(v, n) for n, v in more.items())
    found = TrainableGraph.load(taken(model, tmp_path))
    assert found.card.constants == (("none",) if not producer else ())
    assert ("none" in {t.name for t in found.layout}) is bool(producer)


@pytest.mark.parametrize(
    ("producer", "value", "trains"), [("MATLAB", 0.0, False), ("MATLAB", 0.5, True), ("pytorch", 0.0, True)]
)
def test_zeros_that_a_layer_begins_with_are_no_parameter(
    producer: str, value: float, trains: bool, tmp_path: Path
) -> None:
    """Of PyTorch, a tensor with the name of an attribute may be a state that is learnt and begins with zeros."""
    model = network("LSTM", 1, halves("LSTM", 1, True, True), producer)
    graph = model.graph
    graph.node.insert(0, N("Shape", ["x"], ["count"], start=0, end=1))
    graph.node.insert(1, N("Concat", ["one", "count", "one"], ["shape"], axis=0))
    graph.node.insert(2, N("Expand", ["state", "shape"], ["begin"]))
    graph.node[4].input.extend(["", "begin", "begin"])
    more = {"state": np.full((1, 1, HIDDEN), value, np.float32), "one": ints(1)}
    graph.initializer.extend(onnx.numpy_helper.from_array(v, n) for n, v in more.items())
    found = TrainableGraph.load(taken(model, tmp_path))
    assert ("state" in {t.name for t in found.layout}) is trains
    assert any("state is the zeros that a recurrent layer begins with" in n for n in found.notes) is not trains
