# SPDX-License-Identifier: Apache-2.0
"""Store weights as initializers: some exporters write each as a Constant node, or as a sparse tensor.

Constant nodes are never trained, as most hold factors and tables. In a file without any stored tensor they must be the
weights.
"""

from __future__ import annotations

from math import prod
from typing import TYPE_CHECKING

import numpy as np

from ... import protos
from ...errors import ModelError
from ..card import Card
from ..notes import note

if TYPE_CHECKING:
    import onnx

FLOATS = (protos.FLOAT, protos.FLOAT16, protos.DOUBLE)
MOST = 1 << 26  # values of all sparse tensors written out: a small file may claim more


def as_initializers(model: onnx.ModelProto, card: Card, where: str) -> bool:
    """Turn sparse tensors, and Constant nodes where nothing else is stored, into initializers, in place.

    Return whether there were any. Raises ModelError for a sparse tensor that is not what it claims.
    """
    graph = model.graph
    _check_dense(graph, where)
    dense = [_dense(sparse, where) for sparse in graph.sparse_initializer]
    if dense:
        del graph.sparse_initializer[:]
        graph.initializer.extend(dense)
        note(model, f"sparse: {', '.join(t.name for t in dense)} written out")
    if any(_is_weight(t) for t in graph.initializer):
        return bool(dense)
    lifted = {i: t for i, n in enumerate(graph.node) if (t := _constant(n)) is not None}
    for position, tensor in reversed(lifted.items()):
        graph.initializer.append(tensor)
        graph.initializer[-1].name = graph.node[position].output[0]
        del graph.node[position]
    if lifted:
        note(model, f"stored: {len(lifted)} Constant nodes, which hold all weights of the file, are tensors now")
    return bool(dense or lifted)


def _constant(node: onnx.NodeProto) -> onnx.TensorProto | None:
    """The floats of a Constant node; None for another node, or a single value."""
    if node.op_type != "Constant" or len(node.attribute) != 1 or node.attribute[0].name != "value":
        return None
    tensor = node.attribute[0].t
    return tensor if _is_weight(tensor) else None


def _is_weight(tensor: onnx.TensorProto) -> bool:
    return tensor.data_type in FLOATS and prod(tensor.dims) > 1


def _check_dense(graph: onnx.GraphProto, where: str) -> None:
    """Raise ModelError for shapes that are none, or would take more memory than a model may."""
    whole = 0
    for sparse in graph.sparse_initializer:
        shape = tuple(sparse.dims)
        whole += prod(shape)
        if min(shape, default=0) < 1 or whole > MOST:
            most = f"each size 1 or more, and at most {MOST:,} values in all sparse tensors"
            raise ModelError(
                f"{where}: sparse tensor {sparse.values.name!r} claims the shape {list(shape)}, expected {most}"
            )


def _dense(sparse: onnx.SparseTensorProto, where: str) -> onnx.TensorProto:
    """A sparse tensor with all its zeros; its indices are places in the flat tensor, or coordinates."""
    name, shape = sparse.values.name, tuple(sparse.dims)
    made = np.zeros(shape, np.float32)
    try:
        at = protos.values(sparse.indices)
        made[tuple(at.T) if at.ndim == 2 else np.unravel_index(at, shape)] = protos.values(sparse.values)
    except (ValueError, IndexError, TypeError) as e:
        raise ModelError(f"{where}: sparse tensor {name!r} does not hold what its shape claims: {e}") from e
    return protos.tensor(name, made)
