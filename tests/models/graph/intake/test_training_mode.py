# SPDX-License-Identifier: Apache-2.0
"""Dropout that is always on in a file drops nothing where it decides, and that is said."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from fedge_models.errors import ModelError
from fedge_models.graph.card import Card, Channel, WindowSpec, write_card
from fedge_models.graph.intake import read_model
from fedge_models.graph.intake.training_mode import DROPOUT, MOVED
from fedge_models.graph.trainable import TrainableGraph
from support.graphs import N, normal, run_ort, small

CARD = Card("regress", tuple(Channel(c) for c in "abcd"), WindowSpec(1, 1, 1), ("mean",))


def taken(on: bool, folder: Path) -> bytes:
    nodes = [N("MatMul", ["x", "w"], ["m"]), N("Dropout", ["m", "ratio", "on"], ["y"], name="drop")]
    model = small(nodes, {"w": normal(4, 2), "ratio": np.float32(0.5), "on": np.array(on)}, (4,), (2,), 17)
    write_card(model, CARD)
    (folder / "m.onnx").write_bytes(model.SerializeToString())
    return read_model(folder / "m.onnx")


@pytest.mark.parametrize("on", [True, False])
def test_dropout_that_is_always_on_is_switched_off_and_noted(on: bool, tmp_path: Path) -> None:
    data = taken(on, tmp_path)
    graph, x = TrainableGraph.load(data), normal(3, 4)
    weight = onnx.numpy_helper.to_array(next(t for t in onnx.load_from_string(data).graph.initializer if t.name == "w"))
    np.testing.assert_allclose(run_ort(data, x), x @ weight, rtol=1e-5, atol=1e-6)
    assert [n for n in graph.notes if n.startswith("dropout: ")] == (["dropout: drop " + DROPOUT] if on else [])


@pytest.mark.parametrize(("producer", "mode"), [("pytorch", 1), ("pytorch", 0), ("another", 1)])
def test_statistics_that_tracing_moved_are_said(producer: str, mode: int, tmp_path: Path) -> None:
    names = ["scale", "shift", "mean", "variance"]
    outputs = ["n", "new_mean", "new_variance"] if mode else ["n"]
    nodes = [
        N("BatchNormalization", ["x", *names], outputs, training_mode=mode), N("MatMul", ["n", "w"], ["y"]),
    ]  # fmt: skip
    tensors = {n: 1 + normal(4) ** 2 for n in names} | {"w": normal(4, 2)}
    model = small(nodes, tensors, (4,), (2,), 17)
    model.producer_name = producer
    write_card(model, CARD)
    (tmp_path / "m.onnx").write_bytes(model.SerializeToString())
    data, x = read_model(tmp_path / "m.onnx"), normal(3, 4)
    expected = (x - tensors["mean"]) / np.sqrt(tensors["variance"] + 1e-5) * tensors["scale"] + tensors["shift"]
    np.testing.assert_allclose(run_ort(data, x), expected @ tensors["w"], rtol=1e-4, atol=1e-5)
    assert (MOVED in TrainableGraph.load(data).notes) is (producer == "pytorch" and mode == 1)


def test_random_node_that_the_output_of_the_card_does_not_need_is_no_hindrance(tmp_path: Path) -> None:
    """A VAE whose mean is an output beside its sample is served by the mean."""
    nodes = [
        N("MatMul", ["x", "w"], ["mean"]), N("RandomNormalLike", ["mean"], ["noise"], name="randn"),
        N("Add", ["mean", "noise"], ["y"]),
    ]  # fmt: skip
    model = small(nodes, {"w": normal(4, 2)}, (4,), (2,), 17)
    model.graph.output.append(onnx.helper.make_tensor_value_info("mean", onnx.TensorProto.FLOAT, ["n", 2]))
    path = tmp_path / "m.onnx"
    for output, expected in (("y", r"node 'randn' \(RandomNormalLike\) draws random numbers"), ("mean", "")):
        write_card(model, Card("regress", CARD.channels, CARD.window, ("mean",), output=output))
        path.write_bytes(model.SerializeToString())
        if expected:
            with pytest.raises(ModelError, match=expected):
                read_model(path)
        else:
            assert TrainableGraph.load(read_model(path)).output_shape == (2,)
