# SPDX-License-Identifier: Apache-2.0
"""The labels or targets of a folder of pictures: by the names of its sub-folders, or by its table `labels.csv`.

A picture that lies in the folder itself, or that the table does not name, has no label. A name that the model does not
know is a DataError: a picture must not lose its label by a slip of the pen.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

import numpy as np
from fedge_models.errors import DataError
from fedge_models.graph.card import Card
from fedge_models.system.choices import hint
from numpy.typing import NDArray

from ..protocols.csv import columns as tables
from ..protocols.csv.form import Form
from ..samples.label_values import target_value
from . import table_labels

TABLE = "labels.csv"
FILE = "file"  # the column with the pictures' paths
NORMAL = ("normal", "good", "ok")  # sub-folders of an anomaly model; beside one of them, all others are anomalies
ANOMALY = "anomaly"
MOST = 8  # names in a message


class Labels(NamedTuple):
    """The label of each picture, and whether it is for the evaluation."""

    y: NDArray[Any]  # as of a `Dataset`
    test: NDArray[np.bool_] | None  # (n,), of a column `test`
    notes: tuple[str, ...]
    lacking: str  # why there are none


def of(
    folder: Path, pictures: Sequence[PurePosixPath], depth: int, card: Card, label: Sequence[str], form: Form | None
) -> Labels:
    """The labels of pictures below a folder. Raises DataError.

    depth: how many folders stand above those of the labels; label, form: of the table.
    """
    if (folder / TABLE).is_file():
        return _of_table(folder / TABLE, pictures, card, label, form or Form())
    if label or form is not None:
        raise DataError(f"{folder}: has no {TABLE}, which --label and --form are about")
    return _of_folders(folder, pictures, depth, card)


def listed(names: Counter[str]) -> str:
    """List names with how often each occurs, the most frequent first."""
    more = f" and {len(names) - MOST} more" if len(names) > MOST else ""
    return ", ".join(f"{name}: {count}" for name, count in names.most_common(MOST)) + more


def _of_folders(folder: Path, pictures: Sequence[PurePosixPath], depth: int, card: Card) -> Labels:
    """By the sub-folder that a picture lies in, at any depth below it."""
    names = [path.parts[depth] if len(path.parts) > depth + 1 else "" for path in pictures]
    counts = Counter(name for name in names if name)
    values, notes = _values(folder, counts, card)
    y = np.array([values.get(name, _unknown(card)) for name in names])
    return Labels(y, None, tuple(notes), "" if counts else f"no sub-folders with the names of labels, and no {TABLE}")


def _values(folder: Path, counts: Counter[str], card: Card) -> tuple[dict[str, Any], list[str]]:
    """Return the label that each sub-folder's name stands for, and notes for the user."""
    if card.task == "anomaly" and any(name.casefold() in NORMAL for name in counts):
        others = Counter({n: c for n, c in counts.items() if n.casefold() not in NORMAL})
        notes = [f"count as anomalies: {listed(others)}"] if others and set(others) != {ANOMALY} else []
        return {name: int(name in others) for name in counts}, notes
    values = {name: target_value(name, card, {}) for name in counts}
    strange = Counter({name: count for name, count in counts.items() if values[name] is None})
    if strange:
        raise DataError(f"{folder}: pictures lie in {listed(strange)}; {_expected(next(iter(strange)), card)}")
    y = {name: _row(value, card) for name, value in values.items()}
    missing = [card.labels[i] for i in range(len(card.labels)) if card.task == "classify" and i not in y.values()]
    return y, [f"no picture shows {', '.join(missing)}"] if missing and y else []


def _row(value: Any, card: Card) -> Any:
    if card.task == "regress":
        return np.array([value], np.float32)
    return np.array(value, np.float32) if card.task == "multilabel" else int(value)


def _unknown(card: Card) -> Any:
    count = {"regress": len(card.targets), "multilabel": len(card.labels)}.get(card.task, 0)
    return np.full(count, np.nan, np.float32) if count else -1


def _expected(name: str, card: Card) -> str:
    """Say which names a sub-folder may have, and which table can give the labels instead."""
    table = f"or a table {TABLE} with the columns {FILE}, {', '.join(card.measured or ('label',))}"
    if card.task == "regress":
        return f"expected sub-folders named for the value of the only target, {table}"
    if card.task == "anomaly":
        return f"expected a sub-folder {', '.join(NORMAL)} and others with anomalies, {table}"
    near = hint(name, card.labels)
    return f"expected {', '.join(card.labels)}, {table}{f'; {near}' if near.startswith('did') else ''}"


def _of_table(path: Path, pictures: Sequence[PurePosixPath], card: Card, label: Sequence[str], form: Form) -> Labels:
    """By a row for each picture, with its path in the folder."""
    asked = list(label) or [*card.measured, "label"]
    table = tables.read(path, form, [], [FILE, *asked, "test"], card.window.rate_hz)
    if FILE not in table.texts:
        raise DataError(f"{path}: no column {FILE!r}, the path of each picture; has {', '.join(table.names)}")
    named = table_labels.columns(path, table, card, list(label))
    values, rows = table_labels.values(path, table, named, card, form), _rows(path, table)
    if not any(picture in rows for picture in pictures):
        raise DataError(f"{path}: names none of the {len(pictures)} pictures, such as {str(pictures[0])!r}")
    known = [rows.get(picture, -1) for picture in pictures]
    y = np.array([table_labels.of_window(values[i : i + 1], card) if i >= 0 else _unknown(card) for i in known])
    marks = table.texts.get("test")
    test = np.array([i >= 0 and marks[i] not in ("", "0") for i in known], np.bool_) if marks else None
    notes = (*_absent(path, table, rows, pictures), *_unnamed(known, pictures))
    return Labels(y, test, notes, table_labels.lacking(table, named))


def _rows(path: Path, table: tables.Columns) -> dict[PurePosixPath, int]:
    """The row of each picture. Raises DataError for one that has two."""
    rows: dict[PurePosixPath, int] = {}
    for i, text in enumerate(table.texts[FILE]):
        name = PurePosixPath(text.replace("\\", "/"))
        if name in rows:
            raise DataError(
                f"{path}: line {table.lines[i]}: {text!r} stands in line {table.lines[rows[name]]} already; expected "
                "one line a picture"
            )
        rows[name] = i
    return rows


def _absent(
    path: Path, table: tables.Columns, rows: dict[PurePosixPath, int], pictures: Sequence[PurePosixPath]
) -> list[str]:
    absent = sorted(set(rows) - set(pictures), key=rows.__getitem__)
    if not absent:
        return []
    line = table.lines[rows[absent[0]]]
    return [f"{path.name} names {len(absent)} pictures that are not there; the first, line {line}: {str(absent[0])!r}"]


def _unnamed(known: Sequence[int], pictures: Sequence[PurePosixPath]) -> list[str]:
    unnamed = [picture for picture, i in zip(pictures, known, strict=True) if i < 0]
    return [f"{len(unnamed)} pictures are not in {TABLE}; the first, {str(unnamed[0])!r}"] if unnamed else []
