# SPDX-License-Identifier: Apache-2.0
"""The frozen trunk: what it computes, when there is one, and that a sample goes through it once."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from fedge_models.errors import ModelError
from fedge_models.graph.trainable import TrainableGraph
from fedge_models.graph.trunk import Trunk
from fedge_models.training.config import TrainingConfig
from fedge_models.training.evaluation import predict
from fedge_models.training.loop import fit
from support.graphs import N, ints, load, normal, numeric, run_ort, small

Y = 3


def images(*more: Any, **tensors: np.ndarray) -> onnx.ModelProto:
    """A small convolutional trunk and a dense head."""
    nodes = [
        N("Conv", ["x", "trunk.w"], ["c"], pads=[1, 1, 1, 1], name="conv"),
        N("Hardmax", ["c"], ["s"], name="hard"),  # no gradient here
        N("GlobalAveragePool", ["s"], ["p"]),
        N("Flatten", ["p"], ["f"]),
        *(more or [N("Gemm", ["f", "head.w", "head.b"], ["y"])]),
    ]
    base = {"trunk.w": normal(8, 1, 3, 3), "head.w": normal(8, Y), "head.b": normal(Y)}
    return small(nodes, {**base, **tensors}, (1, 6, 6), (Y,))


def trunk_of(graph: TrainableGraph) -> Trunk:
    assert graph.trunk is not None
    return graph.trunk


def test_split_graph_computes_what_the_whole_does() -> None:
    model, x = images(), normal(5, 1, 6, 6)
    graph = load(model, "head.*")
    assert [t.name for t in graph.layout] == ["head.w", "head.b"] and trunk_of(graph).outputs == ("f",)
    np.testing.assert_allclose(graph.forward(x), run_ort(model.SerializeToString(), x), rtol=1e-5, atol=1e-5)
    graph.backward(np.ones((5, Y), np.float32))
    double = TrainableGraph.load(model.SerializeToString(), "head.*", dtype=np.float64)
    want = [numeric(double, x, np.ones((5, Y)), i) for i in range(len(graph.grad))]
    np.testing.assert_allclose(graph.grad, want, rtol=1e-3, atol=1e-4)


def test_trunk_of_a_fixed_batch_says_so_and_the_runtime_writes_nothing(capfd: pytest.CaptureFixture[str]) -> None:
    nodes = [
        N("Conv", ["x", "trunk.w"], ["c"], pads=[1, 1, 1, 1]),
        N("GlobalAveragePool", ["c"], ["p"]),
        N("Reshape", ["p", "one"], ["f"], name="flat"),
        N("Gemm", ["f", "head.w"], ["y"]),
    ]
    tensors = {"trunk.w": normal(8, 1, 3, 3), "head.w": normal(8, Y), "one": ints(1, 8)}
    graph = load(small(nodes, tensors, (1, 6, 6), (Y,)), "head.*")
    words = (
        r"runs with one sample, but not with two, so it was exported for a batch of one .node .flat. \(Reshape\) of "
        r"the frozen trunk\). .*with an example of two samples"
    )
    with pytest.raises(ModelError, match=words):
        graph.probe()
    assert not capfd.readouterr().err


def test_sample_goes_through_the_trunk_once() -> None:
    graph, x = load(images(), "head.*"), normal(40, 1, 6, 6)
    y = np.arange(40) % Y
    fit(graph, x, y, TrainingConfig(batch=16, epochs=4), np.random.default_rng(0))
    predict(graph, x[::-1])
    assert trunk_of(graph).runs == 40
    twice = np.repeat(normal(1, 1, 6, 6), 3, axis=0)
    np.testing.assert_array_equal(graph.forward(twice)[0], graph.forward(twice)[2])


def test_cache_is_bounded_and_forgets_the_oldest() -> None:
    full = trunk_of(load(images(), "head.*"))
    trunk, x = Trunk(full._parts, "m", cache_bytes=10 * 8 * 4), normal(30, 1, 6, 6)
    assert trunk.operators == ("Conv", "Hardmax", "GlobalAveragePool", "Flatten") and trunk.parameters == 8 * 9
    expected = full(x)[0]
    for i in (0, 5, 10, 15, 20, 12, 0):
        np.testing.assert_allclose(trunk(x[i : i + 10])[0], expected[i : i + 10], rtol=1e-6)
    before = trunk.runs
    trunk(x[:10])
    assert trunk.runs == before and trunk._cached.shape == (10, 8)


def test_sample_that_is_twice_in_a_batch_takes_one_place() -> None:
    trunk, x = trunk_of(load(images(), "head.*")), normal(2, 1, 6, 6)
    expected = trunk(np.stack([x[0], x[0], x[1]]))[0][[0, 2]]
    np.testing.assert_array_equal(trunk(x)[0], expected)
    assert trunk.runs == 3


def test_residual_connection_cuts_twice_and_the_tail_may_read_the_input() -> None:
    nodes = [
        N("Gemm", ["x", "a"], ["h"]),
        N("Cos", ["h"], ["c"]),
        N("Gemm", ["c", "head"], ["d"]),
        N("Add", ["d", "h"], ["e"]),
        N("Add", ["e", "x"], ["y"]),
    ]
    model = small(nodes, {"a": normal(4, 4), "head": normal(4, 4)}, (4,), (4,))
    graph, x = load(model, "head"), normal(6, 4)
    assert set(trunk_of(graph).outputs) == {"c", "h"}
    np.testing.assert_allclose(graph.forward(x), run_ort(model.SerializeToString(), x), rtol=1e-5, atol=1e-5)


def test_shapes_that_the_tail_needs_are_computed_in_the_tail() -> None:
    nodes = [
        N("Conv", ["x", "w"], ["c"]),
        N("Shape", ["c"], ["s"]),
        N("Gather", ["s", "zero"], ["n"]),
        N("Unsqueeze", ["n", "axis"], ["u"]),
        N("Concat", ["u", "rest"], ["t"], axis=0),
        N("Reshape", ["c", "t"], ["f"]),
        N("Gemm", ["f", "head"], ["y"]),
    ]
    tensors = {"w": normal(2, 1, 1, 1), "zero": np.int64(0), "axis": ints(0), "rest": ints(-1), "head": normal(18, 3)}
    model = small(nodes, tensors, (1, 3, 3), (3,))
    graph, x = load(model, "head"), normal(5, 1, 3, 3)
    for n in (5, 2):
        np.testing.assert_allclose(
            graph.forward(x[:n]), run_ort(model.SerializeToString(), x[:n]), rtol=1e-5, atol=1e-5
        )


def test_nothing_frozen_but_shapes_is_no_trunk() -> None:
    nodes = [N("Flatten", ["x"], ["f"]), N("Gemm", ["f", "w"], ["y"])]
    assert load(small(nodes, {"w": normal(4, 3)}, (2, 2), (3,))).trunk is None


def test_operator_without_gradient_in_the_tail_is_refused_and_in_the_trunk_welcome() -> None:
    with pytest.raises(ModelError, match=r"'hard' \(Hardmax\)"):
        load(images())
    load(images(), "head.*").probe()


def test_trunk_whose_activations_are_not_by_sample_is_refused() -> None:
    nodes = [N("Gemm", ["x", "a"], ["h"]), N("Transpose", ["h"], ["t"]), N("MatMul", ["head", "t"], ["u"])]
    nodes += [N("Transpose", ["u"], ["y"])]
    model = small(nodes, {"a": normal(4, 4), "head": normal(3, 4)}, (4,), (3,))
    with pytest.raises(ModelError, match=r"'t' of shape .* batch first"):
        load(model, "head").forward(normal(5, 4))


def test_control_flow_in_the_trunk_is_refused() -> None:
    body = onnx.helper.make_graph(
        [N("Identity", ["h"], ["z"])], "b", [], [onnx.helper.make_empty_tensor_value_info("z")]
    )
    nodes = [
        N("Gemm", ["x", "a"], ["h"]),
        N("If", ["yes"], ["i"], then_branch=body, else_branch=body, name="branch"),
        N("Gemm", ["i", "head"], ["y"]),
    ]
    model = small(nodes, {"a": normal(4, 4), "head": normal(4, 3), "yes": np.array(True)}, (4,), (3,))
    with pytest.raises(ModelError, match=r"'branch' .*control flow"):
        TrainableGraph.load(model.SerializeToString(), "head", schemas=False)


def test_positions_and_conditions_that_the_tail_reads_are_computed_there() -> None:
    """The trunk's cache holds floats: a mask made from the input, and the places of the largest activations."""
    nodes = [
        N("Gemm", ["x", "trunk.w"], ["c"]),
        N("Hardmax", ["c"], ["m"]),  # no gradient here
        N("Add", ["c", "m"], ["a"]),
        N("Greater", ["a", "zero"], ["q"]),
        N("Not", ["q"], ["hidden"]),
        N("TopK", ["a", "k"], ["v", "i"]),
        N("Gemm", ["a", "head.w"], ["e"]),
        N("Where", ["hidden", "e", "head.b"], ["f"]),
        N("GatherElements", ["f", "i"], ["y"], axis=1),
    ]
    tensors = {
        "trunk.w": normal(6, Y),
        "head.w": normal(Y, Y),
        "head.b": normal(Y),
        "k": ints(3),
        "zero": np.float32(0),
    }
    model, x = small(nodes, tensors, (6,), (Y,)), normal(5, 6)
    graph = load(model, "head.*")
    assert trunk_of(graph).outputs == ("a",) and "TopK" in graph.operators and "Not" in graph.operators
    np.testing.assert_allclose(graph.forward(x), run_ort(model.SerializeToString(), x), rtol=1e-5, atol=1e-5)
