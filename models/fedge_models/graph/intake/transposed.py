# SPDX-License-Identifier: Apache-2.0
"""Find a matrix that a file stores twice, the second time transposed: exporters write a tied weight so.

An autoencoder whose decoder is the transposed encoder, or an output that is the transposed embedding, trains as two
matrices unless the card lists it under `shared`: then the copy becomes a Transpose of the matrix.
"""

from __future__ import annotations

from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ...protos import A_INTS, FLOAT, messages, values
from ..card import Card
from ..notes import note, notes
from .layers import is_generated
from .provenance import is_marked

if TYPE_CHECKING:
    import onnx


def tie_transposed(model: onnx.ModelProto, card: Card, where: str) -> bool:
    """Tie such copies where the card says `shared`, in place; note the others. Return whether anything changed."""
    graph = model.graph
    changed, before = False, notes(model)
    for tensor, copy in _copies(graph, card):
        if listed := [n for n in (tensor, copy) if any(fnmatchcase(n, glob) for glob in card.shared)]:
            kept, made = (tensor, copy) if tensor in listed else (copy, tensor)
            _tie(graph, kept, made)
            note(model, f"shared: {made} was a transposed copy of {kept}, and is a Transpose of it now")
            changed = True
        elif not any(f" is a transposed copy of {tensor};" in n for n in before):  # else of what was untied since
            text = f'untied: {copy} is a transposed copy of {tensor}; if they are one on purpose, shared = ["{tensor}"]'
            changed = note(model, text) or changed
    return changed


def _copies(graph: onnx.GraphProto, card: Card) -> list[tuple[str, str]]:
    """Matrices and their transposed copies, by name. A symmetric one, such as the identity, says nothing."""
    read = {n for node in graph.node for n in node.input}
    plain = [t for t in graph.initializer if t.data_type == FLOAT and len(t.dims) == 2 and min(t.dims) > 1]
    plain = [t for t in plain if t.name in read and t.name not in card.constants and not is_marked(t)]
    plain.sort(key=lambda t: is_generated(t.name))  # the layer's own name first
    sizes = {tuple(t.dims) for t in plain}
    plain = [t for t in plain if tuple(t.dims)[::-1] in sizes]
    first: dict[tuple[object, ...], onnx.TensorProto] = {}  # by the edges of a matrix
    found: list[tuple[str, str]] = []
    for tensor in plain:
        matrix = values(tensor)
        other = first.get(_edges(matrix.T))
        if other is not None and matrix.any() and np.array_equal(values(other), matrix.T) and not _is_symmetric(matrix):
            found.append((other.name, tensor.name))
        else:
            first.setdefault(_edges(matrix), tensor)
    return found


def _edges(matrix: NDArray[Any]) -> tuple[object, ...]:
    """Shape, first row and first column, in which most matrices differ; -0 counts as 0."""
    return matrix.shape, (matrix[0] + 0).tobytes(), (matrix[:, 0] + 0).tobytes()


def _is_symmetric(matrix: NDArray[Any]) -> bool:
    return matrix.shape == matrix.T.shape and np.array_equal(matrix, matrix.T)


def _tie(graph: onnx.GraphProto, tensor: str, copy: str) -> None:
    """Compute the copy from the tensor."""
    node = messages().NodeProto(op_type="Transpose", name=f"{copy}/Transpose", input=[tensor], output=[copy])
    node.attribute.add(name="perm", type=A_INTS, ints=[1, 0])
    del graph.initializer[next(i for i, t in enumerate(graph.initializer) if t.name == copy)]
    graph.node.insert(0, node)
