# SPDX-License-Identifier: Apache-2.0
"""Which graphs are chains of dense layers."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from fedge_models.graph import zoo
from fedge_models.graph.card import Card, Channel, WindowSpec
from support.graphs import RAW, N, ints, load, normal, small

WINDOWS = Card("anomaly", (Channel("a"), Channel("b")), WindowSpec(10, 24, 8))
TENSORS = {"w": normal(5, 4), "b": normal(4), "v": normal(3, 4), "c": normal(3)}
FIRST, LAST = N("Gemm", ["x", "w", "b"], ["h"]), N("Gemm", ["a", "v", "c"], ["y"], transB=1)


def chain_of(*nodes: Any, trainable: str | None = None, **tensors: np.ndarray) -> list[tuple[Any, ...]]:
    model = small(list(nodes), {**TENSORS, **tensors}, (5,), (3,))
    return [(n.weight.name, n.bias and n.bias.name, n.swapped, n.activation) for n in load(model, trainable).chain]


def test_what_is_a_chain() -> None:
    first, last = ("w", "b", False), ("v", "c", True, "")
    assert chain_of(FIRST, N("Relu", ["h"], ["a"]), LAST) == [(*first, "Relu"), last]
    assert chain_of(FIRST, N("Tanh", ["h"], ["a"]), LAST) == [(*first, "Tanh"), last]
    assert chain_of(FIRST, N("Identity", ["h"], ["a"]), LAST) == []  # between layers nothing is reshaped
    keras = [N("MatMul", ["x", "w"], ["m"]), N("Add", ["b", "m"], ["h"]), N("Sigmoid", ["h"], ["a"]), LAST]
    assert chain_of(*keras) == [(*first, "Sigmoid"), last]
    assert [n.outputs for n in load(zoo.autoencoder(WINDOWS, (2, 24), (6, 3))).chain] == [6, 3, 6, 48]
    assert not load(zoo.cnn1d(RAW)).chain


@pytest.mark.parametrize(
    "nodes",
    [
        [FIRST, N("Elu", ["h"], ["a"]), LAST],
        [FIRST, N("Relu", ["h"], ["r"]), N("Tanh", ["r"], ["a"]), LAST],
        [FIRST, N("Relu", ["h"], ["r"]), N("Add", ["r", "h"], ["a"]), LAST],
        [N("Gemm", ["x", "w", "b"], ["h"], alpha=2.0), N("Relu", ["h"], ["a"]), LAST],
        [N("Gemm", ["x", "w", "b"], ["h"], beta=2.0), N("Relu", ["h"], ["a"]), LAST],
        [N("Relu", ["x"], ["r"]), N("Gemm", ["r", "w", "b"], ["a"]), LAST],
        [FIRST, N("Relu", ["h"], ["a"]), N("Gemm", ["a", "v", "c"], ["z"], transB=1), N("Sigmoid", ["z"], ["y"])],
        [FIRST, N("Mul", ["h", "b"], ["a"]), LAST],
        [N("Gemm", ["x", "w", "one"], ["h"]), N("Relu", ["h"], ["a"]), LAST],
        [FIRST, N("Dropout", ["h"], ["a"]), LAST],
    ],
    ids=["elu", "twice", "residual", "alpha", "beta", "first", "behind", "scaled", "scalar bias", "dropout"],
)
def test_what_is_not(nodes: list[Any]) -> None:
    assert chain_of(*nodes, trainable="*,one", one=np.ones(1, np.float32)) == []


def test_a_layer_that_is_not_trained_is_in_no_chain() -> None:
    nodes = [FIRST, N("Relu", ["h"], ["a"]), LAST]
    for trainable in ("w,v,c", "w,b,v", "v,c"):
        assert chain_of(*nodes, trainable=trainable) == []


def test_dense_layers_over_time_are_in_no_chain() -> None:
    tensors = {"w": normal(5, 4), "b": normal(4)}
    assert not load(small([N("MatMul", ["x", "w"], ["m"]), N("Add", ["m", "b"], ["y"])], tensors, (6, 5), (6, 4))).chain
    turned = [N("Transpose", ["x"], ["t"], perm=[0, 2, 1]), N("Flatten", ["t"], ["f"]), N("Gemm", ["f", "w"], ["y"])]
    assert not load(small(turned, {"w": normal(30, 3)}, (6, 5), (3,))).chain


def test_rows_may_be_reshaped_at_the_ends() -> None:
    model: onnx.ModelProto = small(
        [N("Reshape", ["x", "s"], ["f"]), N("Gemm", ["f", "w"], ["g"]), N("Reshape", ["g", "t"], ["y"])],
        {"s": ints(-1, 30), "t": ints(-1, 2, 4), "w": normal(30, 8)},
        (6, 5),
        (2, 4),
    )
    assert [(n.inputs, n.outputs) for n in load(model).chain] == [(30, 8)]
