# SPDX-License-Identifier: Apache-2.0
"""What layers give are logits, though a fresh head whose bias holds the priors gives rows that add up to one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import onnx
import pytest
from fedge_models.graph.card import Card, Channel, WindowSpec, write_card
from fedge_models.graph.intake import read_model
from fedge_models.graph.trainable import TrainableGraph
from support.graphs import N, ints, normal, run_ort, small

CARD = Card(
    "classify", (Channel("a"), Channel("b")), WindowSpec(1, 8, 1), labels=("x", "y", "z"), layout="channels_first"
)
PRIORS = np.array([0.7, 0.2, 0.1], np.float32)
NONE = np.zeros((5, 3), np.float32)
HIDDEN = [N("Flatten", ["x"], ["f"]), N("Gemm", ["f", "w", "b"], ["h"]), N("Tanh", ["h"], ["t"])]
HEAD = N("Gemm", ["t", "head", "priors"], ["g"])
GIVEN: dict[str, Any] = {
    "w": normal(16, 5), "b": normal(5), "head": NONE, "priors": PRIORS, "one": np.array(1, np.float32),
}  # fmt: skip
ROWS = [N("Transpose", ["x"], ["rows"], perm=[0, 2, 1])]
LOGITS: dict[str, tuple[list[Any], dict[str, Any]]] = {
    "a dense head": ([*HIDDEN, N("Gemm", ["t", "head", "priors"], ["y"])], {}),
    "a head of a convolution, averaged": (
        [
            N("Conv", ["x", "kernel"], ["h"]), N("Tanh", ["h"], ["t"]), N("Conv", ["t", "none", "priors"], ["c"]),
            N("GlobalAveragePool", ["c"], ["g"]), N("Flatten", ["g"], ["y"]),
        ],
        {"kernel": normal(4, 2, 3), "none": np.zeros((3, 4, 1), np.float32)},
    ),
    "a mean over time": (
        [
            *ROWS, N("MatMul", ["rows", "each"], ["h"]), N("Tanh", ["h"], ["t"]), N("MatMul", ["t", "head"], ["m"]),
            N("Add", ["m", "priors"], ["s"]), N("ReduceMean", ["s"], ["y"], axes=[1], keepdims=0),
        ],
        {"each": normal(2, 5)},
    ),
    "a temperature": ([*HIDDEN, HEAD, N("Div", ["g", "one"], ["y"])], {}),
    "limits": ([*HIDDEN, HEAD, N("Clip", ["g", "low", "high"], ["y"])], {"low": np.array(-9.0), "high": np.array(9.0)}),
    "a head for each label": (
        [*HIDDEN, *(N("Gemm", ["t", "row", f"p{i}"], [f"g{i}"]) for i in range(3)),
         N("Concat", ["g0", "g1", "g2"], ["y"], axis=1)],
        {"row": NONE[:, :1], **{f"p{i}": PRIORS[i : i + 1] for i in range(3)}},
    ),
    "two branches": (
        [*HIDDEN, HEAD, N("MatMul", ["f", "wide"], ["m"]), N("Add", ["g", "m"], ["y"])],
        {"wide": np.zeros((16, 3), np.float32)},
    ),
    "an Einsum": (
        [*HIDDEN, N("Einsum", ["t", "head"], ["e"], equation="nf,fc->nc"), N("Add", ["e", "priors"], ["y"])], {},
    ),
    "a BatchNormalization": (
        [*HIDDEN, N("MatMul", ["t", "last"], ["m"]),
         N("BatchNormalization", ["m", "scale", "priors", "mean", "ones"], ["y"])],
        {"last": normal(5, 3), "scale": NONE[0], "mean": normal(3), "ones": np.ones(3, np.float32)},
    ),
    "a head over gates that add up to one": (
        [*HIDDEN[:2], N("Softmax", ["h"], ["t"]), N("Gemm", ["t", "head", "priors"], ["y"])], {},
    ),
    "a head that was trained a little": (
        [*HIDDEN, N("Gemm", ["t", "cancelling", "priors"], ["y"])],
        {"cancelling": np.outer(normal(5), [0.01, -0.004, -0.006]).astype(np.float32)},
    ),
}  # fmt: skip
TWO = [
    *HIDDEN[:1], N("Gemm", ["f", "v", "c"], ["h"]), N("Softmax", ["h"], ["s"]), N("Gemm", ["f", "v2", "c"], ["h2"]),
    N("Softmax", ["h2"], ["s2"]),
]  # fmt: skip
SURE = {"v": normal(16, 3), "v2": normal(16, 3), "c": normal(3), "axis": ints(1), "half": np.array(0.5, np.float32)}
PROBABILITIES: dict[str, list[Any]] = {
    "labels that are mixed up": [*TWO[:3], N("MatMul", ["s", "noise"], ["y"])],
    "a mean of two": [*TWO, N("Add", ["s", "s2"], ["sum"]), N("Mul", ["sum", "half"], ["y"])],
    "a gate between two": [
        *TWO, N("Gemm", ["f", "gate"], ["z"]), N("Sigmoid", ["z"], ["p"]), N("Sub", ["one", "p"], ["q"]),
        N("Mul", ["s", "p"], ["left"]), N("Mul", ["s2", "q"], ["right"]), N("Add", ["left", "right"], ["y"]),
    ],
    "a quotient": [
        *TWO[:2], N("Softplus", ["h"], ["e"]), N("ReduceSum", ["e", "axis"], ["sum"], keepdims=1),
        N("Div", ["e", "sum"], ["y"]),
    ],
}  # fmt: skip
NOISE = np.array([[0.8, 0.1, 0.1], [0.1, 0.8, 0.1], [0.05, 0.05, 0.9]], np.float32)


def taken(nodes: list[Any], tensors: dict[str, Any], folder: Path, card: Card = CARD) -> tuple[onnx.ModelProto, bytes]:
    read = {n for node in nodes for n in node.input}
    stored = {k: np.asarray(v, v.dtype if v.dtype == np.int64 else np.float32) for k, v in tensors.items() if k in read}
    model = small(nodes, stored, (2, 8), (3,))
    write_card(model, card)
    (folder / "m.onnx").write_bytes(model.SerializeToString())
    data = read_model(folder / "m.onnx")
    (folder / "again.onnx").write_bytes(data)
    assert read_model(folder / "again.onnx") == data  # both ends hash it
    return model, data


@pytest.mark.parametrize("task", ["classify", "multilabel"])
@pytest.mark.parametrize("name", LOGITS)
def test_what_layers_give_are_logits(name: str, task: str, tmp_path: Path) -> None:
    nodes, tensors = LOGITS[name]
    model, data = taken(nodes, GIVEN | tensors, tmp_path, msgspec.structs.replace(CARD, task=task))
    x = normal(6, 2, 8)
    graph = TrainableGraph.load(data)
    assert not graph.gives_probabilities and not any(" of its probabilities" in n for n in graph.notes)
    np.testing.assert_allclose(graph.logits(x), run_ort(model.SerializeToString(), x), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", PROBABILITIES)
def test_what_mixes_probabilities_gives_such(name: str, tmp_path: Path) -> None:
    tensors = GIVEN | SURE | {"noise": NOISE, "gate": normal(16, 1)}
    model, data = taken(PROBABILITIES[name], tensors, tmp_path)
    x = normal(6, 2, 8)
    assert TrainableGraph.load(data).gives_probabilities
    np.testing.assert_allclose(run_ort(data, x), run_ort(model.SerializeToString(), x), rtol=1e-4, atol=1e-5)
