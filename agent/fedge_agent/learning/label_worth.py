# SPDX-License-Identifier: Apache-2.0
"""How much the label of each window would be worth to a model: uncertain, novel, or judged differently by two models.

Every figure is from 0 (the label tells nothing new) to 1. Pure.

- *uncertain*: what serves is close to deciding otherwise (margin sampling: Scheffer et al. 2001).
- *novel*: far from every window whose label is known (core sets: Sener & Savarese 2018).
- *disagreeing*: the site's own model and the release say different things (query by committee: Seung et al. 1992).
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
from fedge_models.graph.card import Card
from numpy.typing import NDArray

from ..types import Array
from .mixture import sigmoid, softmax

REASONS = ("uncertain", "novel", "disagreeing")
SURE = 0.2  # what novelty counts where nobody doubts
ENOUGH = 10  # known windows whose distances from each other say what is far
WIDE = 64  # values of a sample beyond which distances are taken in a random projection
PART = 2**22  # distances computed at once, to bound memory
MOST_VALUES = 2**21  # of all windows together that are looked at
Worths = NDArray[np.float64]


def most_windows(shape: tuple[int, ...], most: int) -> int:
    """How many windows of this shape, at most `most`, are looked at: their values are in memory together."""
    return max(1, min(most, MOST_VALUES // max(1, math.prod(shape))))


class Worth(NamedTuple):
    """The three figures of each window (n,), 0 to 1."""

    uncertain: Worths
    novel: Worths
    disagreeing: Worths

    def total(self) -> Worths:
        """One figure (n,): doubt, of one model or between two, times novelty, so that no two questions are about much
        the same. A model may be sure of what it never saw, so novelty counts a little without any doubt. Chosen by
        `benchmarks/labels.py`, where nothing else was clearly better on all sets."""
        return (SURE + self.uncertain + self.disagreeing) * self.novel

    def reason(self, at: int) -> str:
        """Which of the figures is the largest of a window."""
        return REASONS[int(np.argmax([part[at] for part in self]))]


def says(card: Card, outputs: Array, x: Array) -> Array:
    """What a model says of windows x (n, ...), from its outputs (n, ...), logits of classes and labels: probabilities
    (n, k), scores of an anomaly model (n,), or estimates (n, k) in units of the targets' scale."""
    if card.task == "anomaly":
        difference = (outputs - x).reshape(len(x), -1)
        scores: Array = np.einsum("ij,ij->i", difference, difference) / np.float32(max(1, difference.shape[1]))
        return scores
    rows = outputs.reshape(len(outputs), -1)
    return softmax(rows) if card.task == "classify" else sigmoid(rows) if card.task == "multilabel" else rows


def uncertain(card: Card, gives: Array, limit: NDArray[np.float64] | float = np.inf) -> Worths:
    """How close what serves is to deciding otherwise, of each window (n,).

    gives: as in `says`; scores are compared with `limit`, of all windows or of each (n,). An estimate has no second
    choice: it is never uncertain in this way.
    """
    if card.task == "classify":
        two = np.sort(gives, axis=1)[:, -2:].astype(np.float64)
        return 1.0 - (two[:, 1] - two[:, 0]) if two.shape[1] == 2 else np.zeros(len(gives))
    if card.task == "multilabel":
        limits = np.array(card.limits)
        return np.asarray(np.max(1.0 - np.abs(gives - limits) / np.maximum(limits, 1 - limits), axis=1), np.float64)
    if card.task == "anomaly":
        with np.errstate(all="ignore"):
            near = np.exp(-np.abs(np.log(np.maximum(gives, 1e-30) / limit)))
        return np.nan_to_num(np.asarray(near, np.float64))
    return np.zeros(len(gives))


def disagreeing(card: Card, own: Array | None, release: Array) -> Worths:
    """How far apart the own model and the release are, of each window (n,); what they give is as in `says`."""
    if own is None:
        return np.zeros(len(release))
    p, q = own.astype(np.float64), release.astype(np.float64)
    if card.task == "classify":
        return np.abs(p - q).sum(axis=1) / 2  # total variation
    if card.task == "multilabel":
        return np.asarray(np.abs(p - q).max(axis=1), np.float64)
    if card.task == "anomaly":
        with np.errstate(all="ignore"):
            apart = np.abs(np.log(np.maximum(p, 1e-30)) - np.log(np.maximum(q, 1e-30)))
        return np.nan_to_num(1.0 - np.exp(-apart))
    apart = np.abs(p - q).reshape(len(p), -1).max(axis=1)
    return np.nan_to_num(apart / (1.0 + apart))


def novel(x: Array, known: Array) -> Worths:
    """How far each window (n, ...) is from the nearest of those `known` (m, ...), both standardised.

    One half is as far as known windows are from each other; with few of them, as half of the windows are. Without any
    known one, it is the distance from the middle of the windows.
    """
    flat, others = _flat(x), _flat(known) if len(known) else _flat(x).mean(axis=0, keepdims=True)
    found = _nearest(flat, others)
    usual = float(np.median(_nearest(others, others, apart=True) if len(known) >= ENOUGH else found))
    return np.nan_to_num(found / (found + usual)) if usual > 0 else (found > 0).astype(np.float64)


def _flat(x: Array) -> Array:
    """Samples as rows (n, d), with no more than `WIDE` values: distances stay about the same (Johnson & Lindenstrauss
    1984)."""
    rows = np.nan_to_num(x.reshape(len(x), -1).astype(np.float32, copy=False))
    if rows.shape[1] <= WIDE:
        return rows
    by = np.random.default_rng(0).standard_normal((rows.shape[1], WIDE), np.float32) / np.float32(WIDE**0.5)
    found: Array = rows @ by
    return found


def _nearest(x: Array, others: Array, apart: bool = False) -> Worths:
    """Distance (n,) of each row to the nearest of the others; with `apart`, to the nearest that it is not itself."""
    found, step = np.empty(len(x)), max(1, PART // max(1, len(others)))
    squares = np.einsum("ij,ij->i", others, others)
    for i in range(0, len(x), step):
        part = x[i : i + step]
        far = np.einsum("ij,ij->i", part, part)[:, None] + squares - 2 * part @ others.T
        if apart:
            far[np.arange(len(part)), np.arange(i, i + len(part))] = np.inf
        found[i : i + step] = np.sqrt(np.maximum(far.min(axis=1), 0))
    return found
