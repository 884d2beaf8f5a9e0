# SPDX-License-Identifier: Apache-2.0
"""Take arrays as the labels or targets `y` of rows, and as their marks `test`, checked against the card.

Raises ValueError naming the array, with what is expected. A label that is not there is unknown: -1, or NaN.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .card import Card

NUMBERS = "biuf"  # kinds of dtypes: bool, integers, floats


def check_numbers(array: NDArray[Any], name: str) -> None:
    """Raise ValueError for an array that has no rows of numbers."""
    if not array.ndim or array.dtype.kind not in NUMBERS:
        raise ValueError(f"array {name!r} {array.shape} of {array.dtype}: expected rows of numbers")


def labels(y: NDArray[Any] | None, rows: int, card: Card) -> NDArray[Any]:
    """The labels of rows: class indices (n,), 0 and 1 (n, labels), or targets; y: None where there are none."""
    if y is None:
        unknown = np.full((rows, len(card.labels)) if card.task == "multilabel" else rows, np.nan)
        return unknown if card.task in ("multilabel", "regress") else np.full(rows, -1, np.int64)
    check_numbers(y, "y")
    _check_rows(y, "y", rows)
    if card.task == "regress":
        return y if y.dtype.kind == "f" else y.astype(np.float64)
    if card.task == "multilabel":
        return np.where(y < 0, np.nan, y.astype(np.float32))
    return _classes(y, card)


def marks(test: NDArray[Any], rows: int) -> NDArray[np.bool_]:
    """Which rows (n,) the array `test` marks."""
    if test.ndim != 1 or test.dtype.kind not in NUMBERS or not np.isin(test, (0, 1)).all():
        raise ValueError(f"array 'test' {test.shape}: expected 0 or 1 for each row of 'x', (n,)")
    _check_rows(test, "test", rows)
    return test.astype(np.bool_)


def check_targets(y: NDArray[Any], card: Card, outputs: tuple[int, ...]) -> None:
    """Raise ValueError for rows of another number of targets than a model gives; outputs: the shape of its output."""
    given, wanted = math.prod(y.shape[1:]), math.prod(outputs)
    if card.task == "regress" and given != wanted:
        names = f" ({', '.join(card.measured)})" if card.measured else ""
        raise ValueError(f"targets of each sample: {given}; expected {wanted}{names}, as the model gives")


def unnamed(card: Card, outputs: tuple[int, ...]) -> str:
    """What to say of several values of a regression that the card does not name; empty where there are none."""
    count = math.prod(outputs)
    if card.task != "regress" or card.targets or count == 1:
        return ""
    return (
        f"targets: gives {count} values for a sample, and the card names no targets, so it trains from arrays with y "
        f"(n, {count}) only; for tables and gateways, list {count} targets on the card in their order"
    )


def _check_rows(array: NDArray[Any], name: str, rows: int) -> None:
    if len(array) != rows:
        raise ValueError(f"array {name!r} has {len(array)} rows, 'x' has {rows}")


def _classes(y: NDArray[Any], card: Card) -> NDArray[np.int64]:
    """Class indices (n,), -1 unknown; a column (n, 1) is taken as (n,)."""
    names = card.labels if card.task == "classify" else ("normal", "anomaly")
    expected = f"expected a class index (n,): {', '.join(f'{i} {name}' for i, name in enumerate(names))}, -1 unknown"
    y = y[:, 0] if y.shape[1:] == (1,) else y
    if y.ndim != 1:
        hot = "; of a column for each class: y.argmax(axis=1)" if y.shape[1:] == (len(names),) else ""
        raise ValueError(f"array 'y' has the shape {y.shape}; {expected}{hot}")
    y = np.where(np.isnan(y), -1, y)
    strange = np.flatnonzero(~np.isin(y, np.arange(-1, len(names))))
    if len(strange):
        raise ValueError(f"array 'y', row {strange[0]}: {y[strange[0]]:g}; {expected}")
    return y.astype(np.int64)
