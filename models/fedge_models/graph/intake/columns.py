# SPDX-License-Identifier: Apache-2.0
"""Find the tensor whose columns are the outputs, one for each label or target.

skl2onnx writes so with `zipmap="columns"`, and tools of tables do with their outputs.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING

from ...protos import attribute, values
from ..onnx_file import tensors

if TYPE_CHECKING:
    import onnx

MOVES = ("Cast", "Flatten", "Identity", "Reshape", "Squeeze", "Unsqueeze")


def of_columns(model: onnx.ModelProto, names: Sequence[str], wanted: Sequence[str]) -> str:
    """The tensor whose first, second, … column each of these outputs is, in the order of `wanted`; else empty.

    wanted: labels or targets. Where outputs have names of them, they must have all, in this order.
    """
    if len(names) < 2 or len(names) != len(wanted) or (_share(names, wanted) and [*names] != [*wanted]):
        return ""
    known = tensors(model)
    makers = {o: n for n in model.graph.node for o in n.output}
    found = [_column(makers, known, name) for name in names]
    sources = {source for source, _ in found}
    return sources.pop() if len(sources) == 1 and [i for _, i in found] == [*range(len(names))] else ""


def _share(names: Collection[str], wanted: Collection[str]) -> bool:
    return not {*names}.isdisjoint(wanted)


def _column(makers: dict[str, onnx.NodeProto], known: dict[str, onnx.TensorProto], name: str) -> tuple[str, int]:
    """What a value is a column of, and which; ("", -1) for another value."""
    node = makers.get(name)
    while node is not None and node.op_type in MOVES:
        name = node.input[0]
        node = makers.get(name)
    if node is None:
        return "", -1
    return node.input[0], _place(node, name, known)


def _place(node: onnx.NodeProto, name: str, known: dict[str, onnx.TensorProto]) -> int:
    """Which column of its input a node gives; -1 where it is none."""
    given = {a.name: attribute(a) for a in node.attribute}
    integers = [_integers(known, n) for n in node.input[1:]]
    if node.op_type == "Split":
        every = [1] * len(node.output)
        return (
            [*node.output].index(name) if given.get("axis", 0) in (1, -1) and (integers or [every])[0] == every else -1
        )
    if node.op_type == "Gather":
        return integers[0][0] if given.get("axis", 0) in (1, -1) and len(integers[0]) == 1 else -1
    if node.op_type == "ArrayFeatureExtractor":
        return integers[0][0] if len(integers[0]) == 1 else -1
    if node.op_type != "Slice" or len(integers) < 3 or not all(len(i) == 1 for i in integers):
        return -1
    (start,), (end,), (axis,) = integers[:3]
    return start if axis in (1, -1) and end == start + 1 else -1


def _integers(known: dict[str, onnx.TensorProto], name: str) -> list[int]:
    """Stored integers; none for what is computed."""
    return [int(v) for v in values(known[name]).ravel()] if name in known else []
