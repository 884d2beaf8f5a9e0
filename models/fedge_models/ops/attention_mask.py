# SPDX-License-Identifier: Apache-2.0
"""Which keys a query of Attention may see: a given mask, the past only, a window, and what is no padding."""

from __future__ import annotations

from typing import Any

import numpy as np

from .arithmetic import unbroadcast
from .operator import Array, Node


class Mask:
    """What is added to the scores (batch, heads, queries, keys) of one call; minus infinity hides a key."""

    def __init__(self, node: Node, given: Any, shape: tuple[int, ...], past: int, lengths: Any, dtype: Any) -> None:
        self._given, self._shape = given, shape
        added, seen = None, self._seen(node, shape, past, lengths)
        if given is not None:
            missing = [(0, 0)] * (given.ndim - 1) + [(0, shape[3] - given.shape[-1])]
            if given.dtype == np.bool_:
                padded = np.pad(given, missing)
                seen = padded if seen is None else seen & padded
            else:
                added = np.pad(given, missing, constant_values=-np.inf)
        low, zero = dtype.type(-np.inf), dtype.type(0)
        self._bias = added if seen is None else np.where(seen, zero if added is None else added, low)
        hidden = None if self._bias is None else np.isneginf(self._bias.max(axis=-1, keepdims=True))
        self.empty = hidden if hidden is not None and hidden.any() else None  # rows that see no key

    def onto(self, scores: Array) -> Array:
        """Return the scores with what hides keys added."""
        return scores if self._bias is None else scores + self._bias

    def gradient(self, dy: Array) -> Array | None:
        """Return the gradient by the given mask."""
        if self._given is None or self._given.dtype == np.bool_:
            return None
        wide = (*self._given.shape[:-1], self._shape[3]) if self._given.shape[-1] > 1 else self._given.shape
        return unbroadcast(dy, wide)[..., : self._given.shape[-1]]

    @staticmethod
    def _seen(node: Node, shape: tuple[int, ...], past: int, lengths: Any) -> Any:
        """Return which keys each query sees by its place; None: all."""
        before, after = node.attr("left_window_size", -1), node.attr("right_window_size", -1)
        causal = bool(node.attr("is_causal", 0))
        keys, seen = np.arange(shape[3]), None
        if causal or before >= 0 or after >= 0:
            offset = past if lengths is None else lengths.reshape(-1, 1, 1, 1) - shape[2]
            ahead = keys - (np.arange(shape[2])[:, None] + offset)  # of the query's own place
            seen = np.ones(ahead.shape, np.bool_)
            for wanted, hidden in ((causal, ahead > 0), (before >= 0, ahead < -before), (after >= 0, ahead > after)):
                if wanted:
                    seen &= ~hidden
        if lengths is None:
            return seen
        real = keys < lengths.reshape(-1, 1, 1, 1)
        return real if seen is None else seen & real
