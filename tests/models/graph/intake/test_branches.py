# SPDX-License-Identifier: Apache-2.0
"""An If that only shapes decide becomes the branch that runs; one that values or the batch decide is refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from fedge_models.errors import ModelError
from fedge_models.graph.card import write_card
from fedge_models.graph.intake import read_model
from fedge_models.graph.trainable import TrainableGraph
from onnx import TensorProto, helper
from support.graphs import N, check_gradient, fitting, ints, normal, run_ort, small

REFUSED = r"\(If\) has a graph inside, a branch or a loop"


def branch(name: str, *nodes: onnx.NodeProto, output: str, **tensors: np.ndarray) -> onnx.GraphProto:
    value = helper.make_tensor_value_info(output, TensorProto.FLOAT, None)
    stored = [onnx.numpy_helper.from_array(v, k) for k, v in tensors.items()]
    return helper.make_graph(nodes, name, [], [value], stored)


def network(*before: onnx.NodeProto, then: onnx.GraphProto, other: onnx.GraphProto) -> onnx.ModelProto:
    """What `before` computes as c decides; the result goes through a layer."""
    nodes = [
        N("Tanh", ["x"], ["t"]),
        *before,
        N("If", ["c"], ["z"], name="/If", then_branch=then, else_branch=other),
        N("ReduceMean", ["z"], ["m"], axes=[2], keepdims=0),
        N("Gemm", ["m", "head.weight"], ["y"], transB=1),
    ]
    tensors = {"head.weight": normal(2, 3), "two": ints(2), "zero": ints(0), "six": ints(6), "half": normal(1)}
    return small(nodes, tensors, (3, 8), (2,))


def by_shape(size: str = "two", limit: str = "six") -> list[onnx.NodeProto]:
    """Whether a dimension of t is larger than a limit."""
    steps = [N("Shape", ["t"], ["s"]), N("Gather", ["s", size], ["g"]), N("Greater", ["g", limit], ["c1"])]
    return [*steps, N("Squeeze", ["c1"], ["c"])]


def then() -> onnx.GraphProto:
    return branch("then", N("Mul", ["t", "scale"], ["inner"]), output="inner", scale=normal(3, 1))


def other() -> onnx.GraphProto:
    return branch("else", N("Mul", ["t", "scale"], ["inner"]), output="inner", scale=normal(3, 1) + 5)


def taken(model: onnx.ModelProto, folder: Path) -> TrainableGraph:
    write_card(model, fitting((3, 8), (2,)))
    (folder / "m.onnx").write_bytes(model.SerializeToString())
    data, x = read_model(folder / "m.onnx"), normal(4, 3, 8)
    (folder / "again.onnx").write_bytes(data)
    assert read_model(folder / "again.onnx") == data  # both ends hash it
    np.testing.assert_allclose(run_ort(data, x), run_ort(model.SerializeToString(), x), rtol=1e-6)
    check_gradient(onnx.ModelProto.FromString(data), normal(4, 3, 8))
    return TrainableGraph.load(data)


@pytest.mark.parametrize(("limit", "way"), [("six", "then"), ("two", "then"), ("ten", "else")])
def test_branch_that_shapes_decide_takes_its_place_with_its_weights(limit: str, way: str, tmp_path: Path) -> None:
    model = network(*by_shape(limit=limit), then=then(), other=other())
    model.graph.initializer.append(onnx.numpy_helper.from_array(ints(10), "ten"))
    graph = taken(model, tmp_path)
    scale = next(t for t in graph.layout if t.name == "/If.scale")
    assert (graph.params[scale.start : scale.stop].min() > 1.5) is np.bool_(way == "else")
    assert "branches: 1 If, which only shapes decide, became what runs for this window" in graph.notes


def test_branch_within_a_branch(tmp_path: Path) -> None:
    within = N("If", ["c"], ["inner"], then_branch=then(), else_branch=other())
    model = network(*by_shape(), then=branch("outer", within, output="inner"), other=other())
    assert "branches: 2 If, which only shapes decide, became what runs for this window" in taken(model, tmp_path).notes


def test_branch_that_only_passes_a_value_on(tmp_path: Path) -> None:
    passes = branch("then", N("Identity", ["t"], ["same"]), output="same")
    assert [t.name for t in taken(network(*by_shape(), then=passes, other=other()), tmp_path).layout] == ["head.weight"]


def test_branches_without_names_whose_values_are_called_the_same(tmp_path: Path) -> None:
    """The one inside the first branch comes to where the second one was."""
    inner = branch("inner", N("Neg", ["q"], ["same"]), output="same")
    first = branch(
        "first", N("Mul", ["t", "t"], ["q"]), N("If", ["c"], ["r"], then_branch=inner, else_branch=then()), output="r"
    )
    second = branch("second", N("Exp", ["z1"], ["same"]), output="same")
    model = network(*by_shape(), then=then(), other=other())
    at = next(i for i, n in enumerate(model.graph.node) if n.op_type == "If")
    rest = [onnx.NodeProto.FromString(n.SerializeToString()) for n in model.graph.node]
    choice = [
        N("If", ["c"], ["z1"], name="", then_branch=first, else_branch=other()),
        N("If", ["c"], ["z"], name="", then_branch=second, else_branch=other()),
    ]
    del model.graph.node[:]
    model.graph.node.extend([*rest[:at], *choice, *rest[at + 1 :]])
    assert not {n.op_type for n in model.graph.node if n.op_type == "If" and n.name}
    taken(model, tmp_path)


@pytest.mark.parametrize("what", ["values", "batch", "loop"])
def test_branch_that_is_not_the_same_for_every_sample_is_refused(what: str, tmp_path: Path) -> None:
    if what == "values":
        before = [N("ReduceMean", ["t"], ["g"], keepdims=0), N("Greater", ["g", "half"], ["c1"])]
        before = [*before, N("Squeeze", ["c1"], ["c"])]
    else:
        before = by_shape("zero", "two") if what == "batch" else by_shape()
    model = network(*before, then=then(), other=other())
    if what == "loop":  # it might never end, so such a file is not run
        body = helper.make_graph(
            [N("Identity", ["go"], ["on"])],
            "body",
            [helper.make_tensor_value_info(n, k, []) for n, k in (("i", 7), ("go", 9))],
            [helper.make_tensor_value_info("on", 9, [])],
        )
        model.graph.node.insert(0, N("Loop", ["", "true"], [], body=body))
        model.graph.initializer.append(onnx.numpy_helper.from_array(np.array(True), "true"))
    (tmp_path / "m.onnx").write_bytes(model.SerializeToString())
    with pytest.raises(ModelError, match="repeats so often" if what == "loop" else REFUSED):
        read_model(tmp_path / "m.onnx")


def test_functions_of_the_file_are_put_in_the_place_of_their_calls(tmp_path: Path) -> None:
    layer = helper.make_function(
        "own", "Layer", ["a", "w"], ["b"], [N("MatMul", ["a", "w"], ["p"]), N("Tanh", ["p"], ["b"])],
        [helper.make_opsetid("", 17)],
    )  # fmt: skip
    nodes = [N("Layer", ["x", "w0"], ["h"], domain="own"), N("Layer", ["h", "w1"], ["z"], domain="own")]
    nodes.append(N("ReduceMean", ["z"], ["y"], axes=[2], keepdims=0))
    model = small(nodes, {"w0": normal(8, 5), "w1": normal(5, 4)}, (3, 8), (3,))
    model.opset_import.append(helper.make_opsetid("own", 1))
    model.functions.append(layer)
    (tmp_path / "m.onnx").write_bytes(model.SerializeToString())
    data, x = read_model(tmp_path / "m.onnx"), normal(4, 3, 8)
    assert [t.name for t in TrainableGraph.load(data).layout] == ["w0", "w1"]
    np.testing.assert_allclose(run_ort(data, x), run_ort(model.SerializeToString(), x), rtol=1e-6)


def test_file_whose_nodes_do_not_fit_says_that_and_not_that_a_branch_is_unknown(tmp_path: Path) -> None:
    """As TorchScript writes a cell in a loop over slices that keep their axis."""

    def same(name: str) -> onnx.GraphProto:
        return branch(name, N("Identity", ["r"], [f"{name}.r"]), output=f"{name}.r")

    nodes = [
        N("Reshape", ["x", "s"], ["r"], name="flat"),
        N("Shape", ["r"], ["sizes"]),
        N("Size", ["sizes"], ["rank"]),
        N("Cast", ["rank"], ["yes"], to=TensorProto.BOOL),
        N("If", ["yes"], ["z"], then_branch=same("one"), else_branch=same("other"), name="choose"),
        N("Gemm", ["z", "w"], ["y"]),
    ]
    model = small(nodes, {"w": normal(5, 2), "s": ints(-1, 5)}, (4,), (2,))
    write_card(model, fitting((4,), (2,)))
    (tmp_path / "net.onnx").write_bytes(model.SerializeToString())
    with pytest.raises(ModelError, match=r"ONNX Runtime.* cannot run node 'flat' \(Reshape\): .*cannot be reshaped"):
        read_model(tmp_path / "net.onnx")
