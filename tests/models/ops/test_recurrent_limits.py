# SPDX-License-Identifier: Apache-2.0
"""What recurrent layers are not trained with is refused in words, as their page says; frozen, it may stay."""

from __future__ import annotations

from typing import Any

import onnx
import pytest
from fedge_models.errors import ModelError
from support.graphs import N, ints, load, normal, run_ort, small

GATES = {"GRU": 3, "LSTM": 4, "RNN": 1}
CASES = [
    ("LSTM", {"input_forget": 1}, "input_forget: not supported"),
    ("LSTM", {"clip": 1.0}, "clip: not supported"),
    ("LSTM", {"activations": ["Sigmoid", "Relu", "Tanh"]}, "Sigmoid, Relu, Tanh are not supported"),
    ("GRU", {"activations": ["HardSigmoid", "Tanh"]}, "HardSigmoid, Tanh are not supported"),
    ("RNN", {"activations": ["Affine"]}, "expected Tanh or Relu or Sigmoid. Build the layer with these, or freeze it"),
]


def recurrent(layer: str, **attributes: Any) -> onnx.ModelProto:
    nodes = [
        N("Transpose", ["x"], ["t"], perm=[2, 0, 1]),
        N(layer, ["t", "body.w", "body.r"], ["", "h"], hidden_size=4, **attributes),
        N("Squeeze", ["h", "first"], ["f"]),
        N("Gemm", ["f", "head.w"], ["y"]),
    ]
    size = 4 * GATES[layer]
    tensors = {"body.w": normal(1, size, 2), "body.r": normal(1, size, 4), "first": ints(0), "head.w": normal(4, 3)}
    return small(nodes, tensors, (2, 6), (3,))


@pytest.mark.parametrize(("layer", "attributes", "words"), CASES)
def test_attribute_that_is_not_trained_is_refused_by_its_name(
    layer: str, attributes: dict[str, Any], words: str
) -> None:
    with pytest.raises(ModelError, match=words):
        load(recurrent(layer, **attributes)).probe()


@pytest.mark.parametrize(("layer", "attributes", "words"), CASES)
def test_it_may_stand_in_the_frozen_part(layer: str, attributes: dict[str, Any], words: str) -> None:
    model, x = recurrent(layer, **attributes), normal(5, 2, 6)
    graph = load(model, "head.*")
    assert graph.trunk is not None
    assert abs(graph.forward(x) - run_ort(model.SerializeToString(), x)).max() < 1e-5
