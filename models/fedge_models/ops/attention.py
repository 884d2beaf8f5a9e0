# SPDX-License-Identifier: Apache-2.0
"""Scaled dot-product attention (Vaswani et al. 2017), with groups of heads that share keys and values (Ainslie 2023).

Scores of one query are a row. A row whose keys are all masked has the probabilities 0, as the standard asks.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Any

import numpy as np

from .attention_mask import Mask
from .operator import Array, Backprop, Grads, Node


def attention(
    node: Node,
    q: Array,
    k: Array,
    v: Array,
    mask: Any = None,
    past_key: Array | None = None,
    past_value: Array | None = None,
    lengths: Any = None,
) -> tuple[Any, Backprop]:
    """ONNX Attention of queries, keys and values (batch, heads, time, size) or (batch, time, heads * size).

    Outputs up to the last that is read: the result, keys and values with those of the past, and scores at the stage
    that `qk_matmul_output_mode` names.
    """
    call = _Call(node, q, k, v, past_key, past_value)
    outputs = call.forward(mask, lengths)
    if len(node.outputs) == 1:
        return outputs[0], lambda dy: call.backprop([dy])
    return outputs[: len(node.outputs)], call.backprop


class _Call:
    """One call: queries by groups (batch, groups, heads of a group, time, size), keys and values (batch, groups, …)."""

    def __init__(
        self, node: Node, q: Array, k: Array, v: Array, past_key: Array | None, past_value: Array | None
    ) -> None:
        self._node, self._flat = node, q.ndim == 3
        given = node.attr("q_num_heads", 0), node.attr("kv_num_heads", 0)
        self._heads, groups = given if self._flat else (q.shape[1], k.shape[1])
        queries, self.keys, self.values = (
            _split(x, n) if self._flat else x for x, n in ((q, self._heads), (k, groups), (v, groups))
        )
        self._past = 0
        if past_key is not None and past_value is not None:
            self._past = past_key.shape[2]
            self.keys = np.concatenate([past_key, self.keys], axis=2)
            self.values = np.concatenate([past_value, self.values], axis=2)
        self._queries = queries.reshape(len(q), groups, self._heads // groups, *queries.shape[2:])
        self._shape = (len(q), self._heads, queries.shape[2], self.keys.shape[2])  # of the scores
        node.bound(prod(self._shape))
        self._scale = q.dtype.type(node.attr("scale", None) or queries.shape[3] ** -0.5)
        self._cap = q.dtype.type(node.attr("softcap", 0.0))
        self._stage = node.attr("qk_matmul_output_mode", 0)

    def forward(self, mask: Any, lengths: Any) -> tuple[Array, ...]:
        """Return the result, keys, values and the scores of the stage."""
        keys, values = self.keys[:, :, None], self.values[:, :, None]
        scores = ((self._queries * self._scale) @ keys.swapaxes(-1, -2)).reshape(self._shape)
        self._bent = np.tanh(scores / self._cap) if self._cap > 0 else None
        capped = scores if self._bent is None else self._cap * self._bent
        self._mask = Mask(self._node, mask, self._shape, self._past, lengths, scores.dtype)
        biased = self._mask.onto(capped)
        self._shares = _softmax(biased, self._mask.empty)
        self._y = (self._grouped(self._shares) @ values).reshape(*self._shape[:3], -1)
        stages = (capped, capped, biased, self._shares)
        return _join(self._y) if self._flat else self._y, self.keys, self.values, stages[self._stage]

    def backprop(self, dys: Sequence[Array | None]) -> Grads:
        """Return the gradients by all inputs, from those by the outputs."""
        dy, dkeys, dvalues, dstage = (*dys, *[None] * 4)[:4]
        dy = np.zeros_like(self._y) if dy is None else _split(dy, self._heads) if self._flat else dy
        dbiased, dv = self._to_scores(self._grouped(dy), dstage)
        dscores = _plus(dbiased, dstage if self._stage < 2 else None)
        if self._bent is not None:
            dscores = dscores * (1 - self._bent * self._bent)
        each = self._grouped(dscores) * self._scale
        dq = (each @ self.keys[:, :, None]).reshape(*self._shape[:3], -1)
        dk = _plus((each.swapaxes(-1, -2) @ self._queries).sum(axis=2), dkeys)
        dv, past = _plus(dv, dvalues), self._past
        parts = [dq, dk[:, :, past:], dv[:, :, past:]]
        old = (dk[:, :, :past], dv[:, :, :past]) if past else (None, None)
        return (*(_join(p) if self._flat else p for p in parts), self._mask.gradient(dbiased), *old, None)

    def _to_scores(self, slope: Array, dstage: Array | None) -> tuple[Array, Array]:
        """Return the gradients by the masked scores and by the values, from that by the result (grouped)."""
        dv = (self._grouped(self._shares).swapaxes(-1, -2) @ slope).sum(axis=2)
        dshares = (slope @ self.values[:, :, None].swapaxes(-1, -2)).reshape(self._shape)
        dshares = _plus(dshares, dstage if self._stage == 3 else None)
        along = (dshares * self._shares).sum(axis=-1, keepdims=True)
        return _plus(self._shares * (dshares - along), dstage if self._stage == 2 else None), dv

    def _grouped(self, x: Array) -> Array:
        """(batch, heads, time, …) to (batch, groups, heads of a group, time, …)."""
        return x.reshape(*self._queries.shape[:4], -1)


def _plus(x: Array, more: Array | None) -> Array:
    return x if more is None else x + more


def _softmax(x: Array, empty: Any) -> Array:
    """Softmax over the last axis, and 0 in the rows that are `empty` (None: in none)."""
    highest = x.max(axis=-1, keepdims=True)
    if empty is not None:
        highest = np.where(empty, x.dtype.type(0), highest)
    y = np.exp(x - highest)
    sums = y.sum(axis=-1, keepdims=True)
    if empty is None:
        return np.divide(y, sums, out=y)
    found: Array = np.where(empty, x.dtype.type(0), y / np.where(empty, x.dtype.type(1), sums))
    return found


def _split(x: Array, heads: int) -> Array:
    """(batch, time, heads * size) to (batch, heads, time, size)."""
    return x.reshape(*x.shape[:2], heads, -1).swapaxes(1, 2)


def _join(x: Array) -> Array:
    """(batch, heads, time, size) to (batch, time, heads * size)."""
    return x.swapaxes(1, 2).reshape(len(x), x.shape[2], -1)
