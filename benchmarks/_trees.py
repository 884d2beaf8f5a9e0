# SPDX-License-Identifier: Apache-2.0
"""Boosted trees (XGBoost) on the splits of `tables.py`: what one would reach without a federation, and each site alone.

The parameters are those with the best average precision on the folds of the training part; so is the threshold for F1.
Only then the test part is looked at.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from fedge_fleet.data.problems.milling import AI4I_PHYSICS, FOLDS, ai4i
from fedge_fleet.data.site_data import Windows
from fedge_models.training.evaluation import average_precision

GRID = tuple(
    {"n_estimators": trees, "max_depth": depth, "learning_rate": rate, "min_child_weight": weight}
    for trees, depth, rate, weight in itertools.product((200, 400), (3, 4, 6), (0.05, 0.1), (1, 3))
)
SHARES = {"subsample": 0.8, "colsample_bytree": 0.8, "n_jobs": 1}


@dataclass(frozen=True)
class Rows:
    """The table as trees take it."""

    x: np.ndarray
    y: np.ndarray
    site: np.ndarray
    test: np.ndarray
    fold: np.ndarray  # of the training part


def rows(data: Path, physics: bool, variant: bool) -> Rows:
    """The rows of all sites; variant: with the site's number as one more column."""
    problems = [ai4i(data, AI4I_PHYSICS if physics else {}, fold) for fold in range(FOLDS)]
    sites: list[Windows] = [*problems[0].sites.values()]
    site = np.concatenate([np.full(len(s.y), i) for i, s in enumerate(sites)])
    cuts = [np.concatenate([*p.validation.values()]) for p in problems]
    x = np.concatenate([s.x for s in sites])
    return Rows(
        np.column_stack([x, site]) if variant else x,
        np.concatenate([s.y for s in sites]),
        site,
        np.concatenate([s.test for s in sites]),
        np.argmax(cuts, axis=0),
    )


def measure(table: Rows, alone: bool, seeds: int) -> list[str]:
    """Average precision on the folds and on the test part, and F1 at a half and at the folds' best threshold."""
    groups = [table.site == k for k in np.unique(table.site)] if alone else [np.ones(len(table.y), np.bool_)]
    best = max(GRID, key=lambda how: _precision(table, _left_out(table, groups, how, 0), ~table.test))
    found = [_scores(table, groups, best, seed) for seed in range(seeds)]
    error = np.std(found, axis=0, ddof=1) / seeds**0.5 if seeds > 1 else np.zeros(4)
    return [f"{m:.3f} ± {e:.3f}" for m, e in zip(np.mean(found, axis=0), error, strict=True)]


def _scores(table: Rows, groups: list[np.ndarray], how: dict[str, Any], seed: int) -> tuple[float, ...]:
    seen, given = _left_out(table, groups, how, seed), np.zeros(len(table.y))
    for group in groups:
        given[group & table.test] = _fitted(table, group & ~table.test, group & table.test, how, seed)
    limit = _best_limit(seen[~table.test], table.y[~table.test])
    test = _precision(table, given, table.test)
    return _precision(table, seen, ~table.test), test, _f1(table, given, 0.5), _f1(table, given, limit)


def _left_out(table: Rows, groups: list[np.ndarray], how: dict[str, Any], seed: int) -> np.ndarray:
    """The probability of a failure of each row of the training part, by trees that did not see its fold."""
    given = np.zeros(len(table.y))
    for group, fold in itertools.product(groups, range(FOLDS)):
        part = group & ~table.test
        rest, out = part & (table.fold != fold), part & (table.fold == fold)
        given[out] = _fitted(table, rest, out, how, seed)
    return given


def _fitted(table: Rows, train: np.ndarray, judged: np.ndarray, how: dict[str, Any], seed: int) -> np.ndarray:
    from xgboost import XGBClassifier

    trees = XGBClassifier(random_state=seed, **SHARES, **how).fit(table.x[train], table.y[train])
    given: np.ndarray = trees.predict_proba(table.x[judged])[:, 1]
    return given


def _precision(table: Rows, given: np.ndarray, part: np.ndarray) -> float:
    return average_precision(given[part].astype(np.float32), table.y[part] == 1)


def _f1(table: Rows, given: np.ndarray, limit: float) -> float:
    said, failed = given[table.test] > limit, table.y[table.test] == 1
    return float(2 * (said & failed).sum() / max(1, said.sum() + failed.sum()))


def _best_limit(given: np.ndarray, y: np.ndarray) -> float:
    """The threshold with the best F1 on these rows."""
    order = np.argsort(-given)
    f1 = 2 * np.cumsum(y[order]) / (np.arange(1, len(y) + 1) + y.sum())
    at = int(f1.argmax())
    return float(given[order][at : at + 2].mean())
