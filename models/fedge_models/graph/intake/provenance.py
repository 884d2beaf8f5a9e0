# SPDX-License-Identifier: Apache-2.0
"""What PyTorch's exporter wrote about where a stored tensor comes from: a parameter, a buffer, or what it folded.

`torch.onnx.export` with dynamo=True writes the signature of the exported program into the graph, and for each tensor
that it computed beforehand the names of what it was computed from. So a transposed weight is known as the weight, and a
mask, a table of rotations or an initial state as what no optimiser of PyTorch would train.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, NamedTuple

from ...protos import DOUBLE, FLOAT, FLOAT16
from ..nodes import laid_out_statistics, running_statistics
from ..signature import PARAMETER, kinds

if TYPE_CHECKING:
    import onnx

FOLDED = "pkg.onnxscript.optimizer.folded_from"
NUMBERED = re.compile(r"val_\d+$")  # a value inside the exported program
INSIDE = re.compile(r"\.parametrizations\.(\w+)\.original\d*$")  # of torch.nn.utils.parametrizations
COUNTED = re.compile(r"(_default)?(_\d+)?$")  # of an operation's name: add_3
LAID_OUT = (
    *("_to_copy", "_unsafe_view", "alias", "cat", "chunk", "clone", "concat", "contiguous", "detach", "expand"),
    *("flatten", "getitem", "lift_fresh_copy", "movedim", "narrow", "permute", "repeat", "reshape", "select", "slice"),
    *("split", "squeeze", "stack", "t", "to", "transpose", "unbind", "unflatten", "unsqueeze", "val", "view"),
)
MADE = ("arange", "full", "ones", "ones_like", "scalar_tensor", "zeros", "zeros_like")  # from no parameter
SHAPED = ("conv1d", "conv2d")  # of a value only its shape was taken
NO_FUNCTION = frozenset((*LAID_OUT, *MADE, *SHAPED))
OF_MODULE = "a buffer of the module, not a parameter"
AFFINE = {1: "weight", 2: "bias"}  # of BatchNormalization
CONSTANT = "fedge.constant: "  # how the mark of a tensor begins that is no parameter


class Origins(NamedTuple):
    """What the exporter tells of the tensors of one file."""

    kinds: dict[str, str]  # PARAMETER, BUFFER, … by the name in PyTorch
    folded: dict[str, list[str]]  # what a tensor was computed from

    def parameters(self, name: str) -> list[str]:
        """The parameters in PyTorch that a tensor of the file is made of."""
        made_of = [name] if name in self.kinds else self.folded.get(name, [])
        return [n for n in made_of if self.kinds.get(n) == PARAMETER]

    def operation(self, name: str) -> str:
        """The operation that computed a tensor from parameters; empty where these were only laid out in another way.

        A tensor has the name of the last operation until it is named here, with a dot.
        """
        if name in self.kinds or not self.parameters(name):
            return ""
        steps = [n for n in (name, *self.folded[name]) if n not in self.kinds and "." not in n]
        return next((n for n in (COUNTED.sub("", s) for s in steps) if n not in NO_FUNCTION), "")

    def constant(self, name: str) -> str:
        """Why a tensor is no parameter of the module; empty where it is one, or nothing tells."""
        if self.kinds.get(name, PARAMETER) != PARAMETER:
            return OF_MODULE
        if name in self.kinds or self.parameters(name):
            return ""
        if buffers := [n for n in self.folded.get(name, []) if n in self.kinds]:
            return f"computed from {', '.join(buffers)}, a buffer of the module"
        if name in self.folded or (self.folded and NUMBERED.match(name)):
            return "computed by the exporter from no parameter"
        return ""


def origins(model: onnx.ModelProto) -> Origins:
    """Read what the exporter tells; nothing for a file of another tool."""
    found, folded = kinds(model), {}
    given = {v.name for v in model.graph.input}  # only the shape of an input can be known beforehand
    for value in model.graph.value_info if found else ():
        for entry in value.metadata_props:
            if entry.key == FOLDED:
                folded[value.name] = [n for n in _listed(entry.value) if n not in given]
    return Origins(found, folded)


def mark_constants(model: onnx.ModelProto, origin: Origins) -> None:
    """Mark what the exporter says is no parameter, in the tensor itself, so that a copy of it has the mark, too.

    Statistics of BatchNormalization are buffers that a card may have updated: they have rules of their own.
    """
    statistics = running_statistics(model) | laid_out_statistics(model)
    for tensor in model.graph.initializer if origin.kinds else ():
        is_row = tensor.data_type in (FLOAT, FLOAT16, DOUBLE) and len(tensor.dims) > 0
        if is_row and tensor.name not in statistics and (why := origin.constant(tensor.name)):
            tensor.doc_string = CONSTANT + why


def is_marked(tensor: onnx.TensorProto) -> bool:
    """Whether the exporter says that a tensor is no parameter."""
    return tensor.doc_string.startswith(CONSTANT)


def marks(model: onnx.ModelProto) -> dict[str, str]:
    """Take the marks off; return why each tensor with one is no parameter."""
    found = {}
    for tensor in model.graph.initializer:
        if is_marked(tensor):
            found[tensor.name] = tensor.doc_string.removeprefix(CONSTANT)
            tensor.ClearField("doc_string")
    return found


def bare_norms(model: onnx.ModelProto, of_pytorch: Mapping[str, str]) -> dict[str, str]:
    """Statistics that the exporter merged with the ones and zeros of a BatchNorm without scale and shift."""
    found = {}
    for node in model.graph.node if of_pytorch else ():
        for position, own in AFFINE.items() if node.op_type == "BatchNormalization" else ():
            name = node.input[position]
            if of_pytorch.get(name, PARAMETER) != PARAMETER and f"{name.rpartition('.')[0]}.{own}" not in of_pytorch:
                found[name] = OF_MODULE
    return found


def joint_name(names: list[str]) -> str:
    """One name for what several parameters became: `layer.bias_ih_l0` and `layer.bias_hh_l0` are `layer.bias_l0`.

    Empty for parameters of modules that have nothing in common.
    """
    plain = [INSIDE.sub(r".\1", n) for n in names]
    short = [n for n in plain if not any(n != o and n.startswith(o) for o in plain)]  # x_reverse belongs to x
    owners, lasts = zip(*(n.rpartition(".")[::2] for n in short), strict=True)
    owner, words = _common([o.split(".") for o in owners]), [last.split("_") for last in lasts]
    if len({*owners}) > 1:
        return ".".join([*owner, lasts[0] if len({*lasts}) == 1 else "weight"]) if owner else ""
    first = _common(words)
    ends = _common([w[len(first) :][::-1] for w in words])[::-1]
    return ".".join([*filter(None, owner), "_".join([*first, *ends]) or "weight"])


def _common(rows: list[list[str]]) -> list[str]:
    """What all rows begin with."""
    same = 0
    for column in zip(*rows, strict=False):
        if len({*column}) > 1:
            break
        same += 1
    return rows[0][:same]


def _listed(text: str) -> list[str]:
    try:
        found = ast.literal_eval(text)
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        return []
    return [n for n in found if isinstance(n, str)] if isinstance(found, list) else []
