# SPDX-License-Identifier: Apache-2.0
"""Whether a graph takes windows (time, channels) or (channels, time): by the first operators that know a channel.

The dimensions of the input are followed through operators that keep, move or add them, up to a convolution, a
normalisation or a recurrent layer, each of which has its channels in a known place.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ...protos import attribute, values

if TYPE_CHECKING:
    import onnx

Axes = tuple[int, ...]  # of a value: which dimension of a window each is
BATCH, FIRST, SECOND, OTHER = 0, 1, 2, -1
KEPT = (
    "Cast",
    "Identity",
    "Dropout",
    "Relu",
    "Tanh",
    "Sigmoid",
    "LeakyRelu",
    "Clip",
    "Add",
    "Sub",
    "Mul",
    "Div",
    "Pad",
)
CHANNELS_SECOND = ("Conv", "BatchNormalization", "InstanceNormalization")  # their channels follow the batch
RECURRENT = ("LSTM", "GRU", "RNN")  # their channels are last
SWAPPED = ([0, 2, 1], [1, 0, 2])


def time_first(model: onnx.ModelProto, name: str, plain: tuple[int, ...], wanted: tuple[int, ...]) -> bool | None:
    """Whether the input of that name is (time, channels); None where no operator shows it.

    plain: its dimensions after the batch, if it is not; wanted: (channels, time) of a gateway's windows.
    """
    weights = {t.name: t for t in model.graph.initializer}
    axes = {name: _input_axes(plain, wanted)}
    swapped = None
    for node in model.graph.node:
        if not node.input or (found := axes.get(node.input[0])) is None:
            continue
        shown = _shown(node, found, weights, wanted)
        if shown is not None:
            return shown
        if node.op_type == "Transpose" and found == (BATCH, FIRST, SECOND) and _ints(node, "perm", {}) in SWAPPED:
            swapped = True  # who turns a window first has it as his layers do not take it
        made = _after(node, found, weights)
        if made is not None:
            axes[node.output[0]] = made
    return swapped


def _input_axes(plain: tuple[int, ...], wanted: tuple[int, ...]) -> Axes:
    """Which dimension is which; one of a single value, where a window has another, was added."""
    if len(plain) == len(wanted):
        return (BATCH, FIRST, SECOND)
    added = plain.index(1)
    rest = iter((FIRST, SECOND))
    return (BATCH, *(OTHER if i == added else next(rest) for i in range(len(plain))))


def _shown(
    node: onnx.NodeProto, axes: Axes, weights: dict[str, onnx.TensorProto], wanted: tuple[int, ...]
) -> bool | None:
    """Whether channels are the second dimension of a window; None where the operator does not show it."""
    if node.op_type in CHANNELS_SECOND and len(axes) > 1:
        return {FIRST: False, SECOND: True}.get(axes[1])
    if node.op_type in RECURRENT:
        return {FIRST: False, SECOND: True}.get(axes[-1])
    if node.op_type == "MatMul" and node.input[1] in weights and axes[-1] == SECOND and wanted[0] != wanted[1]:
        return weights[node.input[1]].dims[0] == wanted[0]
    return None


def _after(node: onnx.NodeProto, axes: Axes, weights: dict[str, onnx.TensorProto]) -> Axes | None:
    """The dimensions of a node's output; None where they are no longer known."""
    if node.op_type in KEPT:
        others = [weights[n] for n in node.input[1:2] if n in weights]
        return axes if all(len(t.dims) <= len(axes) for t in others) else None
    if node.op_type == "Transpose":
        perm = _ints(node, "perm", {}) or [*reversed(range(len(axes)))]
        return tuple(axes[i] for i in perm)
    if node.op_type == "Unsqueeze" and (places := _ints(node, "axes", weights)):
        rank, rest = len(axes) + len(places), iter(axes)
        new = {p % rank for p in places}
        return tuple(OTHER if i in new else next(rest) for i in range(rank))
    if node.op_type == "Squeeze" and (places := _ints(node, "axes", weights)):
        gone = {p % len(axes) for p in places}
        return tuple(a for i, a in enumerate(axes) if i not in gone)
    return None


def _ints(node: onnx.NodeProto, name: str, weights: dict[str, onnx.TensorProto]) -> list[int]:
    """An attribute, or, where it has become one, the second input; empty where it is not constant."""
    found: list[int] = next((attribute(a) for a in node.attribute if a.name == name), [])
    if not found and len(node.input) > 1 and node.input[1] in weights:
        found = values(weights[node.input[1]]).ravel().tolist()
    return list(found)
