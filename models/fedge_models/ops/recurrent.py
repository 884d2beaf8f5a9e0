# SPDX-License-Identifier: Apache-2.0
"""Recurrent layers, one direction or both, over the cells of `recurrent_cells.py`.

Inputs and outputs are those of ONNX. Layout 0: x (time, batch, in), Y (time, directions, batch, hidden), and the last
states (directions, batch, hidden). In layout 1 the batch comes first everywhere.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from . import recurrent_cells as cells
from .operator import Array, Backprop, Grads, Node
from .recurrent_cells import Run

BUILD = "Build the layer with these, or freeze it with all that lies before it"
Several = tuple[tuple[Array, ...], Backprop]
OUT, STATE = (2, 0, 1, 3), (1, 0, 2)  # axes of Y and of states in layout 1, taken from those of layout 0


def lstm(
    node: Node,
    x: Array,
    w: Array,
    r: Array,
    b: Array | None = None,
    lengths: Array | None = None,
    h0: Array | None = None,
    c0: Array | None = None,
    peepholes: Array | None = None,
) -> Several:
    """ONNX LSTM to (Y, Y_h, Y_c); gates in the order input, output, forget, cell."""
    _same(node, [b"Sigmoid", b"Tanh", b"Tanh"])
    seen = peepholes is not None and (peepholes.any() or (len(node.wanted) > 7 and node.needs(7)))

    def run(d: int, *given: Array) -> Run:
        return cells.lstm(*given, peepholes=peepholes[d] if peepholes is not None and seen else None)

    return _layer(node, run, x, w, r, b, lengths, [h0, c0])


def gru(
    node: Node,
    x: Array,
    w: Array,
    r: Array,
    b: Array | None = None,
    lengths: Array | None = None,
    h0: Array | None = None,
) -> Several:
    """ONNX GRU to (Y, Y_h); gates in the order update, reset, hidden."""
    _same(node, [b"Sigmoid", b"Tanh"])
    after = bool(node.attr("linear_before_reset", 0))
    return _layer(node, lambda d, *given: cells.gru(*given, after=after), x, w, r, b, lengths, [h0])


def rnn(
    node: Node,
    x: Array,
    w: Array,
    r: Array,
    b: Array | None = None,
    lengths: Array | None = None,
    h0: Array | None = None,
) -> Several:
    """ONNX RNN to (Y, Y_h), with Tanh, Relu or Sigmoid."""
    squash = node.attr("activations", [b"Tanh"] * len(w))
    if len(squash) != len(w) or not set(squash) <= {*cells.SQUASH}:
        node.refuse(
            f"activations {_names(squash)} are not supported; expected {_names(list(cells.SQUASH), ' or ')}. {BUILD}"
        )
    return _layer(node, lambda d, *given: cells.rnn(*given, squash=squash[d]), x, w, r, b, lengths, [h0])


def _same(node: Node, usual: list[bytes]) -> None:
    """Refuse other activations than the usual ones."""
    if (given := list(node.attr("activations", usual))) not in (usual, usual * 2):
        node.refuse(f"activations {_names(given)} are not supported; expected {_names(usual)}. {BUILD}")


def _names(activations: list[bytes], between: str = ", ") -> str:
    return between.join(name.decode() for name in activations)


def _layer(
    node: Node,
    run: Callable[..., Run],
    x: Array,
    w: Array,
    r: Array,
    b: Array | None,
    lengths: Array | None,
    initial: Sequence[Array | None],
) -> Several:
    """Run all directions of a layer, in either layout."""
    first = bool(node.attr("layout", 0))
    if first:
        x = x.transpose(STATE)
    _check(node, x, lengths)
    zeros = np.zeros((len(w), x.shape[1], r.shape[2]), x.dtype)
    bias = b if b is not None else np.zeros((len(w), 2 * w.shape[1]), x.dtype)
    back = [node.attr("direction", b"forward") == b"reverse", True][: len(w)]
    order = [slice(None, None, -1) if reverse else slice(None) for reverse in back]
    states = [zeros if s is None else s.transpose(STATE) if first else s for s in initial]
    runs = [run(d, x[o], w[d], r[d], bias[d], *[s[d] for s in states]) for d, o in enumerate(order)]
    y = np.stack([made[0][o] for made, o in zip(runs, order, strict=True)], axis=1)
    last = [np.stack([made[1][k] for made in runs]) for k in range(len(states))]

    def backprop(dys: Sequence[Array | None]) -> Grads:
        dy = np.zeros_like(y) if dys[0] is None else dys[0].transpose(np.argsort(OUT)) if first else dys[0]
        ends = [np.zeros_like(zeros) if d is None else d.transpose(STATE) if first else d for d in dys[1:]]
        found = [made[2](dy[o, d], [e[d] for e in ends]) for d, (made, o) in enumerate(zip(runs, order, strict=True))]
        dx = np.add.reduce([f[0][o] for f, o in zip(found, order, strict=True)])
        dw, dr, db = (np.stack([f[k] for f in found]) for k in (1, 2, 3))  # type: ignore[misc]
        begins = [np.stack([f[5][k] for f in found]) if s is not None else None for k, s in enumerate(initial)]
        if first:
            dx, begins = dx.transpose(STATE), [None if s is None else s.transpose(STATE) for s in begins]
        return (dx, dw, dr, db if b is not None else None, None, *begins, _stacked([f[4] for f in found]))

    if first:
        return (y.transpose(OUT), *(s.transpose(STATE) for s in last)), backprop
    return (y, *last), backprop


def _stacked(parts: Sequence[Array | None]) -> Any:
    return None if parts[0] is None else np.stack([p for p in parts if p is not None])


def _check(node: Node, x: Array, lengths: Array | None) -> None:
    problems = [
        (node.attr("clip", None) is not None, "clip"),
        (bool(node.attr("input_forget", 0)), "input_forget"),
        (lengths is not None and bool((lengths != len(x)).any()), "sequences of unequal length"),
    ]
    for wrong, what in problems:
        if wrong:
            node.refuse(f"{what}: not supported; export without")
