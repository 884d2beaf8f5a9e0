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
    found: list[tuple[str, str]] = []
    for i, tensor in enumerate(plain):
        if tensor.name in {n for _, n in found}:
            continue
        partners = [t for t in plain[i + 1 :] if [*t.dims] == [*tensor.dims][::-1]]
        turned = values(tensor).T if partners else None
        for other in partners:
            if (
                turned is not None
                and turned.any()
                and _equal(values(other), turned)
                and not _equal(values(other), values(tensor))
            ):
                found.append((tensor.name, other.name))
    return found


def _equal(one: NDArray[Any], other: NDArray[Any]) -> bool:
    """Whether they are; a first look at one row, because most are not."""
    return one.shape == other.shape and np.array_equal(one[0], other[0]) and np.array_equal(one, other)


def _tie(graph: onnx.GraphProto, tensor: str, copy: str) -> None:
    """Compute the copy from the tensor."""
    node = messages().NodeProto(op_type="Transpose", name=f"{copy}/Transpose", input=[tensor], output=[copy])
    node.attribute.add(name="perm", type=A_INTS, ints=[1, 0])
    del graph.initializer[next(i for i, t in enumerate(graph.initializer) if t.name == copy)]
    graph.node.insert(0, node)
