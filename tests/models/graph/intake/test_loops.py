# SPDX-License-Identifier: Apache-2.0
"""A Loop or Scan that always repeats as often becomes its steps, whose weights stay one tensor; others are refused."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from fedge_models.errors import ModelError
from fedge_models.graph.card import write_card
from fedge_models.graph.intake import control_flow, read_model
from fedge_models.graph.trainable import TrainableGraph
from onnx import TensorProto, helper
from support.graphs import N, check_gradient, fitting, ints, normal, run_ort, small

STEPS, CHANNELS, WIDTH = 6, 3, 4
value = helper.make_tensor_value_info
INT, BOOL, FLOAT = TensorProto.INT64, TensorProto.BOOL, TensorProto.FLOAT


def tensors(**more: Any) -> dict[str, Any]:
    shapes = {
        "first.weight": (CHANNELS, WIDTH),
        "cell.weight": (CHANNELS, WIDTH),
        "cell.inner": (WIDTH, WIDTH),
        "head.weight": (WIDTH, 2),
    }
    fixed = {k: normal(*s) for k, s in shapes.items()}
    return fixed | {"two": ints(2).reshape(()), "count": ints(STEPS).reshape(()), **more}


def cell(x: str) -> list[onnx.NodeProto]:
    """One step of a recurrent layer: h and a slice to `next`."""
    parts = [N("MatMul", [x, "cell.weight"], ["a"]), N("MatMul", ["h", "cell.inner"], ["b"])]
    return [*parts, N("Add", ["a", "b"], ["c"]), N("Tanh", ["c"], ["next"])]


def loop_body(*condition: onnx.NodeProto, gather: bool = True) -> onnx.GraphProto:
    """The body of a Loop that takes one time step after another and gives each state."""
    nodes = [N("Gather", ["x", "i"], ["xt"], axis=2), *cell("xt"), *condition]
    nodes += [N("Identity", ["next"], ["each"])] if gather else []
    outputs = [value("on", BOOL, []), value("next", FLOAT, None), *[value("each", FLOAT, None)] * gather]
    return helper.make_graph(
        nodes, "body", [value("i", INT, []), value("go", BOOL, []), value("h", FLOAT, None)], outputs
    )


ALWAYS = N("Identity", ["go"], ["on"])
BELOW = [N("Add", ["i", "one"], ["after"]), N("Less", ["after", "count"], ["on"])]
START = [N("Gather", ["x", "two"], ["first"], axis=2), N("MatMul", ["first", "first.weight"], ["h0"])]
MEAN = [N("ReduceMean", ["all"], ["m"], axes=[0], keepdims=0), N("MatMul", ["m", "head.weight"], ["y"])]


def looped(limit: str, body: onnx.GraphProto, *before: onnx.NodeProto, **more: Any) -> onnx.ModelProto:
    nodes = [*before, *START, N("Loop", [limit, "", "h0"], ["last", "all"], body=body, name="/rnn/Loop"), *MEAN]
    return small(nodes, tensors(**more), (CHANNELS, STEPS), (2,))


def scanned(opset: int = 17, **options: Any) -> onnx.ModelProto:
    nodes = [*cell("xt"), N("Identity", ["next"], ["each"])]
    entries, ends = [value(n, FLOAT, None) for n in ("h", "xt")], [value(n, FLOAT, None) for n in ("next", "each")]
    body = helper.make_graph(nodes, "body", entries, ends)
    node = N("Scan", ["h0", "x"], ["last", "all"], body=body, num_scan_inputs=1, scan_input_axes=[2], **options)
    return small([*START, node, *MEAN], tensors(), (CHANNELS, STEPS), (2,), opset)


def taken(model: onnx.ModelProto, folder: Path, outputs: int = 2) -> TrainableGraph:
    """The graph as it is taken in; it gives what the file gives, and its gradient is right."""
    (folder / "m.onnx").write_bytes(model.SerializeToString())
    data, x = read_model(folder / "m.onnx"), normal(5, CHANNELS, STEPS)
    (folder / "again.onnx").write_bytes(data)
    assert read_model(folder / "again.onnx") == data  # both ends hash it
    made = onnx.ModelProto.FromString(data)
    assert not {n.op_type for n in made.graph.node} & {"If", "Loop", "Scan"}
    np.testing.assert_allclose(run_ort(data, x), run_ort(model.SerializeToString(), x), rtol=1e-5, atol=1e-6)
    check_gradient(made, x)
    return TrainableGraph.load(data)


def names(graph: TrainableGraph) -> list[str]:
    return [t.name for t in graph.layout]


WEIGHTS = ["first.weight", "cell.weight", "cell.inner", "head.weight"]


@pytest.mark.parametrize(
    ("limit", "condition", "before"),
    [
        ("count", [ALWAYS], []),
        ("", BELOW, []),  # a while over a counter
        ("length", [ALWAYS], [N("Shape", ["x"], ["s"]), N("Gather", ["s", "two"], ["length"])]),
        ("count", BELOW, []),  # both, as tf2onnx writes it
    ],
)
def test_loop_that_always_repeats_as_often_becomes_its_steps(
    limit: str, condition: list[onnx.NodeProto], before: list[onnx.NodeProto], tmp_path: Path
) -> None:
    model = looped(limit, loop_body(*condition), *before, one=ints(1).reshape(()))
    graph = taken(model, tmp_path)
    assert sorted(names(graph)) == sorted(WEIGHTS)  # one tensor each, however many steps read it
    assert any(n.startswith("loops: 1 Loop became the steps that it always has") for n in graph.notes)


@pytest.mark.parametrize("opset", [11, 17])
@pytest.mark.parametrize(
    "options",
    [{}, {"scan_input_directions": [1]}, {"scan_output_directions": [1]}, {"scan_output_axes": [1]}],
    ids=["plain", "backward", "turned", "axis"],
)
def test_scan_becomes_its_steps(options: dict[str, Any], opset: int, tmp_path: Path) -> None:
    model = scanned(opset, **options)
    if "scan_output_axes" in options:
        next(n for n in model.graph.node if n.op_type == "ReduceMean").attribute[0].ints[:] = [1]
    last = next(n for n in model.graph.node if n.op_type == "ReduceMean")
    last.input[0] = "weighted"  # so that the order of the steps matters
    stacked = (1, STEPS, 1) if "scan_output_axes" in options else (STEPS, 1, 1)
    model.graph.initializer.append(onnx.numpy_helper.from_array(normal(*stacked), "by_step"))
    model.graph.node.insert(len(model.graph.node) - 2, N("Mul", ["all", "by_step"], ["weighted"]))
    assert {*WEIGHTS} <= {*names(taken(model, tmp_path))}


def test_loop_in_a_loop_whose_count_is_the_step_of_the_outer(tmp_path: Path) -> None:
    ends = [value("on2", BOOL, []), value("next2", FLOAT, None)]
    steps = [N("MatMul", ["h2", "cell.inner"], ["p"]), N("Tanh", ["p"], ["next2"]), N("Identity", ["go2"], ["on2"])]
    starts = [value("i2", INT, []), value("go2", BOOL, []), value("h2", FLOAT, None)]
    inner = helper.make_graph(steps, "inner", starts, ends)
    chosen = [
        helper.make_graph(
            [N(op, ["q", "gain"], [f"{op}1"])], op, [], [value(f"{op}1", FLOAT, None)],
            [onnx.numpy_helper.from_array(normal(WIDTH), "gain")],
        )
        for op in ("Mul", "Sub")
    ]  # fmt: skip
    nodes = [
        N("Loop", ["i", "", "h"], ["q"], body=inner, name="inner"),
        N("Less", ["i", "two"], ["early"]),
        N("If", ["early"], ["next"], then_branch=chosen[0], else_branch=chosen[1], name="which"),
        ALWAYS,
    ]
    entries = [value("i", INT, []), value("go", BOOL, []), value("h", FLOAT, None)]
    outer = helper.make_graph(nodes, "outer", entries, [value("on", BOOL, []), value("next", FLOAT, None)])
    last = N("MatMul", ["last", "head.weight"], ["y"])
    model = small(
        [*START, N("Loop", ["count", "", "h0"], ["last"], body=outer), last], tensors(), (CHANNELS, STEPS), (2,)
    )
    graph = taken(model, tmp_path)
    assert names(graph)[:3] == ["first.weight", "cell.inner", "head.weight"]
    assert len(names(graph)) == 5  # and one tensor of each branch
    assert any("loops: 7 Loop became" in n for n in graph.notes)  # the outer, and in each of its six steps one


def test_weights_inside_the_body_become_tensors_of_the_graph(tmp_path: Path) -> None:
    body = loop_body(ALWAYS)
    body.node.insert(len(body.node) - 1, N("Add", ["c", "cell.bias"], ["biased"]))
    next(n for n in body.node if n.op_type == "Tanh").input[0] = "biased"
    order = sorted(body.node, key=lambda n: n.op_type in ("Tanh", "Identity"))
    del body.node[:]
    body.node.extend(order)
    body.initializer.append(onnx.numpy_helper.from_array(normal(WIDTH), "cell.bias"))
    assert sorted(names(taken(looped("count", body), tmp_path))) == sorted([*WEIGHTS, "cell.bias"])


def test_loop_that_values_count_is_refused(tmp_path: Path) -> None:
    condition = [N("ReduceMax", ["next"], ["largest"], keepdims=0), N("Less", ["largest", "bound"], ["on"])]
    model = looped("count", loop_body(*condition), bound=np.array(0.9, np.float32))
    (tmp_path / "m.onnx").write_bytes(model.SerializeToString())
    with pytest.raises(ModelError, match=r"'/rnn/Loop' .* measured values decide how often it repeats"):
        read_model(tmp_path / "m.onnx")


def test_loop_that_the_number_of_samples_counts_is_refused(tmp_path: Path) -> None:
    before = [N("Shape", ["x"], ["s"]), N("Gather", ["s", "none"], ["length"])]
    model = looped("length", loop_body(ALWAYS), *before, none=ints(0).reshape(()))
    (tmp_path / "m.onnx").write_bytes(model.SerializeToString())
    with pytest.raises(ModelError, match="the number of samples decides how often it repeats"):
        read_model(tmp_path / "m.onnx")


def test_loop_over_an_open_shape_is_refused_unless_only_the_window_is_open(tmp_path: Path) -> None:
    before = [N("Shape", ["x"], ["s"]), N("Gather", ["s", "two"], ["length"])]
    model = looped("length", loop_body(ALWAYS), *before)
    dims = model.graph.input[0].type.tensor_type.shape.dim
    dims[2].dim_param = "time"
    taken(model, tmp_path)
    dims[1].dim_param = "channels"
    (tmp_path / "m.onnx").write_bytes(model.SerializeToString())
    with pytest.raises(ModelError, match="leaves open more of it than the window's length"):
        read_model(tmp_path / "m.onnx")


def test_loop_without_an_end_is_not_waited_for(tmp_path: Path) -> None:
    (tmp_path / "m.onnx").write_bytes(looped("", loop_body(ALWAYS)).SerializeToString())
    with pytest.raises(ModelError, match=f"more than {control_flow.MOST_NODES}"):
        read_model(tmp_path / "m.onnx")


def test_loop_of_no_step_gives_what_it_began_with(tmp_path: Path) -> None:
    last = N("MatMul", ["last", "head.weight"], ["y"])
    node = N("Loop", ["none", "", "h0"], ["last"], body=loop_body(ALWAYS, gather=False))
    model = small([*START, node, last], tensors(none=ints(0).reshape(())), (CHANNELS, STEPS), (2,))
    write_card(model, fitting((CHANNELS, STEPS), (2,)))
    assert names(taken(model, tmp_path)) == ["first.weight", "head.weight"]
