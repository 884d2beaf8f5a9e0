# SPDX-License-Identifier: Apache-2.0
"""Discrete Fourier transforms, whole or of short frames (Allen & Rabiner 1977); complex numbers are pairs at the end.

Transforms are linear, so the gradient is the adjoint transform of the output's.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from .operator import Array, Backprop, Grads, Node

Complex = Any  # numpy has complex64 only from 2.0 on in its transforms


def dft(node: Node, x: Array, length: Any = None, axis: Any = None) -> tuple[Array, Backprop]:
    """ONNX DFT of x (..., 1) or (..., 2) along an axis, also `inverse`, with half the spectrum where `onesided`."""
    along = _axis(node, x, axis)
    inverse, half = bool(node.attr("inverse", 0)), bool(node.attr("onesided", 0))
    known = x.shape[along]
    size = _given(length, 2 * (known - 1) if inverse and half else known)
    node.bound(x.size // max(1, known) * size)
    signal = _complex(x)
    if inverse:
        made = np.fft.irfft(signal, size, along)[..., None] if half else _pairs(np.fft.ifft(signal, size, along))
    else:
        made = _pairs(_cut(np.fft.fft(signal, size, along), along, size // 2 + 1 if half else size))

    def backprop(dy: Array) -> Grads:
        slope = _complex(dy)
        if inverse:
            found = _adjoint_of_real(slope, size, along) if half else np.fft.fft(slope, size, along) / size
        else:
            found = np.fft.ifft(_cut(slope, along, size), size, along) * size
        pairs = _pairs(_cut(found, along, known))[..., : x.shape[-1]]
        return (pairs.astype(dy.dtype), None, None)

    return made.astype(x.dtype), backprop


def stft(node: Node, x: Array, step: Any, window: Array | None = None, length: Any = None) -> tuple[Array, Backprop]:
    """ONNX STFT of signals x (batch, time) or (batch, time, 1 or 2) to (batch, frames, frequencies, 2)."""
    given = x.shape
    x = x[..., None] if x.ndim == 2 else x
    by, size = _given(step, 1), _given(length, len(window) if window is not None else 0)
    if by < 1 or size < 1:
        node.refuse(f"frames of {size} values every {by} are not possible")
    count = 1 + (x.shape[1] - size) // by
    node.bound(count * size * len(x) * 2)
    index = np.arange(size) + by * np.arange(count)[:, None]
    weights = np.ones(size, x.dtype) if window is None else window
    frames = _complex(x)[:, index]
    bins = size // 2 + 1 if node.attr("onesided", 1) else size
    made = _pairs(_cut(np.fft.fft(frames * weights, axis=-1), 2, bins))

    def backprop(dy: Array) -> Grads:
        slope = np.fft.ifft(_cut(_complex(dy), 2, size), axis=-1) * size
        dx = np.zeros(x.shape, dy.dtype)
        place: Any = (slice(None), index)
        np.add.at(dx, place, _pairs(slope * weights)[..., : x.shape[2]])
        seen = np.real(slope * np.conj(frames)).sum(axis=(0, 1))
        return (dx.reshape(given), None, None if window is None else seen.astype(dy.dtype), None)

    return made.astype(x.dtype), backprop


def _adjoint_of_real(slope: Complex, size: int, axis: int) -> Complex:
    """The adjoint of the inverse to a real signal: what has a mirror image counts twice."""
    found = np.fft.rfft(np.real(slope), size, axis) / size
    twice = np.full(found.shape[axis], 2.0)
    twice[0] = 1
    if size % 2 == 0:
        twice[-1] = 1
    return found * twice.reshape([-1 if i == axis else 1 for i in range(found.ndim)])


def _axis(node: Node, x: Array, given: Any) -> int:
    """The axis from the input (opset 20 and later) or the attribute (before); their defaults are the same of three."""
    if given is None and "axis" not in node.attributes and x.ndim != 3:
        node.refuse("has no axis; its default differs between opset 17 and 20, so export it with one")
    return _given(given, node.attr("axis", 1)) % x.ndim


def _given(value: Any, default: int) -> int:
    return default if value is None else int(np.asarray(value).reshape(()))


def _complex(x: Array) -> Complex:
    return x[..., 0] if x.shape[-1] == 1 else x[..., 0] + 1j * x[..., 1]


def _pairs(x: Complex) -> Array:
    return np.stack([np.real(x), np.imag(x)], axis=-1)


def _cut(x: Complex, axis: int, size: int) -> Complex:
    """The first `size` entries along an axis, zeros where there are fewer."""
    if x.shape[axis] >= size:
        return x.take(np.arange(size), axis)
    return np.pad(x, [(0, size - x.shape[axis]) if i == axis else (0, 0) for i in range(x.ndim)])
