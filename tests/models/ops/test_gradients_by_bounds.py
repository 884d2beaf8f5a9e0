# SPDX-License-Identifier: Apache-2.0
"""Inputs that exporters write as constants are trained when they are named; shapes lead to no parameter."""

from __future__ import annotations

import numpy as np
import pytest
from fedge_models.errors import ModelError
from support.graphs import N, check_gradient, ints, load, normal, run_ort, small

W = {"w": normal(5, 6)}
FIRST = N("Gemm", ["x", "w"], ["h"])


@pytest.mark.parametrize(
    ("node", "tensors", "named"),
    [
        (N("Clip", ["h", "low", "high"], ["y"]), {"low": np.float32(-0.5), "high": np.float32(0.7)}, "low,high"),
        (N("Clip", ["h", "low"], ["y"]), {"low": np.float32(0.1)}, "low"),
        (N("Clip", ["h", "", "high"], ["y"]), {"high": np.float32(0.1)}, "high"),
        (N("Pad", ["h", "at", "fill"], ["y"]), {"at": ints(0, 1, 0, -1), "fill": np.float32(0.3)}, "fill"),
        (N("Mod", ["h", "by"], ["y"], fmod=1), {"by": np.float32(0.7)}, "by"),
    ],
)
def test_bound_fill_and_divisor_are_trained_when_named(node: object, tensors: dict[str, object], named: str) -> None:
    model = small([FIRST, node], {**W, **{k: np.asarray(v) for k, v in tensors.items()}}, (5,), (6,))
    names = named.split(",")
    assert [t.name for t in load(model, named).layout] == names
    check_gradient(model, normal(9, 5), f"w,{named}")


def test_shape_of_a_parameter_makes_nothing_after_it_trainable() -> None:
    """The trunk ends where the head begins, though a size comes from a weight that is trained."""
    nodes = [
        N("Conv", ["x", "trunk.w"], ["c"]),
        N("Shape", ["head.w"], ["s"], end=1),
        N("Concat", ["minus", "s"], ["to"], axis=0),
        N("Reshape", ["c", "to"], ["f"]),
        N("Hardmax", ["f"], ["g"]),
        N("Gemm", ["g", "head.w"], ["y"]),
    ]
    model = small(nodes, {"trunk.w": normal(2, 1, 3), "head.w": normal(8, 3), "minus": ints(-1)}, (1, 6), (3,))
    graph, x = load(model, "head.w"), normal(4, 1, 6)
    assert graph.operators == ("Gemm",)
    np.testing.assert_allclose(graph.forward(x), run_ort(model.SerializeToString(), x), rtol=1e-5, atol=1e-5)


def test_output_that_a_parameter_reaches_only_as_a_size_or_a_step_is_refused() -> None:
    sized = [FIRST, N("Shape", ["h"], ["s"]), N("Expand", ["c", "s"], ["y"])]
    stepped = [FIRST, N("Floor", ["h"], ["y"])]
    for nodes in (sized, stepped):
        with pytest.raises(
            ModelError, match="initializer 'w' cannot be trained: the output depends on it only by a shape"
        ):
            load(small(nodes, {**W, "c": normal(1, 1)}, (5,), (6,)), "w")


@pytest.mark.parametrize("axis", [-3, -2, -1, 0, 1, 2, 3])
def test_flatten_counts_a_negative_axis_from_the_rank(axis: int) -> None:
    nodes = [N("Reshape", ["x", "s"], ["r"]), N("Flatten", ["r"], ["f"], axis=axis), N("Mul", ["f", "w"], ["y"])]
    model = small(nodes, {"s": ints(0, 2, 3), "w": np.float32(2)}, (6,), (6,))
    x = normal(4, 6)
    np.testing.assert_array_equal(load(model, "w").forward(x), run_ort(model.SerializeToString(), x))


@pytest.mark.parametrize(("group", "shape"), [(1, [8]), (2, [6]), (1, [7]), (2, [8])])
def test_transposed_convolution_to_a_larger_shape_ends_in_its_bias(group: int, shape: list[int]) -> None:
    tensors = {"w": normal(2, 2, 3), "b": normal(2 * group)}
    node = N("ConvTranspose", ["x", "w", "b"], ["y"], strides=[2], output_shape=shape, group=group)
    model = small([node], tensors, (2, 3), (2 * group, *shape))
    graph, x = load(model), normal(4, 2, 3)
    y = graph.forward(x)
    if shape[0] > 7:  # stride * 2 + kernel
        np.testing.assert_array_equal(y[:, :, 7], np.broadcast_to(tensors["b"], (4, 2 * group)))
    np.testing.assert_allclose(y, run_ort(model.SerializeToString(), x), rtol=1e-5, atol=1e-5)
    check_gradient(model, x)


def test_initializer_that_only_a_step_reads_is_refused_by_name_and_left_out_of_a_pattern() -> None:
    nodes = [FIRST, N("Mul", ["h", "by"], ["m"]), N("Floor", ["m"], ["f"]), N("Sub", ["h", "f"], ["y"])]
    model = small(nodes, {**W, "by": normal(6)}, (5,), (6,))
    assert [t.name for t in load(model).layout] == ["w"]
    with pytest.raises(ModelError, match="initializer 'by' cannot be trained: the output depends on it only by"):
        load(model, "w,by")


def test_positions_of_the_largest_carry_no_gradient_and_the_values_do() -> None:
    nodes = [
        N("Mul", ["x", "by"], ["a"]),
        N("TopK", ["a", "k"], ["v", "i"]),
        N("GatherElements", ["x", "i"], ["g"], axis=1),
        N("Mul", ["g", "w"], ["y"]),
    ]
    tensors = {"by": normal(5), "k": ints(3), "w": normal(3)}
    assert [t.name for t in load(small(nodes, tensors, (5,), (3,))).layout] == ["w"]
    nodes[2] = N("Identity", ["v"], ["g"])
    assert [t.name for t in load(small(nodes, tensors, (5,), (3,))).layout] == ["by", "w"]
