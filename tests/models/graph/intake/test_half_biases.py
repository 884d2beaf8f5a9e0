# SPDX-License-Identifier: Apache-2.0
"""A recurrent layer with one bias, as in Keras, learns as one: the zeros that ONNX wants beside it stay zero."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from fedge_models.graph.card import Card, Channel, WindowSpec, write_card
from fedge_models.graph.intake import read_model
from fedge_models.graph.trainable import TrainableGraph
from support.graphs import N, check_gradient, normal, run_ort, small

CARD = Card("regress", (Channel("a"), Channel("b")), WindowSpec(1, 5, 1), layout="channels_first")
H = 3
GATES = {"LSTM": 4, "GRU": 3, "RNN": 1}


def network(op: str, first: np.ndarray, second: np.ndarray, producer: str, **attributes: object) -> onnx.ModelProto:
    """One layer over windows (2, 5), both directions; halves (2, gates × H)."""
    nodes = [
        N("Transpose", ["x"], ["t"], perm=[2, 0, 1]),
        N(op, ["t", "w", "r", "b"], ["", "last"], hidden_size=H, direction="bidirectional", **attributes),
        N("ReduceMean", ["last"], ["m"], axes=[0], keepdims=0),
        N("MatMul", ["m", "v"], ["y"]),
    ]
    tensors = {"w": normal(2, GATES[op] * H, 2), "r": normal(2, GATES[op] * H, H), "v": normal(H, 1)}
    model = small(nodes, {**tensors, "b": np.concatenate([first, second], axis=1)}, (2, 5), (1,))
    model.producer_name = producer
    return model


def taken(model: onnx.ModelProto, folder: Path) -> bytes:
    write_card(model, CARD)
    (folder / "m.onnx").write_bytes(model.SerializeToString())
    data = read_model(folder / "m.onnx")
    (folder / "again.onnx").write_bytes(data)
    assert read_model(folder / "again.onnx") == data
    return data


@pytest.mark.parametrize("op", GATES)
def test_zeros_beside_the_only_bias_stay_zero(op: str, tmp_path: Path) -> None:
    gates = GATES[op] * H
    model, x = network(op, normal(2, gates), np.zeros((2, gates), np.float32), "tf2onnx"), normal(4, 2, 5)
    data = taken(model, tmp_path)
    graph = TrainableGraph.load(data)
    assert {t.name: t.shape for t in graph.layout}["b"] == (2, gates)
    assert "b.zero" not in {t.name for t in graph.layout} and any("second bias of a layer" in n for n in graph.notes)
    np.testing.assert_allclose(run_ort(data, x), run_ort(model.SerializeToString(), x), rtol=1e-5, atol=1e-6)
    check_gradient(onnx.ModelProto.FromString(data), x)


@pytest.mark.parametrize(("producer", "first", "second"), [("tf2onnx", 1, 1), ("pytorch", 1, 0), ("other", 0, 0)])
def test_two_biases_are_two(producer: str, first: int, second: int, tmp_path: Path) -> None:
    model = network("LSTM", first * normal(2, 4 * H), second * normal(2, 4 * H), producer)
    names = {t.name for t in TrainableGraph.load(taken(model, tmp_path)).layout}
    assert not any(n.endswith(".zero") for n in names)
    assert sum(t.stop - t.start for t in TrainableGraph.load(taken(model, tmp_path)).layout if t.name != "v") == (
        2 * 4 * H * (2 + H + 2)
    )


@pytest.mark.parametrize(("op", "attributes", "split"), [("RNN", {}, True), ("GRU", {"linear_before_reset": 1}, False)])
def test_fresh_layer_of_keras_has_one_bias_unless_it_resets_after(
    op: str, attributes: dict[str, int], split: bool, tmp_path: Path
) -> None:
    zeros = np.zeros((2, GATES[op] * H), np.float32)
    graph = TrainableGraph.load(taken(network(op, zeros, zeros, "tf2onnx", **attributes), tmp_path))
    assert ({t.name: t.shape for t in graph.layout}["b"] == zeros.shape) == split
