# SPDX-License-Identifier: Apache-2.0
"""Turn a graph of float16, bfloat16 or float64 into one of float32, which is what gateways give and train.

Values stay as they are, rounded to float32. Where float64 stores a huge number in place of infinity (a mask), it
becomes the largest of float32.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from ...errors import ModelError
from ...protos import DOUBLE, FLOAT, FLOAT16, tensor
from ..card import Card
from ..notes import note
from ..onnx_file import array

if TYPE_CHECKING:
    import onnx

BFLOAT16 = 16
OTHERS = {FLOAT16: "float16", DOUBLE: "float64", BFLOAT16: "bfloat16"}
TYPES = ("to", "dtype", "stash_type", "softmax_precision", "output_dtype")  # attributes that name a type
LARGEST = float(np.finfo(np.float32).max)
INSTEAD_OF_INFINITY = 1e300  # no weight and no factor of a machine's values is as large


def to_float32(model: onnx.ModelProto, card: Card, where: str) -> bool:
    """Convert tensors, types and casts in place. Return whether there were others. Raises ModelError for values."""
    found: set[str] = set()
    for graph in graphs(model.graph):
        for value in (*graph.input, *graph.output, *graph.value_info):
            kind = value.type.tensor_type
            if kind.elem_type in OTHERS:
                found.add(OTHERS[kind.elem_type])
                kind.elem_type = FLOAT
        for stored in graph.initializer:
            _convert(stored, found, where)
        for node in graph.node:
            for attribute in node.attribute:
                if attribute.name in TYPES and attribute.i in OTHERS:
                    found.add(OTHERS[attribute.i])
                    attribute.i = FLOAT
                for inner in (attribute.t, *attribute.tensors):
                    _convert(inner, found, where)
    if found:
        note(model, f"converted: {' and '.join(sorted(found))} to float32")
    return bool(found)


def graphs(graph: onnx.GraphProto | onnx.FunctionProto) -> Iterator[Any]:
    """Yield the graph, or the body of a function, and every graph inside its nodes."""
    yield graph
    for node in graph.node:
        for attribute in node.attribute:
            for inner in ([attribute.g] if attribute.HasField("g") else []) + [*attribute.graphs]:
                yield from graphs(inner)


def _convert(stored: onnx.TensorProto, found: set[str], where: str) -> None:
    if stored.data_type not in OTHERS:
        return
    found.add(OTHERS[stored.data_type])
    exact = array(stored.name, stored, where, finite=False).astype(np.float64)
    huge = np.isfinite(exact) & (np.abs(exact) > LARGEST)
    if (huge & (np.abs(exact) < INSTEAD_OF_INFINITY)).any():
        raise ModelError(
            f"{where}: tensor {stored.name!r} has values beyond float32, up to {np.abs(exact[huge]).max()}. "
            "A gateway calculates in float32: scale the network's values, or, of a mask, use -1e9"
        )
    exact[huge] = np.sign(exact[huge]) * LARGEST
    mark = stored.doc_string
    stored.CopyFrom(tensor(stored.name, exact.astype(np.float32)))
    if mark:
        stored.doc_string = mark
