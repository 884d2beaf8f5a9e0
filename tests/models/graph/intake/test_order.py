# SPDX-License-Identifier: Apache-2.0
"""Files whose nodes stand in another order than they are calculated in, or share a name, are put right."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import onnx
import pytest
from fedge_models.errors import ModelError
from fedge_models.graph.card import write_card
from fedge_models.graph.intake import read_model
from fedge_models.graph.notes import notes
from fedge_models.graph.trainable import TrainableGraph
from support.graphs import N, normal, run_ort, small
from support.refused_files import CARD

NODES = [
    N("MatMul", ["x", "w"], ["m"], name="same"),
    N("Tanh", ["m"], ["t"], name="same"),
    N("Mul", ["t", "m"], ["p"], name="same.2"),
    N("Add", ["p", "t"], ["y"], name="same"),
]
SAID = "nodes: put into the order in which they are calculated"


def file(order: tuple[int, ...], named: bool = False) -> onnx.ModelProto:
    model = small([NODES[i] for i in order], {"w": WEIGHT}, (4,), (2,))
    for node in model.graph.node:
        node.name = node.name if named else ""
    write_card(model, CARD)
    return model


WEIGHT = normal(4, 2)


def taken(model: onnx.ModelProto, folder: Path) -> bytes:
    (folder / "m.onnx").write_bytes(model.SerializeToString())
    return read_model(folder / "m.onnx")


@pytest.mark.parametrize("order", [*itertools.permutations(range(4))], ids=str)
def test_every_order_becomes_the_same_file(order: tuple[int, ...], tmp_path: Path) -> None:
    data, x = taken(file(order), tmp_path), normal(3, 4)
    made = onnx.ModelProto.FromString(data)
    assert (SAID in notes(made)) == (order != (0, 1, 2, 3))
    assert [n.op_type for n in made.graph.node] == ["MatMul", "Tanh", "Mul", "Add"]
    m = x @ WEIGHT
    np.testing.assert_allclose(TrainableGraph.load(data).forward(x), np.tanh(m) * m + np.tanh(m), rtol=1e-5)


def test_nodes_of_one_name_get_names_of_their_own(tmp_path: Path) -> None:
    data, x = taken(file((0, 1, 2, 3), named=True), tmp_path), normal(3, 4)
    names = [n.name for n in onnx.ModelProto.FromString(data).graph.node]
    assert names == ["same", "same.3", "same.2", "same.4"]
    np.testing.assert_allclose(run_ort(data, x), TrainableGraph.load(data).forward(x), rtol=1e-5)


def test_nodes_that_read_each_other_in_a_circle_stay_refused(tmp_path: Path) -> None:
    model = file((0, 1, 2, 3))
    model.graph.node[1].input[0] = "p"
    with pytest.raises(ModelError, match="which nothing before it writes"):
        taken(model, tmp_path)
