# SPDX-License-Identifier: Apache-2.0
"""Functions of a file take the place of their calls; one with the name of an operator must give what it gives."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from fedge_models.errors import ModelError
from fedge_models.graph.card import Card, Channel, WindowSpec, write_card
from fedge_models.graph.intake import read_model
from fedge_models.graph.trainable import TrainableGraph
from onnx import helper
from support.graphs import N, normal, run_ort, small

CARD = Card("regress", tuple(Channel(c) for c in "abcd"), WindowSpec(1, 1, 1))
W = {"w": normal(4, 5), "v": normal(5, 1)}


def saved(
    folder: Path, *functions: tuple[str, str, list[onnx.NodeProto]], call: tuple[str, str] = ("", "Relu")
) -> onnx.ModelProto:
    """A file with functions from a to o: domain, name, nodes."""
    nodes = [
        N("MatMul", ["x", "w"], ["h"]), N(call[1], ["h"], ["r"], domain=call[0]), N("MatMul", ["r", "v"], ["y"]),
    ]  # fmt: skip
    model = small(nodes, W, (4,), (1,))
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("own", 1)]
    model.opset_import.append(opsets[1])
    model.functions.extend(helper.make_function(d, n, ["a"], ["o"], body, opsets) for d, n, body in functions)
    write_card(model, CARD)
    (folder / "m.onnx").write_bytes(model.SerializeToString())
    return model


def test_operator_and_function_of_one_name_that_differ_are_refused(tmp_path: Path) -> None:
    saved(tmp_path, ("", "Relu", [N("Tanh", ["a"], ["o"])]))
    with pytest.raises(ModelError, match=r"a function of its own for 'Relu', and that is an operator.* differ"):
        read_model(tmp_path / "m.onnx")


def test_function_inside_another_one_is_no_way_around(tmp_path: Path) -> None:
    saved(
        tmp_path,
        ("", "Relu", [N("Tanh", ["a"], ["o"])]),
        ("own", "Step", [N("Relu", ["a"], ["o"])]),
        call=("own", "Step"),
    )
    with pytest.raises(ModelError, match="a function of its own for 'Relu'"):
        read_model(tmp_path / "m.onnx")


@pytest.mark.parametrize(
    ("domain", "name", "body"),
    [
        ("", "Relu", [N("Max", ["a", "zero"], ["o"])]),  # the operator, written out
        ("own", "Relu", [N("Tanh", ["a"], ["o"])]),  # another domain: no operator
    ],
)
def test_function_that_is_clear_takes_the_place_of_its_calls(
    domain: str, name: str, body: list[onnx.NodeProto], tmp_path: Path
) -> None:
    zero = N("Constant", [], ["zero"], value_float=0.0)
    model = saved(tmp_path, (domain, name, [zero, *body]), call=(domain, name))
    data = read_model(tmp_path / "m.onnx")
    made, x = TrainableGraph.load(data), normal(6, 4)
    np.testing.assert_allclose(made.forward(x), run_ort(model.SerializeToString(), x), rtol=1e-5, atol=1e-6)
    assert not onnx.ModelProto.FromString(data).functions
