# SPDX-License-Identifier: Apache-2.0
"""Einstein sums: the gradient by an operand is the sum of the other operands with the output's gradient."""

from __future__ import annotations

import string
from collections.abc import Sequence

import numpy as np

from .arithmetic import unbroadcast
from .operator import Array, Backprop, Grads, Node


def einsum(node: Node, *xs: Array) -> tuple[Array, Backprop]:
    """ONNX Einsum with NumPy's notation: repeated letters, an ellipsis, the output after `->` or implied."""
    terms, out = _letters(node, [x.ndim for x in xs])
    sizes: dict[str, int] = {}
    for term, x in zip(terms, xs, strict=True):
        for letter, n in zip(term, x.shape, strict=True):
            sizes[letter] = max(n, sizes.get(letter, 1)) if n else 0
    node.bound(int(np.prod([sizes[c] for c in out], dtype=np.float64)))
    y = np.einsum(f"{','.join(terms)}->{out}", *xs, optimize=len(xs) > 1)

    def backprop(dy: Array) -> Grads:
        return [_slope(dy, out, terms, xs, k, sizes) if node.needs(k) else None for k in range(len(xs))]

    return np.asarray(y), backprop


def _slope(dy: Array, out: str, terms: Sequence[str], xs: Sequence[Array], k: int, sizes: dict[str, int]) -> Array:
    """The gradient by operand k."""
    others = [i for i in range(len(xs)) if i != k]
    single = "".join(dict.fromkeys(terms[k]))  # a repeated letter is a diagonal
    reached = "".join(c for c in single if c in out or any(c in terms[i] for i in others))
    names = ",".join([out, *(terms[i] for i in others)])
    found = np.einsum(f"{names}->{reached}", dy, *(xs[i] for i in others), optimize=bool(others))
    summed = tuple(i for i, c in enumerate(single) if c not in reached)  # by the operand alone: each has the same slope
    found = np.expand_dims(found, summed)
    own = dict(zip(terms[k], xs[k].shape, strict=True))
    full = np.broadcast_to(found, [sizes[c] if c in reached else own[c] for c in single])
    part = unbroadcast(full, tuple(own[c] for c in single))
    if len(single) == len(terms[k]):
        return part
    dx = np.zeros(xs[k].shape, dy.dtype)
    np.einsum(f"{terms[k]}->{single}", dx)[...] = part  # a view of the diagonal
    return dx


def _letters(node: Node, ranks: Sequence[int]) -> tuple[list[str], str]:
    """Return the letters of each operand and of the output; those of an ellipsis are aligned at its right end."""
    text = node.attr("equation", b"").decode().replace(" ", "")
    left, arrow, right = text.partition("->")
    terms = left.split(",")
    if len(terms) != len(ranks) or not set(text) <= {*string.ascii_letters, *",.->"}:
        node.refuse(f"equation {text!r} does not fit {len(ranks)} inputs")
    spare = [c for c in string.ascii_letters if c not in text]
    widths = [rank - len(t.replace("...", "")) if "..." in t else 0 for t, rank in zip(terms, ranks, strict=True)]
    if any(w < 0 for w in widths) or max(widths) > len(spare):
        node.refuse(f"equation {text!r} does not fit inputs of {list(ranks)} dimensions")
    dots = "".join(spare[: max(widths)])
    full = [t.replace("...", dots[len(dots) - w :]) for t, w in zip(terms, widths, strict=True)]
    if not arrow:
        letters = left.replace("...", "").replace(",", "")
        right = dots + "".join(sorted(c for c in set(letters) if letters.count(c) == 1))
    return full, right.replace("...", dots)
