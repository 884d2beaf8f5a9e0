# SPDX-License-Identifier: Apache-2.0
"""The labels or targets `y` of an array of recorded data, and its marks `test`, checked against the card. Pure.

What does not fit is a DataError naming the file and the array; a label that is not there is unknown.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from fedge_models.errors import DataError
from fedge_models.graph.card import Card
from numpy.typing import NDArray

NUMBERS = "biuf"  # kinds of dtypes: bool, integers, floats


def check_array(path: Path, name: str, array: NDArray[Any]) -> None:
    """Raise DataError for an array that has no rows of numbers."""
    if not array.ndim or array.dtype.kind not in NUMBERS:
        raise DataError(f"{path}: array {name!r} {array.shape} of {array.dtype}: expected rows of numbers")


def values(path: Path, y: NDArray[Any] | None, rows: int, card: Card) -> NDArray[Any]:
    """The labels as `Dataset.y` has them; y: None where the file has none."""
    if y is None:
        unknown = np.full((rows, len(card.labels)) if card.task == "multilabel" else rows, np.nan)
        return unknown if card.task in ("multilabel", "regress") else np.full(rows, -1, np.int64)
    check_array(path, "y", y)
    _check_rows(path, "y", y, rows)
    if card.task == "regress":
        return y if y.dtype.kind == "f" else y.astype(np.float64)
    if card.task == "multilabel":
        return np.where(y < 0, np.nan, y.astype(np.float32))
    return _classes(path, y, card)


def marks(path: Path, test: NDArray[Any], rows: int) -> NDArray[np.bool_]:
    """Which rows the array `test` marks. Raises DataError when it is no list of 0 and 1."""
    if test.ndim != 1 or test.dtype.kind not in NUMBERS or not np.isin(test, (0, 1)).all():
        raise DataError(f"{path}: array 'test' {test.shape}: expected 0 or 1 for each row of 'x', (n,)")
    _check_rows(path, "test", test, rows)
    return test.astype(np.bool_)


def _check_rows(path: Path, name: str, array: NDArray[Any], rows: int) -> None:
    if len(array) != rows:
        raise DataError(f"{path}: array {name!r} has {len(array)} rows, 'x' has {rows}")


def _classes(path: Path, y: NDArray[Any], card: Card) -> NDArray[np.int64]:
    """Class indices (n,), -1 unknown; a column (n, 1) is taken as (n,)."""
    names = card.labels if card.task == "classify" else ("normal", "anomaly")
    expected = f"expected a class index (n,): {', '.join(f'{i} {name}' for i, name in enumerate(names))}, -1 unknown"
    y = y[:, 0] if y.shape[1:] == (1,) else y
    if y.ndim != 1:
        hot = "; of a column for each class: y.argmax(axis=1)" if y.shape[1:] == (len(names),) else ""
        raise DataError(f"{path}: array 'y' has the shape {y.shape}; {expected}{hot}")
    y = np.where(np.isnan(y), -1, y)
    strange = np.flatnonzero(~np.isin(y, np.arange(-1, len(names))))
    if len(strange):
        raise DataError(f"{path}: array 'y', row {strange[0]}: {y[strange[0]]:g}; {expected}")
    return y.astype(np.int64)
