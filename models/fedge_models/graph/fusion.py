# SPDX-License-Identifier: Apache-2.0
"""Fuse neighbouring nodes into one: a table says which operators can run together with what follows them.

A node absorbs the next one when no other node reads the value between them, so that this value is never written. The
operator does the absorbed nodes' work (`Node.then`); the table only says when it can.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ..ops.linear import is_dense
from ..ops.operator import Node
from ..ops.pool_tiles import are_tiles

Constants = Mapping[str, Any]  # arrays by name, parameters among them
Rule = Callable[[Node, Node, Constants], bool]


def _dense_relu(gemm: Node, relu: Node, constants: Constants) -> bool:
    bias = constants[gemm.inputs[2]] if len(gemm.inputs) > 2 and gemm.inputs[2] in constants else None
    return _known(gemm, constants) and is_dense(gemm, constants[gemm.inputs[1]], bias)


def _always(node: Node, behind: Node, constants: Constants) -> bool:
    return True


def _tiled(node: Node, pool: Node, constants: Constants) -> bool:
    return are_tiles(pool)


def _product_bias(matmul: Node, add: Node, constants: Constants) -> bool:
    """MatMul by a matrix, plus one constant for each column: Keras exports a dense layer so."""
    matrix, bias = constants.get(matmul.inputs[1]), constants.get(_other(add, matmul))
    if matrix is None or bias is None or matmul.inputs[0] in constants:
        return False
    return bool(matrix.ndim == 2 and bias.shape == matrix.shape[1:])


TABLE: dict[tuple[str, ...], Rule] = {
    ("MatMul", "Add"): _product_bias,  # becomes a Gemm
    ("Gemm", "Relu"): _dense_relu,
    ("Add", "Relu"): _always,
    ("BatchNormalization", "Relu"): _always,
    ("Conv", "Relu"): _always,
    ("Conv", "MaxPool"): _tiled,
    ("Conv", "Relu", "MaxPool"): _tiled,
}


def fuse(nodes: Sequence[Node], constants: Constants, output: str) -> list[Node]:
    """Return the nodes, each fused with those after it that the table allows, in a valid order."""
    readers: dict[str, list[Node]] = {}
    for node in nodes:
        for name in node.inputs:
            readers.setdefault(name, []).append(node)
    fused, taken = [], set()
    for node in nodes:
        if node in taken:
            continue
        while (behind := _only_reader(node, readers, output)) is not None:
            rule = TABLE.get((node.op_type, *(n.op_type for n in node.then), behind.op_type))
            if rule is None or not rule(node, behind, constants):
                break
            taken.add(behind)
            node = _join(node, behind)  # noqa: PLW2901
        fused.append(node)
    return fused


def _only_reader(node: Node, readers: Mapping[str, list[Node]], output: str) -> Node | None:
    found = readers.get(node.outputs[0], [])
    return found[0] if len(found) == 1 and len(node.outputs) == 1 and node.outputs[0] != output else None


def _join(node: Node, behind: Node) -> Node:
    name = f"{node.name}, {behind.name}"
    if node.op_type == "MatMul":
        joined = Node(name, "Gemm", (*node.inputs, _other(behind, node)), behind.outputs, {})
        joined.wanted = (*node.wanted, behind.wanted[1 - behind.inputs.index(node.outputs[0])])
    else:
        joined = Node(name, node.op_type, node.inputs, behind.outputs, node.attributes)
        joined.then, joined.wanted = (*node.then, behind), node.wanted
    joined.dtype, joined.updates_statistics = node.dtype, node.updates_statistics
    return joined


def _known(node: Node, constants: Constants) -> bool:
    """Whether weights and bias are constants."""
    return len(node.inputs) > 1 and all(name in constants for name in node.inputs[1:] if name)


def _other(add: Node, node: Node) -> str:
    """The input of `add` that is not the output of `node`."""
    return add.inputs[1 - add.inputs.index(node.outputs[0])]
