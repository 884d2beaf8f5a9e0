# SPDX-License-Identifier: Apache-2.0
"""Convolutions and pools over whatever shapes, pads, strides, dilations and groups come: against ONNX Runtime and
central differences."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import onnxruntime
from fedge_models.graph.trainable import TrainableGraph
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from support.examples import examples
from support.graphs import N, check_gradient, normal, run_ort, small

NEW = tuple(map(int, onnxruntime.__version__.split(".")[:2])) >= (1, 24)  # 1.23 counts beyond the padding
QUICK = settings(max_examples=examples(40), deadline=None, derandomize=True)


@st.composite
def layers(draw: st.DrawFn, transposed: bool) -> tuple[str, dict[str, Any], tuple[int, ...], tuple[int, ...]]:
    """(operator, attributes, shape of x without batch, shape of the weights) of a convolution."""
    axes, group = draw(st.integers(1, 2)), draw(st.sampled_from([1, 1, 2, 3]))
    each = st.lists(st.integers(1, 3), min_size=axes, max_size=axes)
    kernel, strides, dilations = draw(each), draw(each), draw(each)
    inputs, outputs = group * draw(st.integers(1, 2)), group * draw(st.integers(1, 2))
    reach = [(k - 1) * d + 1 for k, d in zip(kernel, dilations, strict=True)]
    spatial = [draw(st.integers(r, r + 5)) for r in reach]
    attributes: dict[str, Any] = {"strides": strides, "dilations": dilations, "group": group}
    pads = draw(st.sampled_from(["none", "pads", "SAME_UPPER", "SAME_LOWER"]))
    if pads == "pads":
        attributes["pads"] = [draw(st.integers(0, r - 1)) for r in reach * 2]
    elif pads != "none" and set(dilations) == {1}:
        attributes["auto_pad"] = pads
    if transposed:
        attributes["output_padding"] = [draw(st.integers(0, s - 1)) for s in strides]
        attributes.pop("auto_pad", None)  # what SAME means here differs between the standard's versions
        return "ConvTranspose", attributes, (inputs, *spatial), (inputs, outputs // group, *kernel)
    return "Conv", attributes, (inputs, *spatial), (outputs, inputs // group, *kernel)


def hold(nodes: list[Any], tensors: dict[str, np.ndarray], shape: tuple[int, ...]) -> None:
    """Forward against ONNX Runtime, and the gradients of weights and of what comes before them."""
    first = N("Mul", ["x", "before"], ["h"])
    tensors = {"before": 1 + normal(1, *shape) / 4, **tensors}
    model = small([first, *nodes], tensors, shape, (1,))
    x = normal(2, *shape)
    expected = run_ort(model.SerializeToString(), x)
    assume(min(expected.shape) > 0)
    fixed = small([first, *nodes], tensors, shape, expected.shape[1:])
    graph = TrainableGraph.load(fixed.SerializeToString())
    np.testing.assert_allclose(graph.forward(x), expected, rtol=1e-5, atol=1e-5)
    check_gradient(fixed, x, count=8)


@given(layers(transposed=False), st.booleans(), st.booleans())
@QUICK
def test_any_convolution(layer: Any, bias: bool, relu: bool) -> None:
    op_type, attributes, shape, weights = layer
    tensors = {"w": normal(*weights), **({"b": normal(weights[0])} if bias else {})}
    out = "c" if relu else "y"
    nodes = [N(op_type, ["h", *tensors], [out], **attributes)]
    hold([*nodes, N("Relu", ["c"], ["y"])] if relu else nodes, tensors, shape)


@given(layers(transposed=True), st.booleans())
@QUICK
def test_any_transposed_convolution(layer: Any, bias: bool) -> None:
    op_type, attributes, shape, weights = layer
    reach = [(k - 1) * d + 1 for k, d in zip(weights[2:], attributes["dilations"], strict=True)]
    pads, axes = attributes.get("pads", [0] * 2 * len(reach)), len(reach)
    sizes = [
        s * (n - 1) + o + r - pads[i] - pads[i + axes]
        for i, (n, s, r, o) in enumerate(
            zip(shape[1:], attributes["strides"], reach, attributes["output_padding"], strict=True)
        )
    ]
    assume(min(sizes) > 0)
    tensors = {"w": normal(*weights), **({"b": normal(weights[1] * attributes["group"])} if bias else {})}
    hold([N(op_type, ["h", *tensors], ["y"], **attributes)], tensors, shape)


def test_average_counts_padding_that_is_declared_but_nothing_beyond_it() -> None:
    """ONNX Runtime up to 1.23, the newest of Python 3.10, also counts what a window misses beyond the padding."""
    attributes = {"kernel_shape": [2], "strides": [2], "ceil_mode": 1, "count_include_pad": 1}
    nodes = [N("AveragePool", ["x"], ["h"], **attributes), N("Mul", ["h", "after"], ["y"])]
    x = np.array([[[1, 2, 3]]], np.float32)
    beyond = TrainableGraph.load(small(nodes, {"after": normal(1, 1, 2)}, (1, 3), (1, 2)).SerializeToString())
    beyond.set_params(np.ones(2, np.float32))
    np.testing.assert_array_equal(beyond.forward(x), [[[1.5, 3]]])


@given(layers(transposed=False), st.sampled_from(["MaxPool", "AveragePool"]), st.booleans(), st.booleans())
@QUICK
def test_any_pool(layer: Any, op_type: str, ceil: bool, counted: bool) -> None:
    _, attributes, shape, weights = layer
    attributes = {k: v for k, v in attributes.items() if k != "group"}
    if op_type == "AveragePool":
        attributes.pop("dilations")
        attributes["count_include_pad"] = int(counted)
    kernel = list(weights[2:])
    if "pads" in attributes:  # a pool's padding is less than its kernel
        attributes["pads"] = [min(p, k - 1) for p, k in zip(attributes["pads"], kernel * 2, strict=True)]
    if "auto_pad" not in attributes:
        attributes["ceil_mode"] = int(ceil and (NEW or not attributes.get("count_include_pad")))
    assume(math.prod(kernel) > 1)
    hold([N(op_type, ["h"], ["y"], kernel_shape=kernel, **attributes)], {}, shape)
