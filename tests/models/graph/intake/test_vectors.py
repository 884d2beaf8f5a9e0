# SPDX-License-Identifier: Apache-2.0
"""Products with a vector serve and train as they are written, behind a Transpose too."""

from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np
import onnx
import pytest
from fedge_models.graph.card import Card, Channel, WindowSpec, write_card
from fedge_models.graph.intake import read_model
from fedge_models.graph.trainable import TrainableGraph
from support.graphs import N, check_gradient, ints, named, normal, run_ort, small

C, T = 3, 5
CARD = Card("regress", tuple(Channel(f"c{i}") for i in range(C)), WindowSpec(1, T, 1))
HEAD = N("MatMul", ["s", "head"], ["y"])
CASES: dict[str, tuple[list[onnx.NodeProto], dict[str, np.ndarray]]] = {
    "a vector behind": ([N("MatMul", ["x", "v"], ["s"]), HEAD], {"v": normal(C), "head": normal(T, 2)}),
    "a vector in front": ([N("MatMul", ["v", "x"], ["s"]), HEAD], {"v": normal(T), "head": normal(C, 2)}),
    "a row of a matrix": (
        [N("Gather", ["m", "at"], ["v"], axis=0), N("MatMul", ["x", "v"], ["s"]), HEAD],
        {"m": normal(2, C), "at": np.array(1), "head": normal(T, 2)},
    ),
    "a column that is squeezed": (
        [N("Squeeze", ["m", "last"], ["v"]), N("MatMul", ["x", "v"], ["s"]), HEAD],
        {"m": normal(C, 1), "last": ints(-1), "head": normal(T, 2)},
    ),
    "a vector of norm one": (
        [N("ReduceL2", ["m"], ["n"], keepdims=0), N("Div", ["m", "n"], ["v"]),
         N("MatMul", ["x", "v"], ["s"]), HEAD],
        {"m": normal(C), "head": normal(T, 2)},
    ),
    "shares of moments": (
        [N("Tanh", ["x"], ["h"]), N("MatMul", ["h", "v"], ["e"]), N("Softmax", ["e"], ["a"], axis=1),
         N("Unsqueeze", ["a", "one"], ["r"]), N("MatMul", ["r", "h"], ["c"]), N("Squeeze", ["c", "one"], ["s"]), HEAD],
        {"v": normal(C), "one": ints(1), "head": normal(C, 2)},
    ),
}  # fmt: skip


def taken(model: onnx.ModelProto, card: Card, folder: Path) -> bytes:
    write_card(model, card)
    (folder / "m.onnx").write_bytes(model.SerializeToString())
    data = read_model(folder / "m.onnx")
    (folder / "again.onnx").write_bytes(data)
    assert read_model(folder / "again.onnx") == data
    return data


@pytest.mark.parametrize("name", CASES)
def test_product_with_a_vector_gives_and_trains_what_it_says(name: str, tmp_path: Path) -> None:
    """The windows are turned in front of it: ONNX Runtime would move that Transpose into the product, wrongly."""
    nodes, tensors = CASES[name]
    model, x = small(nodes, tensors, (T, C), (2,)), normal(4, C, T)
    expected = run_ort(model.SerializeToString(), np.ascontiguousarray(x.transpose(0, 2, 1)))
    data = taken(model, msgspec.structs.replace(CARD, targets=named((2,))), tmp_path)
    np.testing.assert_allclose(run_ort(data, x), expected, rtol=1e-5, atol=1e-6)
    graph = TrainableGraph.load(data)
    np.testing.assert_allclose(graph.forward(x), expected, rtol=1e-4, atol=1e-5)
    assert {t.name for t in graph.layout} == {n for n, v in tensors.items() if v.dtype == np.float32}
    check_gradient(onnx.ModelProto.FromString(data), x)


def test_estimate_that_is_a_product_with_a_vector_has_a_dimension(tmp_path: Path) -> None:
    nodes = [
        N("Flatten", ["x"], ["f"]),
        N("Gemm", ["f", "w"], ["h"]),
        N("Tanh", ["h"], ["t"]),
        N("MatMul", ["t", "v"], ["y"]),
    ]
    model, x = small(nodes, {"w": normal(C * T, 4), "v": normal(4)}, (C, T), ()), normal(3, C, T)
    expected = run_ort(model.SerializeToString(), x)
    data = taken(model, CARD, tmp_path)
    np.testing.assert_allclose(run_ort(data, x), expected[:, None], rtol=1e-5)
    assert TrainableGraph.load(data).output_shape == (1,)
    check_gradient(onnx.ModelProto.FromString(data), x)


def test_equal_vectors_of_two_layers_are_trained_apart(tmp_path: Path) -> None:
    """Exporters merge what was equal in a fresh network."""
    nodes = [
        N("MatMul", ["x", "v"], ["a"], name="/one/MatMul"), N("Tanh", ["x"], ["t"]),
        N("MatMul", ["t", "v"], ["b"], name="/two/MatMul"), N("Concat", ["a", "b"], ["s"], axis=1), HEAD,
    ]  # fmt: skip
    model = small(nodes, {"v": np.ones(C, np.float32), "head": normal(2 * T, 1)}, (T, C), (1,))
    graph = TrainableGraph.load(taken(model, CARD, tmp_path))
    assert sum(t.shape == (C,) for t in graph.layout) == 2


def test_vector_of_an_unrolled_loop_stays_one_and_that_of_experts_does_not(tmp_path: Path) -> None:
    for loop in (True, False):
        nodes, read = [], "x"
        for i in range(5):
            nodes += [N("MatMul", [read, "v"], [f"e{i}"]), N("Softmax", [f"e{i}"], [f"a{i}"], axis=1),
                      N("Unsqueeze", [f"a{i}", "last"], [f"u{i}"]), N("Mul", [f"u{i}", read], [f"h{i}"])]  # fmt: skip
            read = f"h{i}" if loop else "x"
        nodes += [
            N("Sum", [f"h{i}" for i in range(5)], ["h"]),
            N("ReduceMean", ["h"], ["s"], axes=[2], keepdims=0),
            HEAD,
        ]
        tensors = {"v": normal(C), "last": ints(-1), "head": normal(T, 1)}
        graph = TrainableGraph.load(taken(small(nodes, tensors, (T, C), (1,)), CARD, tmp_path))
        assert sum(t.shape == (C,) for t in graph.layout) == (1 if loop else 5)
        check_gradient(
            onnx.ModelProto.FromString(taken(small(nodes, tensors, (T, C), (1,)), CARD, tmp_path)), normal(2, C, T)
        )


def test_ramp_of_moments_is_no_weight(tmp_path: Path) -> None:
    nodes = [N("MatMul", ["x", "w"], ["h"]), N("Softmax", ["h"], ["p"], axis=2), N("MatMul", ["p", "at"], ["s"]), HEAD]
    tensors = {"w": normal(C, 9), "at": np.arange(9, dtype=np.float32), "head": normal(T, 1)}
    graph = TrainableGraph.load(taken(small(nodes, tensors, (T, C), (1,)), CARD, tmp_path))
    assert {t.name for t in graph.layout} == {"w", "head"}
