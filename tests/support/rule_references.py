# SPDX-License-Identifier: Apache-2.0
"""Rules and mixings as their papers write them, row by row in float64, and the tables that build them here."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

Rows = np.ndarray  # (n, d) float64
F = 1  # hostile rows that the tables below are set against

TABLES: list[dict[str, Any]] = [
    {"name": "fedavg"},
    {"name": "median"},
    {"name": "trimmed_mean", "byzantine": F},
    {"name": "krum", "byzantine": F},
    {"name": "multi_krum", "byzantine": F},
    {"name": "bulyan", "byzantine": F},
    {"name": "geometric_median", "iterations": 7},
    {"name": "centred_clipping", "radius": 20.0, "iterations": 2},
    {"name": "norm_clipping", "radius": 20.0},
]
MIXINGS: list[dict[str, Any]] = [
    {"name": "nearest_neighbour_mixing", "byzantine": F},
    {"name": "bucketing", "size": 2},
]


def norm(row: np.ndarray) -> float:
    return float(np.linalg.norm(row))


def distances(x: Rows) -> np.ndarray:
    return np.array([[((a - b) ** 2).sum() for b in x] for a in x])


def krum_scores(x: Rows, f: int) -> np.ndarray:
    d = distances(x)
    return np.array([np.sort(np.delete(d[i], i))[: max(1, len(x) - f - 2)].sum() for i in range(len(x))])


def krum_order(x: Rows) -> list[int]:
    scores, to_all = krum_scores(x, F), distances(x).sum(axis=1)
    return sorted(range(len(x)), key=lambda i: (scores[i], to_all[i], i))


def krum(x: Rows) -> np.ndarray:
    return x[krum_order(x)[0]]


def multi_krum(x: Rows) -> np.ndarray:
    return x[krum_order(x)[: len(x) - F]].mean(axis=0)


def bulyan(x: Rows) -> np.ndarray:
    left, chosen = list(range(len(x))), []
    for _ in range(len(x) - 2 * F):
        chosen.append(left.pop(krum_order(x[left])[0]))
    out = []
    for column in x[sorted(chosen)].T:
        middle = np.median(column)
        by_distance = np.lexsort((column, np.abs(column - middle)))
        out.append(np.mean(column[by_distance[: len(chosen) - 2 * F]]))
    return np.array(out)


def geometric_median(x: Rows) -> np.ndarray:
    z = x.mean(axis=0)
    for _ in range(7):
        pull = [1 / max(norm(row - z), 1e-3) for row in x]
        z = sum(p * row for p, row in zip(pull, x, strict=True)) / sum(pull)
    return z


def centred_clipping(x: Rows, start: np.ndarray) -> np.ndarray:
    v = start.copy()
    for _ in range(2):
        v = v + np.mean([(row - v) * min(1, 20 / max(norm(row - v), 1e-300)) for row in x], axis=0)
    return v


def norm_clipping(x: Rows) -> np.ndarray:
    return np.mean([row * min(1, 20 / max(norm(row), 1e-300)) for row in x], axis=0)


RULES: dict[str, Callable[[Rows, np.ndarray, np.ndarray], np.ndarray]] = {
    "fedavg": lambda x, w, r: (w / w.sum()) @ x,
    "median": lambda x, w, r: np.median(x, axis=0),
    "trimmed_mean": lambda x, w, r: np.sort(x, axis=0)[F:-F].mean(axis=0),
    "krum": lambda x, w, r: krum(x),
    "multi_krum": lambda x, w, r: multi_krum(x),
    "bulyan": lambda x, w, r: bulyan(x),
    "geometric_median": lambda x, w, r: geometric_median(x),
    "centred_clipping": lambda x, w, r: centred_clipping(x, r),
    "norm_clipping": lambda x, w, r: norm_clipping(x),
}


def nearest_means(x: Rows, f: int) -> Rows:
    order = np.argsort(distances(x) - np.eye(len(x)), axis=1, kind="stable")[:, : len(x) - f]
    return np.array([x[near].mean(axis=0) for near in order])


def mix(name: str, x: Rows, seed: int) -> Rows:
    """The mixed rows."""
    if name == "nearest_neighbour_mixing":
        return nearest_means(x, F)
    shuffled = x[np.random.default_rng(seed).permutation(len(x))]
    return np.array([shuffled[i : i + 2].mean(axis=0) for i in range(0, len(x), 2)])
