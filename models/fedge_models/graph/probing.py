# SPDX-License-Identifier: Apache-2.0
"""Samples to try a graph with, in the range that the file takes: a scaler in front of it says what is measured.

Normal values would be far outside of a file whose scaler has a mean of 1500 and a deviation of 20: each activation is
flat there, all samples give the same, and no check sees anything.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..errors import ModelError
from ..ops.operator import Node
from ..ops.registry import OPERATORS
from ..protos import attribute, values
from .nodes import TROUBLE
from .onnx_file import tensors

if TYPE_CHECKING:
    import onnx

Array = NDArray[np.float32]
LAYOUT = (
    *("Cast", "Concat", "Expand", "Flatten", "Gather", "Identity", "Reshape", "Slice", "Split", "Squeeze"),
    *("Transpose", "Unsqueeze", "Imputer"),
)
SCALING = ("Add", "Sub", "Mul", "Div", "BatchNormalization", "Scaler")
MOST = 1 << 20  # values of a sample that is looked at
WIDE = 100.0  # deviations
MOST_VALUE = 1e15


class Range(NamedTuple):
    """What a file takes: `centre` + `scale` × z for a standard normal z, each in the shape of a sample."""

    centre: Array
    scale: Array

    def around(self, z: NDArray[Any]) -> Array:
        """The values that stand for z (n, *shape) in the file."""
        return np.asarray(self.centre + self.scale * z, np.float32)


class _Part(NamedTuple):
    """A value that is only laid out and scaled of the input: factor × input[place] + shift."""

    place: NDArray[Any]  # in the flat sample
    factor: NDArray[Any]
    shift: NDArray[Any]


def own_range(model: onnx.ModelProto, name: str, shape: Sequence[int], batch: int = 1) -> Range | None:
    """The range of the input `name`, whose samples have this shape; None where the file does not scale it."""
    size = int(np.prod(shape, dtype=float))
    steps = _steps(model.graph, name) if 0 < size <= MOST else []
    if not any(n.op_type in SCALING for n in steps):
        return None
    place = np.broadcast_to(np.arange(size, dtype=np.float64).reshape(shape), (batch, *shape))
    parts = {name: _Part(place, np.ones_like(place), np.zeros_like(place))}
    centre, scale = np.zeros(size), np.ones(size)
    stored = tensors(model)
    for node in steps:
        try:
            with np.errstate(all="ignore"):
                parts |= _laid_out(node, parts, stored) if node.op_type in LAYOUT else _scaled(node, parts, stored)
        except (ModelError, *TROUBLE):  # it is refused where it is run
            continue
        if node.op_type not in LAYOUT and (part := parts.get(node.output[0])) is not None:
            _keep(part, centre, scale)
    return Range(centre.reshape(shape).astype(np.float32), scale.reshape(shape).astype(np.float32))


def _steps(graph: onnx.GraphProto, name: str) -> list[onnx.NodeProto]:
    """The nodes that only lay out and scale the input."""
    raw, fixed = {name}, {t.name for t in graph.initializer}
    found: list[onnx.NodeProto] = []
    fixed |= {o for n in graph.node if n.op_type == "Constant" for o in n.output}
    for node in graph.node:
        given = [n for n in node.input if n]
        if not raw.intersection(given) or not raw.union(fixed).issuperset(given):
            continue
        moves = node.op_type in LAYOUT and node.input[0] in raw and (node.op_type != "Concat" or raw.issuperset(given))
        if moves or (node.op_type in SCALING and sum(n in raw for n in given) == 1):
            found.append(node)
            raw.update(node.output)
    return found


def _laid_out(
    node: onnx.NodeProto, parts: Mapping[str, _Part], stored: Mapping[str, onnx.TensorProto]
) -> dict[str, _Part]:
    """The outputs of a node that moves values about."""
    if node.op_type in ("Cast", "Imputer"):
        return {node.output[0]: parts[node.input[0]]}
    plain = Node(node.name, node.op_type, node.input, node.output, {a.name: attribute(a) for a in node.attribute})
    columns = []
    for field in range(len(_Part._fields)):
        given = [parts[n][field] if n in parts else values(stored[n]) if n else None for n in node.input]
        made, _ = OPERATORS[node.op_type](plain, *given)
        columns.append([np.array(m) for m in (made if isinstance(made, (tuple, list)) else [made])])
    return {name: _Part(*found) for name, *found in zip(node.output, *columns, strict=True)}


def _scaled(
    node: onnx.NodeProto, parts: Mapping[str, _Part], stored: Mapping[str, onnx.TensorProto]
) -> dict[str, _Part]:
    """The output of a node that scales."""
    at = [n in parts for n in node.input].index(True)
    part, op = parts[node.input[at]], node.op_type
    given = {a.name: attribute(a) for a in node.attribute}
    if op == "Scaler":
        shift, factor = np.asarray(given["offset"]), np.asarray(given["scale"])
        return _changed(node, part, factor, -shift * factor)
    if op == "BatchNormalization":  # its weights after it are the network's own
        mean, variance = (values(stored[n]).astype(np.float64) for n in node.input[3:5])
        factor = 1 / np.sqrt(variance + given.get("epsilon", 1e-5))
        each = (-1, *[1] * (part.place.ndim - 2))
        return _changed(node, part, factor.reshape(each), (-mean * factor).reshape(each))
    other = values(stored[node.input[1 - at]]).astype(np.float64)
    if op == "Div":
        return _changed(node, part, 1 / other, 0) if at == 0 else {}
    if op == "Mul":
        return _changed(node, part, other, 0)
    sign = -1 if op == "Sub" else 1
    return _changed(node, part, 1, sign * other) if at == 0 else _changed(node, part, sign, other)


def _changed(node: onnx.NodeProto, part: _Part, factor: Any, shift: Any) -> dict[str, _Part]:
    """The output, where it has a value for each of the input's."""
    made = _Part(part.place, part.factor * factor, part.shift * factor + shift)
    return {node.output[0]: made} if made.factor.shape == made.shift.shape == part.place.shape else {}


def _keep(part: _Part, centre: NDArray[Any], scale: NDArray[Any]) -> None:
    """Let the values be those for which a part is standard normal, where that is a number."""
    with np.errstate(all="ignore"):
        middle, width = -part.shift / part.factor, 1 / part.factor
        known = np.isfinite(middle) & np.isfinite(width) & (np.abs(middle) < MOST_VALUE) & (np.abs(width) < MOST_VALUE)
    at = part.place[known].astype(np.int64)
    centre[at], scale[at] = middle[known], np.abs(width[known])


def samples(shape: Sequence[int], count: int, seed: int = 0, within: Range | None = None, wide: float = 1.0) -> Array:
    """Samples (count, *shape), the same every time: standard normal, or so many deviations wide in a file's range."""
    z = np.random.default_rng(seed).normal(size=(count, *shape)) * wide
    return z.astype(np.float32) if within is None else within.around(z)


def tries(shape: Sequence[int], count: int, seeds: Sequence[int], within: Range | None) -> Iterator[list[Array]]:
    """Samples for each seed: first normal ones, then what a logarithm takes, then what a file without a scaler may."""
    yield [samples(shape, count, seed, within) for seed in seeds]
    yield [np.abs(samples(shape, count, seed, within)) for seed in seeds]
    yield [samples(shape, count, seed, within, WIDE) for seed in seeds]
