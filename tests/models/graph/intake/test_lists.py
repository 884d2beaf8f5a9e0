# SPDX-License-Identifier: Apache-2.0
"""Lists of tensors, as PyTorch writes them for scripted modules, become the tensors that constants choose from them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from fedge_models import load
from fedge_models.errors import ModelError
from fedge_models.graph.card import Card, Channel, WindowSpec, write_card
from onnx import TensorProto, helper
from support.graphs import N, check_gradient, ints, normal, run_ort, small

CARD = Card("regress", tuple(Channel(c) for c in "abc"), WindowSpec(1, 4, 1))
HEAD = [N("Flatten", ["m"], ["f"]), N("MatMul", ["f", "w"], ["y"])]
SLICES = N("SplitToSequence", ["x"], ["slices"], axis=1, keepdims=0)


def body(*nodes: onnx.NodeProto) -> onnx.GraphProto:
    """Of a SequenceMap, from `one` to `other`."""
    ends = [helper.make_tensor_value_info(n, TensorProto.FLOAT, None) for n in ("one", "other")]
    weight = onnx.numpy_helper.from_array(normal(4, 4), "inner")
    return helper.make_graph([*nodes], "each", ends[:1], ends[1:], [weight])


def branch(value: str) -> onnx.GraphProto:
    out = helper.make_tensor_value_info(f"{value}.out", TensorProto.FLOAT, None)
    return helper.make_graph([N("MatMul", ["one", value], [f"{value}.out"])], value, [], [out])


SHAPE = [N("Shape", ["one"], ["sizes"]), N("Size", ["sizes"], ["rank"]), N("Equal", ["rank", "two"], ["flat"])]
CASES = {  # nodes, and how many values of the head
    "made and joined": ([N("SequenceConstruct", ["x", "x"], ["l"]), N("ConcatFromSequence", ["l"], ["m"], axis=2)], 24),
    "stacked": (
        [N("SequenceConstruct", ["x", "x"], ["l"]), N("ConcatFromSequence", ["l"], ["m"], axis=-1, new_axis=1)], 24),
    "slices of a window": ([SLICES, N("SequenceAt", ["slices", "last"], ["m"])], 4),
    "slices with an input left out": (
        [N("SplitToSequence", ["x", ""], ["l"], axis=1, keepdims=0), N("SequenceAt", ["l", "one"], ["m"])], 4),
    "slices that keep their axis": (
        [N("SplitToSequence", ["x"], ["l"], axis=1), N("ConcatFromSequence", ["l"], ["m"], axis=2)], 12),
    "parts of a size": (
        [N("SplitToSequence", ["x", "two"], ["l"], axis=1), N("SequenceAt", ["l", "one"], ["m"])], 4),
    "parts of each size": (
        [N("SplitToSequence", ["x", "parts"], ["l"], axis=2), N("SequenceAt", ["l", "last"], ["m"])], 9),
    "put in, taken out": (
        [N("SequenceEmpty", [], ["e"]), N("SequenceInsert", ["e", "x"], ["a"]), N("Neg", ["x"], ["n"]),
         N("SequenceInsert", ["a", "n", "zero"], ["b"]), N("SequenceErase", ["b", "one"], ["c"]),
         N("Identity", ["c"], ["d"]), N("ConcatFromSequence", ["d"], ["m"], axis=1)], 12),
    "counted": (
        [SLICES, N("SequenceLength", ["slices"], ["n"]), N("Sub", ["n", "two"], ["at"]),
         N("SequenceAt", ["slices", "at"], ["m"])], 4),
    "each of them": (
        [SLICES, N("SequenceMap", ["slices"], ["l"], body=body(N("MatMul", ["one", "inner"], ["other"]))),
         N("ConcatFromSequence", ["l"], ["m"], axis=1)], 12),
    "each with a branch": (
        [SLICES, N("SequenceMap", ["slices"], ["l"], body=body(
            *SHAPE, N("If", ["flat"], ["other"], then_branch=branch("v"), else_branch=branch("u")))),
         N("ConcatFromSequence", ["l"], ["m"], axis=1, new_axis=1)], 12),
    "there, although it may be absent": (
        [N("Optional", ["x"], ["o"]), N("OptionalGetElement", ["o"], ["m"])], 12),
}  # fmt: skip
NUMBERS = {"last": ints(-1), "one": ints(1), "two": ints(2), "zero": ints(0), "parts": ints(1, 3)}
MORE = {"u": normal(4, 2), "v": normal(4, 4)}


def saved(nodes: list[onnx.NodeProto], width: int, folder: Path, count: int = 2) -> onnx.ModelProto:
    read = {n for node in nodes for n in node.input}
    inner = {n for node in nodes for a in node.attribute for each in a.g.node for n in (*each.input,)}
    inner |= {"u", "v"} if any(node.op_type == "SequenceMap" for node in nodes) else set()
    numbers = {k: v.reshape(()) if k != "parts" else v for k, v in NUMBERS.items() if k in read | inner}
    more = {k: v for k, v in MORE.items() if k in inner}
    model = small([*nodes, *HEAD], {**numbers, **more, "w": normal(width, count)}, (3, 4), (count,), 18)
    write_card(model, CARD)
    (folder / "net.onnx").write_bytes(model.SerializeToString())
    return model


@pytest.mark.parametrize("name", CASES)
def test_list_becomes_its_tensors_and_the_graph_gives_the_same(name: str, tmp_path: Path) -> None:
    nodes, width = CASES[name]
    model, x = saved(nodes, width, tmp_path), normal(5, 3, 4)
    loaded = load(tmp_path / "net.onnx")
    made = onnx.ModelProto.FromString(loaded.to_bytes())
    assert not any("Sequence" in n.op_type or "Optional" in n.op_type for n in made.graph.node)
    assert any(n.startswith("lists: ") for n in loaded.graph.notes)
    np.testing.assert_allclose(run_ort(loaded.to_bytes(), x), run_ort(model.SerializeToString(), x), rtol=1e-5)
    np.testing.assert_allclose(loaded.graph.forward(x), run_ort(model.SerializeToString(), x), rtol=1e-4, atol=1e-5)
    check_gradient(made, x)


def test_list_that_a_loop_makes_is_known_once_the_loop_is_its_steps(tmp_path: Path) -> None:
    """A scripted `for`, which appends to a list."""
    ins = [helper.make_tensor_value_info("i", TensorProto.INT64, []), helper.make_tensor_value_info("go", 9, [])]
    kind = helper.make_sequence_type_proto(helper.make_tensor_type_proto(TensorProto.FLOAT, None))
    lists = [helper.make_value_info(n, kind) for n in ("so_far", "longer")]
    steps = [
        N("Identity", ["go"], ["on"]),
        N("Gather", ["x", "i"], ["slice"], axis=2),
        N("SequenceInsert", ["so_far", "slice"], ["longer"]),
    ]
    inner = helper.make_graph(steps, "body", [*ins, lists[0]], [helper.make_tensor_value_info("on", 9, []), lists[1]])
    nodes = [
        N("SequenceEmpty", [], ["none"]),
        N("Loop", ["two", "", "none"], ["all"], body=inner, name="append"),
        N("ConcatFromSequence", ["all"], ["m"], axis=1),
    ]
    model, x = saved(nodes, 6, tmp_path), normal(5, 3, 4)
    loaded = load(tmp_path / "net.onnx")
    np.testing.assert_allclose(loaded.graph.forward(x), run_ort(model.SerializeToString(), x), rtol=1e-4, atol=1e-5)


def test_list_with_a_place_for_each_sample_is_refused(tmp_path: Path) -> None:
    nodes = [
        N("SplitToSequence", ["x"], ["samples"], axis=0, name="take apart"),
        N("ConcatFromSequence", ["samples"], ["m"], axis=0),
    ]
    saved(nodes, 12, tmp_path)
    with pytest.raises(ModelError, match=r"node 'take apart' \(SplitToSequence\) handles a list of tensors"):
        load(tmp_path / "net.onnx")
