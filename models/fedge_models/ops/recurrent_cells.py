# SPDX-License-Identifier: Apache-2.0
"""Cells over time in one direction: LSTM (Hochreiter & Schmidhuber 1997), GRU (Cho et al. 2014), RNN (Elman 1990).

Inputs are x (time, batch, in), weights as in ONNX without the axis of directions, and initial states (batch, hidden).
The products with the inputs are one GEMM for all time steps; gradients are propagated through all of them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from .activation import logistic
from .operator import Array

# Outputs (time, batch, hidden), last states, and the function from the gradients by those to the gradients by
# (x, W, R, B, peepholes, initial states).
Slopes = tuple[Array, Array, Array, Array, "Array | None", list[Array]]
Run = tuple[Array, list[Array], Callable[[Array, list[Array]], Slopes]]
SQUASH: dict[bytes, tuple[Callable[[Array], Array], Callable[[Array], Array]]] = {  # and the slope, by the output
    b"Tanh": (np.tanh, lambda h: 1 - h * h),
    b"Relu": (lambda z: np.maximum(z, 0), lambda h: (h > 0).astype(h.dtype)),
    b"Sigmoid": (logistic, lambda h: h * (1 - h)),
}


def rnn(x: Array, w: Array, r: Array, b: Array, h0: Array, *, squash: bytes) -> Run:
    """h = f(W x + R h + b), with f by name."""
    apply, slope = SQUASH[squash]
    hidden = r.shape[0]
    sums = x @ w.T + (b[:hidden] + b[hidden:])
    h = np.empty((len(x) + 1, x.shape[1], hidden), x.dtype)
    h[0] = h0
    for t in range(len(x)):
        h[t + 1] = apply(sums[t] + h[t] @ r.T)

    def back(dy: Array, ends: list[Array]) -> Slopes:
        dh, dz = ends[0], np.empty_like(sums)
        for t in reversed(range(len(x))):
            dz[t] = (dh + dy[t]) * slope(h[t + 1])
            dh = dz[t] @ r
        db = dz.sum(axis=(0, 1))
        return dz @ w, _product(dz, x), _product(dz, h[:-1]), np.concatenate([db, db]), None, [dh]

    return h[1:], [h[-1]], back


def lstm(x: Array, w: Array, r: Array, b: Array, h0: Array, c0: Array, *, peepholes: Array | None) -> Run:
    """Gates in the order input, output, forget, cell; peepholes (input, output, forget) let gates see the cell."""
    time, batch, hidden = len(x), x.shape[1], r.shape[1]
    gates = x @ w.T + (b[: 4 * hidden] + b[4 * hidden :])
    h, c = (np.empty((time + 1, batch, hidden), x.dtype) for _ in range(2))
    squashed = np.empty((time, batch, hidden), x.dtype)
    h[0], c[0] = h0, c0
    see = None if peepholes is None else peepholes.reshape(3, hidden)
    for t in range(time):
        z = gates[t]
        z += h[t] @ r.T
        i, o, f, g = np.split(z, 4, axis=1)
        if see is None:
            z[:, : 3 * hidden] = logistic(z[:, : 3 * hidden])
        else:
            i[...], f[...] = logistic(i + see[0] * c[t]), logistic(f + see[2] * c[t])
        np.tanh(g, out=g)
        c[t + 1] = f * c[t] + i * g
        if see is not None:
            o[...] = logistic(o + see[1] * c[t + 1])
        np.tanh(c[t + 1], out=squashed[t])
        h[t + 1] = o * squashed[t]

    def back(dy: Array, ends: list[Array]) -> Slopes:
        dh, dc, dz = ends[0], ends[1], np.empty_like(gates)
        for t in reversed(range(time)):
            i, o, f, g = np.split(gates[t], 4, axis=1)
            di, do, df, dg = np.split(dz[t], 4, axis=1)
            dh = dh + dy[t]
            np.multiply(dh * squashed[t], o * (1 - o), out=do)
            dc = dc + dh * o * (1 - squashed[t] ** 2)
            if see is not None:
                dc += do * see[1]
            np.multiply(dc * g, i * (1 - i), out=di)
            np.multiply(dc * c[t], f * (1 - f), out=df)
            np.multiply(dc * i, 1 - g * g, out=dg)
            dc, dh = dc * f, dz[t] @ r
            if see is not None:
                dc += di * see[0] + df * see[2]
        db = dz.sum(axis=(0, 1))
        dp = None if see is None else _by_cell(dz, c)
        return dz @ w, _product(dz, x), _product(dz, h[:-1]), np.concatenate([db, db]), dp, [dh, dc]

    return h[1:], [h[-1], c[-1]], back


def gru(x: Array, w: Array, r: Array, b: Array, h0: Array, *, after: bool) -> Run:
    """Gates in the order update, reset, hidden; `after`: the reset gate is applied after the product with h."""
    time, hidden = len(x), r.shape[1]
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

    def back(dy: Array, ends: list[Array]) -> Slopes:
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
        return da @ w, _product(da, x), dr, np.concatenate([da.sum(axis=(0, 1)), drb]), None, [dh]

    return h[1:], [h[-1]], back


def _product(dz: Array, x: Array) -> Any:
    """The gradient by a weight matrix (gates, in), summed over time and batch."""
    return dz.reshape(-1, dz.shape[2]).T @ x.reshape(-1, x.shape[2])


def _by_cell(dz: Array, c: Array) -> Array:
    """The gradient by an LSTM's peepholes: its input and forget gates see the cell before a step, its output after."""
    di, do, df, _ = np.split(dz, 4, axis=2)
    seen = [(di, c[:-1]), (do, c[1:]), (df, c[:-1])]
    return np.concatenate([(d * state).sum(axis=(0, 1)) for d, state in seen])
