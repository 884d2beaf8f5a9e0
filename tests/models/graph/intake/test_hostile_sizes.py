# SPDX-License-Identifier: Apache-2.0
"""Small files that would make much of little when they are taken in: refused, or taken in in bounded time."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from fedge_models.errors import ModelError
from fedge_models.graph.card import Card, Channel, InputSpec, WindowSpec
from fedge_models.graph.intake import read_model
from fedge_models.graph.intake.inputs import becomes_float
from fedge_models.graph.intake.order import in_order
from fedge_models.graph.intake.transposed import tie_transposed
from fedge_models.graph.trainable import TrainableGraph
from onnx import TensorProto, helper
from support.graphs import N, normal, run_ort, small

CARD = Card("regress", tuple(Channel(c) for c in "abcd"), WindowSpec(1, 1, 1))
PRODUCT = N("MatMul", ["last", "w"], ["y"])


def taken(model: onnx.ModelProto, folder: Path, card: Card = CARD) -> bytes:
    (folder / "m.onnx").write_bytes(model.SerializeToString())
    return read_model(folder / "m.onnx", card)


def doubling(levels: int) -> onnx.ModelProto:
    """A function that calls another one twice, and so on."""
    model = small([N("f0", ["x"], ["last"], domain="own"), PRODUCT], {"w": normal(4, 1)}, (4,), (1,))
    imports = [helper.make_opsetid("", 17), helper.make_opsetid("own", 1)]
    for i in range(levels):
        twice = [N(f"f{i + 1}", ["a"], ["t"], domain="own"), N(f"f{i + 1}", ["t"], ["b"], domain="own")]
        body = twice if i < levels - 1 else [N("Identity", ["a"], ["b"])]
        model.functions.append(helper.make_function("own", f"f{i}", ["a"], ["b"], body, imports))
    model.opset_import.append(imports[1])
    return model


def test_functions_that_call_functions_twice_are_refused_before_they_are_written_out(tmp_path: Path) -> None:
    assert taken(doubling(4), tmp_path)
    with pytest.raises(
        ModelError, match=r"has 549,755,813,889 nodes with those of its functions, expected at most 50,000"
    ):
        taken(doubling(40), tmp_path)


def test_functions_that_call_each_other_in_a_circle_are_refused(tmp_path: Path) -> None:
    model = doubling(3)
    model.functions[2].node[0].op_type, model.functions[2].node[0].domain = "f0", "own"
    with pytest.raises(ModelError, match="its own functions cannot be put in the place of their calls"):
        taken(model, tmp_path)


@pytest.mark.parametrize("dims", [(1 << 30, 4), ("n", 1 << 40), ("n", 1 << 20, 1 << 20)], ids=str)
def test_inputs_that_are_too_large_to_be_tried_are_refused(dims: tuple[int | str, ...], tmp_path: Path) -> None:
    model = small([N("Identity", ["x"], ["last"]), PRODUCT], {"w": normal(4, 1)}, (4,), (1,))
    model.graph.input[0].CopyFrom(helper.make_tensor_value_info("x", TensorProto.FLOAT, dims))
    with pytest.raises(ModelError, match=r"input 'x' declares \(.*expected at most 16,777,216"):
        taken(model, tmp_path)


def test_dimension_of_minus_one_is_open(tmp_path: Path) -> None:
    """As Paddle writes it."""
    model = small([N("Identity", ["x"], ["last"]), PRODUCT], {"w": normal(4, 1)}, (4,), (1,))
    x = normal(3, 4)
    expected = run_ort(model.SerializeToString(), x)
    for value in (model.graph.input[0], model.graph.output[0]):
        value.type.tensor_type.shape.dim[0].dim_value = -1
    data = taken(model, tmp_path)
    np.testing.assert_allclose(run_ort(data, x), expected, rtol=1e-6)
    assert TrainableGraph.load(data).output_shape == (1,)


def test_sparse_tensors_are_bounded_together(tmp_path: Path) -> None:
    model = small([N("Identity", ["x"], ["last"]), PRODUCT], {"w": normal(4, 1)}, (4,), (1,))
    for i in range(3):
        sparse = model.graph.sparse_initializer.add(dims=[1 << 12, 1 << 13])
        sparse.values.CopyFrom(onnx.numpy_helper.from_array(np.ones(1, np.float32), f"s{i}"))
        sparse.indices.CopyFrom(onnx.numpy_helper.from_array(np.zeros(1, np.int64), "at"))
    with pytest.raises(ModelError, match=r"sparse tensor 's2' claims the shape .*at most 67,108,864 values in all"):
        taken(model, tmp_path)


def test_copies_for_many_readers_are_refused_before_they_fill_the_memory(tmp_path: Path) -> None:
    nodes = [N("MatMul", ["x", "up"], ["v0"])]
    nodes += [N("Add", [f"v{i}", "row"], [f"v{i + 1}" if i < 299 else "last"]) for i in range(300)]
    tensors = {"up": normal(4, 1 << 18), "row": np.ones((1, 1 << 18), np.float32), "w": normal(1 << 18, 1)}
    with pytest.raises(ModelError, match=r"row is one tensor for 300 Add.*shared = \[\"row\"\]"):
        taken(small([*nodes, PRODUCT], tensors, (4,), (1,)), tmp_path)


def test_integers_that_take_many_ways_to_a_cast() -> None:
    """2^60 ways."""
    nodes = []
    for i in range(60):
        nodes += [N("Identity", [f"k{i}"], [f"a{i}"]), N("Squeeze", [f"k{i}"], [f"b{i}"])]
        nodes.append(N("Concat", [f"a{i}", f"b{i}"], [f"k{i + 1}"], axis=0))
    graph = helper.make_graph([*nodes, N("Cast", ["k60"], ["y"], to=1)], "g", [], [])
    assert becomes_float(graph, "k0")
    graph.node.append(N("Add", ["a7", "a7"], ["z"]))
    assert not becomes_float(graph, "k0")


def test_integers_that_are_cast_after_more_steps_than_calls_may_be_nested(tmp_path: Path) -> None:
    nodes = [N("Identity", [f"k{i}" if i else "k"], [f"k{i + 1}"]) for i in range(1500)]
    ends = [N("Cast", ["k1500"], ["f"], to=1), N("Add", ["x", "f"], ["last"])]
    model = small([*nodes, *ends, PRODUCT], {"w": normal(4, 1)}, (4,), (1,))
    model.graph.input.append(helper.make_tensor_value_info("k", TensorProto.INT64, ["n", 1]))
    channels = tuple(Channel(c) for c in "abcde")
    groups = (InputSpec("x", tuple("abcd")), InputSpec("k", ("e",)))
    assert taken(model, tmp_path, Card("regress", channels, CARD.window, inputs=groups))


def used(step: Callable[[onnx.ModelProto, Card, str], bool], model: onnx.ModelProto) -> float:
    """CPU seconds."""
    before = time.process_time()
    step(model, CARD, "m")
    return time.process_time() - before


def test_names_and_matrices_of_many_nodes_are_compared_in_bounded_time() -> None:
    """Pairs of them took a minute."""
    nodes = [N("MatMul", [f"v{i}" if i else "x", f"m{i}"], [f"v{i + 1}"], name="one") for i in range(10_000)]
    model = small(nodes, {f"m{i}": normal(2, 2) for i in range(10_000)}, (2,), (2,))
    assert used(in_order, model) < 10
    assert len({n.name for n in model.graph.node}) == 10_000
    assert used(tie_transposed, model) < 20
