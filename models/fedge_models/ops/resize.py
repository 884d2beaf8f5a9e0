# SPDX-License-Identifier: Apache-2.0
"""Resize: one small matrix per changed axis (`resize_weights.py`), and its transpose for the gradient."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from .operator import Array, Backprop, Grads, Node
from .resize_weights import Part, matrix_of


class _Axis(NamedTuple):
    """An axis that changes: the weights (new, old), and which new values lie beyond what is cropped."""

    axis: int
    weights: Array
    beyond: Any


def resize(
    node: Node, x: Array, roi: Array | None = None, scales: Array | None = None, sizes: Array | None = None
) -> tuple[Array, Backprop]:
    """ONNX Resize of x by scales or to sizes, of all axes or of `axes`; nearest, linear or cubic."""
    changed = []
    for axis, part in _wanted(node, x, roi, scales, sizes):
        key = (axis, part)
        if key not in node.cached:
            node.bound(part.new * part.old)
            weights, beyond = matrix_of(node, part)
            node.cached[key] = _Axis(axis, weights.astype(x.dtype), beyond)
        changed.append(node.cached[key])
    y = x
    for axis, weights, beyond in changed:
        node.bound(y.size // max(1, y.shape[axis]) * len(weights))
        y = _along(y, axis, weights)
        if beyond is not None:
            np.moveaxis(y, axis, 0)[beyond] = node.attr("extrapolation_value", 0.0)

    def backprop(dy: Array) -> Grads:
        for axis, weights, _ in reversed(changed):
            dy = _along(dy, axis, weights.T)
        return (dy, None, None, None)

    return y, backprop


def _wanted(
    node: Node, x: Array, roi: Array | None, scales: Array | None, sizes: Array | None
) -> list[tuple[int, Part]]:
    """Return each axis that changes."""
    over = [a % x.ndim for a in node.attr("axes", range(x.ndim))]
    old = [x.shape[a] for a in over]
    crop = node.attr("coordinate_transformation_mode", b"") == b"tf_crop_and_resize"
    if crop and (roi is None or len(roi) != 2 * len(over)):
        node.refuse(f"crops, but has no roi of {2 * len(over)} values")
    if crop and scales is not None and scales.size:
        node.refuse("crops and scales: the standard and ONNX Runtime make other sizes of that; give sizes, not scales")
    ends = roi.reshape(2, -1).T.tolist() if crop and roi is not None else [(0.0, 1.0)] * len(over)
    if scales is not None and scales.size:
        by = [float(s) for s in scales]
        new = [int(np.floor(n * (b - a) * s)) for n, s, (a, b) in zip(old, by, ends, strict=True)]
    elif sizes is not None:
        new, by = _sized(node, old, [int(n) for n in sizes])
    else:
        node.refuse("has neither scales nor sizes")
    parts = [Part(o, n, s, (a, b)) for o, n, s, (a, b) in zip(old, new, by, ends, strict=True)]
    return [(a, p) for a, p in zip(over, parts, strict=True) if p.new != p.old or p.scale != 1 or p.roi != (0, 1)]


def _sized(node: Node, old: list[int], sizes: list[int]) -> tuple[list[int], list[float]]:
    """Return new sizes and scales; one scale for all axes where the aspect ratio stays."""
    by = [n / max(1, o) for n, o in zip(sizes, old, strict=True)]
    policy = node.attr("keep_aspect_ratio_policy", b"stretch")
    if policy == b"stretch":
        return sizes, by
    scale = min(by) if policy == b"not_larger" else max(by)
    return [int(np.floor(scale * o + 0.5)) for o in old], [scale] * len(old)


def _along(x: Any, axis: int, matrix: Any) -> Any:
    """Apply matrix (new, old) to one axis."""
    return np.moveaxis(np.moveaxis(x, axis, -1) @ matrix.T, -1, axis)
