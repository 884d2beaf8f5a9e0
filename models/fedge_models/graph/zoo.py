# SPDX-License-Identifier: Apache-2.0
"""Write compact models with `onnx.helper`.

Input ``x``, output ``y``; opset 17 and IR version 8, which every ONNX Runtime from 1.19 loads.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from statistics import NormalDist
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from .card import Card, write_card

if TYPE_CHECKING:
    import onnx

RAMP_STEEPNESS = 2.0  # times that at which a ramp's ends meet those of its neighbours


class Builder:
    """Collect nodes and initializers of a chain of layers."""

    def __init__(self, seed: int) -> None:
        self.rng = np.random.default_rng(seed)
        self.nodes: list[Any] = []
        self.tensors: list[Any] = []
        self.last = "x"

    def parameter(self, name: str, value: np.ndarray[Any, Any]) -> str:
        return self._tensor(name, value.astype(np.float32))

    def integers(self, name: str, values: Sequence[int]) -> str:
        return self._tensor(name, np.array(values, np.int64))

    def _tensor(self, name: str, value: np.ndarray[Any, Any]) -> str:
        """Store a tensor, once under each name."""
        from onnx import numpy_helper

        if all(tensor.name != name for tensor in self.tensors):
            self.tensors.append(numpy_helper.from_array(value, name))
        return name

    def join(self, names: Sequence[str], axis: int) -> None:
        """Go on with several values, one behind the other."""
        self.last = names[0]
        self.node("Concat", *names[1:], axis=axis)

    def node(self, op_type: str, *inputs: str, **attributes: Any) -> None:
        from onnx import helper

        output = f"v{len(self.nodes)}"
        name = f"{op_type.lower()}{len(self.nodes)}"
        self.nodes.append(helper.make_node(op_type, [self.last, *inputs], [output], name=name, **attributes))
        self.last = output

    def dense(self, name: str, inputs: int, outputs: int, relu: bool) -> None:
        """Gemm, He-initialised before a Relu (He et al. 2015), else Glorot (2010)."""
        scale = (2 / inputs) ** 0.5 if relu else (2 / (inputs + outputs)) ** 0.5
        weight = self.parameter(f"{name}.weight", self.rng.normal(0, scale, (inputs, outputs)))
        self.node("Gemm", weight, self.parameter(f"{name}.bias", np.zeros(outputs)))
        if relu:
            self.node("Relu")

    def ramps(self, inputs: int, count: int) -> int:
        """Turn each of (batch, inputs) into `count` ramps; return how many values that gives.

        A ramp rises from 0 to 1 around a centre. Centres begin at the quantiles of the normal distribution, for inputs
        are standardised, and each ramp reaches over half the way to its neighbours. Centres and slopes are trained.
        """
        centres, widths = _normal_bins(count)
        self.node("Unsqueeze", self.integers("ramp.axis", [2]))
        self.node("Sub", self.parameter("ramp.centre", np.tile(centres, (inputs, 1))))
        self.node("Mul", self.parameter("ramp.slope", np.tile(RAMP_STEEPNESS / widths, (inputs, 1))))
        self.node("HardSigmoid", alpha=1.0, beta=0.5)
        self.node("Flatten")
        return inputs * count

    def conv(self, name: str, inputs: int, outputs: int, kernel: Sequence[int], **attributes: Any) -> None:
        """Conv and Relu, He-initialised."""
        scale = (2 / (inputs * math.prod(kernel))) ** 0.5
        weight = self.parameter(f"{name}.weight", self.rng.normal(0, scale, (outputs, inputs, *kernel)))
        self.node("Conv", weight, self.parameter(f"{name}.bias", np.zeros(outputs)), **attributes)
        self.node("Relu")

    def model(self, card: Card, x: Sequence[int], y: Sequence[int]) -> onnx.ModelProto:
        from onnx import TensorProto, helper

        self.nodes[-1].output[0] = "y"
        values = [helper.make_tensor_value_info(n, TensorProto.FLOAT, ["batch", *s]) for n, s in (("x", x), ("y", y))]
        graph = helper.make_graph(self.nodes, "fedge", [values[0]], [values[1]], self.tensors)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
        write_card(model, card)
        return model


def _normal_bins(count: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Centres and widths (count,) of bins between quantiles of the standard normal distribution."""
    quantile = NormalDist().inv_cdf
    edges = np.array([quantile((i + 0.5) / (count + 1)) for i in range(count + 1)])
    return (edges[1:] + edges[:-1]) / 2, np.diff(edges)


def outputs_of(card: Card) -> int:
    """How many outputs: one per label or target."""
    return len(card.labels) or len(card.targets) or 1


