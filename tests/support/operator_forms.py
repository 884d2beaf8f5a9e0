# SPDX-License-Identifier: Apache-2.0
"""How a small graph for an operator is written: its nodes after the product `h`, its tensors, its output's shape."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx

from support.graphs import N, ints, normal

Case = tuple[list[Any], dict[str, np.ndarray], tuple[int, ...]]
FLOAT = onnx.TensorProto.FLOAT


def plain(op_type: str, **attributes: Any) -> Case:
    """One input, the same shape out."""
    return [N(op_type, ["h"], ["y"], **attributes)], {}, (12,)


def positive(op_type: str, *more: str) -> list[Any]:
    """Of Softplus(h), which is above 0."""
    return [N("Softplus", ["h"], ["p"]), N(op_type, ["p", *more], ["y"])]


def shaped(node: Any, shape: tuple[int, ...], y: tuple[int, ...], **tensors: np.ndarray) -> Case:
    """Of h (n, 12) as r (n, *shape)."""
    return [N("Reshape", ["h", "s"], ["r"]), node], {"s": ints(0, *shape), **tensors}, y


def recurrent(op_type: str, directions: int, gates: int, *states: np.ndarray, **attributes: Any) -> Case:
    """Of r as three moments of four values; all outputs are used."""
    hidden, names = 5, ["Y", "H", "C"][: 3 if op_type == "LSTM" else 2]
    tensors = {
        "W": normal(directions, gates * hidden, 4),
        "R": normal(directions, gates * hidden, hidden),
        "B": normal(directions, 2 * gates * hidden),
        **{f"s{k}": s for k, s in enumerate(states)},
    }
    given = ["T", "W", "R", "B", "", *(f"s{k}" for k in range(len(states)))]
    nodes = [
        N("Reshape", ["h", "s"], ["r"]),
        N("Transpose", ["r"], ["T"], perm=[1, 0, 2]),
        N(op_type, given if states else given[:4], names, hidden_size=hidden, **attributes),
        N("ReduceMean", ["Y"], ["M"], axes=[0], keepdims=0),
        N("Sum", ["M", *names[1:]], ["S"]),
        N("Transpose", ["S"], ["y"], perm=[1, 0, 2]),
    ]
    return nodes, {"s": ints(0, 3, 4), **tensors}, (directions, hidden)


def chosen_by(*nodes: Any, **tensors: np.ndarray) -> Case:
    """h where a condition `q` holds, else its square."""
    return [*nodes, N("Mul", ["h", "h"], ["m"]), N("Where", ["q", "h", "m"], ["y"])], tensors, (12,)
