# SPDX-License-Identifier: Apache-2.0
"""Move blocks of pixels into channels and back (Shi et al. 2016), and turn the beginnings of sequences round."""

from __future__ import annotations

import numpy as np

from .operator import Array, Backprop, Node
from .shape import Ints


def depth_to_space(node: Node, x: Array) -> tuple[Array, Backprop]:
    """x (batch, block² * channels, height, width) to (batch, channels, block * height, block * width)."""
    batch, depth, height, width = x.shape
    n = node.attr("blocksize", 1)
    if depth % (n * n):
        node.refuse(f"{depth} channels are no multiple of {n * n}, the square of blocksize")
    if node.attr("mode", b"DCR") == b"DCR":  # the block before the channel
        parts, order = (batch, n, n, depth // n**2, height, width), (0, 3, 4, 1, 5, 2)
    else:
        parts, order = (batch, depth // n**2, n, n, height, width), (0, 1, 4, 2, 5, 3)
    return _moved(x, parts, order, (batch, depth // n**2, n * height, n * width))


def space_to_depth(node: Node, x: Array) -> tuple[Array, Backprop]:
    """x (batch, channels, block * height, block * width) to (batch, block² * channels, height, width)."""
    batch, depth, height, width = x.shape
    n = node.attr("blocksize", 1)
    if height % n or width % n:
        node.refuse(f"{height} x {width} pixels are no multiple of blocksize {n}")
    parts, order = (batch, depth, height // n, n, width // n, n), (0, 3, 5, 1, 2, 4)
    if node.attr("mode", b"DCR") == b"CRD":
        order = (0, 1, 3, 5, 2, 4)
    return _moved(x, parts, order, (batch, depth * n * n, height // n, width // n))


def _moved(x: Array, parts: tuple[int, ...], order: tuple[int, ...], out: tuple[int, ...]) -> tuple[Array, Backprop]:
    whole = x.reshape(parts).transpose(order)
    back = np.argsort(order)
    return whole.reshape(out), lambda dy: (dy.reshape(whole.shape).transpose(back).reshape(x.shape),)


def reverse_sequence(node: Node, x: Array, lengths: Ints) -> tuple[Array, Backprop]:
    """x with the first `lengths` steps of each sequence in the other order; the others stay."""
    time, batch = node.attr("time_axis", 0), node.attr("batch_axis", 1)
    steps = np.arange(x.shape[time])[:, None]
    source = np.where(steps < lengths, lengths - 1 - steps, steps)  # (time, batch), its own inverse
    index = source if time < batch else source.T
    index = index.reshape([n if i in (time, batch) else 1 for i, n in enumerate(x.shape)])
    return np.take_along_axis(x, index, time), lambda dy: (np.take_along_axis(dy, index, time), None)
