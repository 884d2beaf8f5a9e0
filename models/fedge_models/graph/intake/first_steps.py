# SPDX-License-Identifier: Apache-2.0
"""Know what PyTorch's newer exporter made of a loop's first step: it computes a product with a state of zeros itself.

`W @ 0 + b` is stored as a tensor with the values of b, and `exp(A) * 0` as zeros. Both would train as parameters that
the network does not have. The first becomes b in another shape, the second is marked as none.
"""

from __future__ import annotations

from math import prod
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ...protos import DOUBLE, FLOAT, FLOAT16, messages, tensor, values
from ..card import Card
from ..notes import note
from .free_names import FreeNames
from .provenance import CONSTANT, COUNTED, Origins, is_marked

if TYPE_CHECKING:
    import onnx

ZEROS = ("new_zeros", "zeros", "zeros_like")
WITH_BIAS = ("addmm", "linear")
PRODUCTS = ("bmm", "einsum", "matmul", "mm", "mul", "mv")
GONE = "a product with a state of zeros"
FIRST = "fedge.first_step: "  # how the mark begins, and then the parameter
TIE = "/first step"  # how the name of a node ends that computes a tensor from its parameter
STORED = "a loop's first step from it and stored it apart; it is the parameter again"


def mark_first_steps(model: onnx.ModelProto, origin: Origins) -> None:
    """Mark such tensors, as long as they have the names that the exporter wrote."""
    floats = {t.name: t for t in model.graph.initializer if t.data_type in (FLOAT, FLOAT16, DOUBLE)}
    for name, stored in floats.items():
        operation = origin.operation(name)
        if is_marked(stored) or not operation or not _is_of_zeros(origin, name):
            continue
        made = values(stored)
        parameter = next((p for p in origin.parameters(name) if _is_same(floats.get(p), made)), "")
        if parameter and (made.any() or operation in WITH_BIAS):
            stored.doc_string = FIRST + parameter
        elif not made.any() and operation in (*WITH_BIAS, *PRODUCTS):  # a sum of zeros may be a state that is learnt
            stored.doc_string = CONSTANT + GONE


def is_first_step(stored: onnx.TensorProto) -> bool:
    """Whether a tensor is marked as a parameter in another shape."""
    return stored.doc_string.startswith(FIRST)


def is_tie(node: onnx.NodeProto) -> bool:
    """Whether a node computes such a tensor: it reads the parameter itself, and no copy of it."""
    return node.op_type == "Reshape" and node.name.endswith(TIE)


def tie_first_steps(model: onnx.ModelProto, card: Card, where: str) -> bool:
    """Compute each marked tensor from its parameter, in place. Return whether there was one."""
    there = {t.name for t in model.graph.initializer}
    marked = {t.name: t.doc_string.removeprefix(FIRST) for t in model.graph.initializer if is_first_step(t)}
    tied = {name: parameter for name, parameter in marked.items() if parameter in there}
    if tied:
        _tie(model.graph, tied)
        note(model, f"first step: {', '.join(dict.fromkeys(tied.values()))}: the exporter had computed {STORED}")
    for stored in model.graph.initializer:
        if is_first_step(stored):
            stored.ClearField("doc_string")
    return bool(marked)


def _is_of_zeros(origin: Origins, name: str) -> bool:
    return any(COUNTED.sub("", step) in ZEROS for step in origin.folded.get(name, ()))


def _is_same(parameter: onnx.TensorProto | None, made: NDArray[Any]) -> bool:
    """Whether a tensor has the values of a parameter that is stored, in any shape; more than one, so not by chance."""
    if parameter is None or prod(parameter.dims) != made.size or made.size < 2:
        return False
    return np.array_equal(values(parameter).ravel(), made.ravel())


def _tie(graph: onnx.GraphProto, tied: dict[str, str]) -> None:
    """Compute each tensor from its parameter."""
    free = FreeNames(
        {n for node in graph.node for n in (*node.input, *node.output)} | {t.name for t in graph.initializer}
    )
    for position in reversed(range(len(graph.initializer))):
        stored = graph.initializer[position]
        if stored.name in tied:
            shape, name = free.first(f"{stored.name}/shape"), stored.name
            made = tensor(shape, np.array(stored.dims, np.int64))
            del graph.initializer[position]
            graph.initializer.append(made)
            node = messages().NodeProto(op_type="Reshape", name=f"{name}{TIE}", input=[tied[name], shape])
            node.output.append(name)
            graph.node.insert(0, node)