def mlp(card: Card, inputs: int | Sequence[int], hidden: Sequence[int] = (64, 32), seed: int = 0) -> onnx.ModelProto:
    """Make dense layers with Relu between them, and one output per label or target.

    The input is features (batch, inputs), or raw windows (batch, *inputs) which are flattened on the way.
    """
    shape = [inputs] if isinstance(inputs, int) else [*inputs]
    sizes, build = [math.prod(shape), *hidden, outputs_of(card)], Builder(seed)
    if len(shape) > 1:
        build.node("Flatten")
    for i, (before, after) in enumerate(pairwise(sizes)):
        build.dense(f"dense{i}", before, after, relu=i < len(hidden))
    return build.model(card, shape, [sizes[-1]])


def table(
    card: Card, inputs: int | Sequence[int], hidden: Sequence[int] = (32, 16), ramps: int = 16, seed: int = 0
) -> onnx.ModelProto:
    """Make dense layers over trained ramps of each input: a net for tables, where limits of single columns decide.

    Each input becomes `ramps` values between 0 and 1 whose places and slopes are trained (a piecewise linear encoding:
    Gorishniy et al. 2022, there with fixed bins). A limit is then one weight, as it is one split for a tree.
    The input is as that of `mlp`.
    """
    shape = [inputs] if isinstance(inputs, int) else [*inputs]
    build = Builder(seed)
    if len(shape) > 1:
        build.node("Flatten")
    sizes = [build.ramps(math.prod(shape), ramps), *hidden, outputs_of(card)]
    for i, (before, after) in enumerate(pairwise(sizes)):
        build.dense(f"dense{i}", before, after, relu=i < len(hidden))
    return build.model(card, shape, [sizes[-1]])


def autoencoder(
    card: Card, inputs: int | Sequence[int], hidden: Sequence[int] = (32, 8), seed: int = 0
) -> onnx.ModelProto:
    """Make dense layers down to the last of `hidden` and back up; the output reconstructs the input.

    The input is features (batch, inputs), or raw windows (batch, *inputs) which are flattened on the way.
    """
    shape = [inputs] if isinstance(inputs, int) else [*inputs]
    sizes = [math.prod(shape), *hidden, *reversed(hidden[:-1]), math.prod(shape)]
    build = Builder(seed)
    if len(shape) > 1:
        build.node("Flatten")
    for i, (before, after) in enumerate(pairwise(sizes)):
        build.dense(f"dense{i}", before, after, relu=i < len(sizes) - 2)
    if len(shape) > 1:
        build.node("Reshape", build.integers("shape", [-1, *shape]))
    return build.model(card, shape, shape)


def cnn1d(
    card: Card, filters: Sequence[int] = (16, 32), kernels: Sequence[int] = (7, 5), seed: int = 0
) -> onnx.ModelProto:
    """Make convolutions over time of raw windows (batch, channels, length), one output per label or target."""
    channels, build = len(card.input_channels), Builder(seed)
    before = channels
    for i, (after, kernel) in enumerate(zip(filters, kernels, strict=True)):
        build.conv(f"conv{i}", before, after, [kernel])
        if i < len(filters) - 1:
            build.node("MaxPool", kernel_shape=[2], strides=[2])
        before = after
    build.node("GlobalAveragePool")
    build.node("Flatten")
    build.dense("head", before, outputs_of(card), relu=False)
    return build.model(card, [channels, card.window.length], [outputs_of(card)])


def cnn2d(
    card: Card,
    shape: Sequence[int] = (1, 64, 64),
    filters: Sequence[int] = (8, 16, 32),
    seed: int = 0,
    shrink: int = 1,
    average: bool = True,
) -> onnx.ModelProto:
    """Make 3x3 convolutions on images (batch, channels, height, width), whose size is halved between them.

    One output per label or target: from the mean of each map (anything anywhere in the image) or, without `average`,
    from all positions of the maps, halved once more. shape: channels, height, width of the image; shrink: factor by
    which the image is averaged down first.
    """
    build, before, halved = Builder(seed), shape[0], 2 ** (len(filters) - 1) * shrink
    if shrink > 1:
        build.node("AveragePool", kernel_shape=[shrink, shrink], strides=[shrink, shrink])
    for i, after in enumerate(filters):
        if i:
            build.node("MaxPool", kernel_shape=[2, 2], strides=[2, 2])
        build.conv(f"conv{i}", before, after, [3, 3], pads=[1, 1, 1, 1])
        before = after
    if average:
        build.node("GlobalAveragePool")
    else:
        build.node("MaxPool", kernel_shape=[2, 2], strides=[2, 2])
        before *= (shape[1] // halved // 2) * (shape[2] // halved // 2)
    build.node("Flatten")
    build.dense("head", before, outputs_of(card), relu=False)
    return build.model(card, shape, [outputs_of(card)])
