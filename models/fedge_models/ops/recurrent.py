# SPDX-License-Identifier: Apache-2.0
"""Recurrent layers, one direction or both: LSTM (Hochreiter & Schmidhuber 1997) and GRU (Cho et al. 2014).

Inputs and outputs are those of ONNX (layout 0): x (time, batch, in), Y (time, directions, batch, hidden), and the last
states (directions, batch, hidden). The products with the inputs are one GEMM for all time steps; gradients
are propagated through all of them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ..errors import ModelError
from .activation import logistic
from .operator import Array, Backprop, Grads, Node

# One direction: outputs (time, batch, hidden), last states, and the function from the gradients by those to the
# gradients by (x, W, R, B, initial states).
Run = tuple[Array, list[Array], Callable[[Array, list[Array]], tuple[Array, Array, Array, Array, list[Array]]]]


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
) -> tuple[tuple[Array, ...], Backprop]:
    """ONNX LSTM to (Y, Y_h, Y_c); gates in the order input, output, forget, cell."""
    if peepholes is not None and peepholes.any():
        raise ModelError(f"node {node.name!r} (LSTM): peepholes are not supported")
    return _layer(node, _lstm, x, w, r, b, lengths, [h0, c0])


def gru(
    node: Node,
    x: Array,
    w: Array,
    r: Array,
    b: Array | None = None,
    lengths: Array | None = None,
    h0: Array | None = None,
) -> tuple[tuple[Array, ...], Backprop]:
    """ONNX GRU to (Y, Y_h); gates in the order update, reset, hidden."""
    return _layer(node, _gru, x, w, r, b, lengths, [h0])


def _layer(
    node: Node,
    run: Callable[..., Run],
    x: Array,
    w: Array,
    r: Array,
    b: Array | None,
    lengths: Array | None,
    initial: Sequence[Array | None],
) -> tuple[tuple[Array, ...], Backprop]:
    """Run all directions of a layer."""
    _check(node, x, lengths)
    hidden = r.shape[2]
    zeros = np.zeros((len(w), x.shape[1], hidden), x.dtype)
    bias = b if b is not None else np.zeros((len(w), 2 * w.shape[1]), x.dtype)
    back = [node.attr("direction", b"forward") == b"reverse", True][: len(w)]
    order = [slice(None, None, -1) if reverse else slice(None) for reverse in back]
    states = [zeros if s is None else s for s in initial]
    runs = [run(node, x[o], w[d], r[d], bias[d], *[s[d] for s in states]) for d, o in enumerate(order)]
    y = np.stack([made[0][o] for made, o in zip(runs, order, strict=True)], axis=1)
    last = [np.stack([made[1][k] for made in runs]) for k in range(len(states))]

    def backprop(dys: Sequence[Array | None]) -> Grads:
        dy = np.zeros_like(y) if dys[0] is None else dys[0]
        ends = [np.zeros_like(zeros) if d is None else d for d in dys[1:]]
        found = [made[2](dy[o, d], [e[d] for e in ends]) for d, (made, o) in enumerate(zip(runs, order, strict=True))]
        dx = np.add.reduce([f[0][o] for f, o in zip(found, order, strict=True)])
        dw, dr, db = (np.stack([f[k] for f in found]) for k in (1, 2, 3))
        begins = [np.stack([f[4][k] for f in found]) if s is not None else None for k, s in enumerate(initial)]
        return (dx, dw, dr, db if b is not None else None, None, *begins, None)

    return (y, *last), backprop


def _check(node: Node, x: Array, lengths: Array | None) -> None:
    usual = {"LSTM": [b"Sigmoid", b"Tanh", b"Tanh"], "GRU": [b"Sigmoid", b"Tanh"]}[node.op_type]
    activations = list(node.attr("activations", usual))
    problems = [
        (activations not in (usual, usual * 2), f"activations {activations}"),
        (bool(node.attr("layout", 0)), "layout 1"),
        (node.attr("clip", None) is not None, "clip"),
        (bool(node.attr("input_forget", 0)), "input_forget"),
        (lengths is not None and bool((lengths != len(x)).any()), "sequences of unequal length"),
    ]
    for wrong, what in problems:
        if wrong:
            raise ModelError(f"node {node.name!r} ({node.op_type}): {what}: not supported; export without")


def _lstm(node: Node, x: Array, w: Array, r: Array, b: Array, h0: Array, c0: Array) -> Run:
    time, batch, hidden = len(x), x.shape[1], r.shape[1]
    gates = x @ w.T + (b[: 4 * hidden] + b[4 * hidden :])
    h, c = (np.empty((time + 1, batch, hidden), x.dtype) for _ in range(2))
    squashed = np.empty((time, batch, hidden), x.dtype)
    h[0], c[0] = h0, c0
    for t in range(time):
        z = gates[t]
        z += h[t] @ r.T
        z[:, : 3 * hidden] = logistic(z[:, : 3 * hidden])
        i, o, f, g = np.split(z, 4, axis=1)
        np.tanh(g, out=g)
        c[t + 1] = f * c[t] + i * g
        np.tanh(c[t + 1], out=squashed[t])
        h[t + 1] = o * squashed[t]

    def back(dy: Array, ends: list[Array]) -> tuple[Array, Array, Array, Array, list[Array]]:
        dh, dc, dz = ends[0], ends[1], np.empty_like(gates)
        for t in reversed(range(time)):
            i, o, f, g = np.split(gates[t], 4, axis=1)
            di, do, df, dg = np.split(dz[t], 4, axis=1)
            dh = dh + dy[t]
            dc = dc + dh * o * (1 - squashed[t] ** 2)
            np.multiply(dc * g, i * (1 - i), out=di)
            np.multiply(dh * squashed[t], o * (1 - o), out=do)
            np.multiply(dc * c[t], f * (1 - f), out=df)
            np.multiply(dc * i, 1 - g * g, out=dg)
            dc, dh = dc * f, dz[t] @ r
        db = dz.sum(axis=(0, 1))
        return dz @ w, _product(dz, x), _product(dz, h[:-1]), np.concatenate([db, db]), [dh, dc]

    return h[1:], [h[-1], c[-1]], back


def _gru(node: Node, x: Array, w: Array, r: Array, b: Array, h0: Array) -> Run:
    time, hidden, after = len(x), r.shape[1], bool(node.attr("linear_before_reset", 0))
    two = 2 * hidden
    rb = b[3 * hidden :]
    gates = x @ w.T + b[: 3 * hidden]
    gates[..., :two] += rb[:two]
    if not after:
        gates[..., two:] += rb[two:]
    h = np.empty((time + 1, x.shape[1], hidden), x.dtype)
    inner = np.empty((time, x.shape[1], hidden), x.dtype)  # the reset gate's factor, or its product
    h[0] = h0
    for t in range(time):
        gates[t, :, :two] = logistic(gates[t, :, :two] + h[t] @ r[:two].T)
        z, reset, n = np.split(gates[t], 3, axis=1)
        inner[t] = h[t] @ r[two:].T + rb[two:] if after else reset * h[t]
        n += reset * inner[t] if after else inner[t] @ r[two:].T
        np.tanh(n, out=n)
        h[t + 1] = (1 - z) * n + z * h[t]

    def back(dy: Array, ends: list[Array]) -> tuple[Array, Array, Array, Array, list[Array]]:
        dh, da = ends[0], np.empty_like(gates)
        dn = np.empty_like(inner)  # by the product with the hidden gate's recurrent weights
        for t in reversed(range(time)):
            z, reset, n = np.split(gates[t], 3, axis=1)
            dh = dh + dy[t]
            a = da[t, :, two:] = dh * (1 - z) * (1 - n * n)
            dn[t] = a * reset if after else a
            through = dn[t] @ r[two:]
            dreset = a * inner[t] if after else through * h[t]
            da[t, :, :hidden] = dh * (h[t] - n) * z * (1 - z)
            da[t, :, hidden:two] = dreset * reset * (1 - reset)
            dh = dh * z + (through if after else through * reset) + da[t, :, :two] @ r[:two]
        dr = np.concatenate([_product(da[..., :two], h[:-1]), _product(dn, h[:-1] if after else inner)])
        drb = np.concatenate([da[..., :two].sum(axis=(0, 1)), dn.sum(axis=(0, 1))])
        return da @ w, _product(da, x), dr, np.concatenate([da.sum(axis=(0, 1)), drb]), [dh]

    return h[1:], [h[-1]], back


def _product(dz: Array, x: Array) -> Any:
    """The gradient by a weight matrix (gates, in), summed over time and batch."""
    return dz.reshape(-1, dz.shape[2]).T @ x.reshape(-1, x.shape[2])
