# SPDX-License-Identifier: Apache-2.0
"""The labels or targets of a table of recorded data: its columns, their values, and what a window has of them.

A wrong cell is a DataError naming line and column; a label that is not there is unknown, and said (`lacking`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from fedge_models.errors import DataError
from fedge_models.graph.card import NONE, SEPARATOR, Card
from fedge_models.system.choices import hint
from fedge_models.system.times import number
from numpy.typing import NDArray

from ..protocols.csv import columns as tables
from ..protocols.csv.form import Form
from ..protocols.csv.numbers import reader
from ..samples.label_values import accepted_values, find_label, label_set

SHOWN = 40  # characters of a cell in a message
MOST = 6  # unknown labels that are named
WORDS = {"true": 1.0, "yes": 1.0, "false": 0.0, "no": 0.0}  # in a column of one label
UNKNOWN = "leave the cell empty where it is unknown"


def columns(path: Path, table: tables.Columns, card: Card, label: list[str]) -> list[str]:
    """The columns of labels or targets; label: those asked for.

    Raises DataError when one of those is not there, or the file does not say which columns count.
    """
    for name in label:
        if name not in table.names:
            raise DataError(f"{path}: no column {name!r}; has {', '.join(table.names)}")
    if label or card.task != "multilabel":
        return label or [t.name for t in card.targets] or ["label"]
    there = [name for name in card.labels if name in table.texts]
    if there and "label" in table.texts and "label" not in card.labels:
        raise DataError(
            f"{path}: has a column 'label' and a column for {', '.join(there)}; expected one of both: "
            f"say which counts: --label label, or {' '.join(f'--label {name}' for name in card.labels)}"
        )
    if there and len(there) < len(card.labels):
        absent = [name for name in card.labels if name not in there]
        raise DataError(
            f"{path}: has a column for the labels {', '.join(there)}, none for {', '.join(absent)}; expected one for "
            "each, or a column 'label' with the names of those that hold"
        )
    return there or ["label"]


def lacking(table: tables.Columns, named: Sequence[str]) -> str:
    """The columns of labels or targets that the table does not have, in words; empty: it has them."""
    absent = [name for name in named if name not in table.texts]
    if not absent:
        return ""
    if not table.texts and any(name in table.names for name in absent):
        return "a table with a row a value gives no labels; expected a table with a column a channel"
    return f"no column {', '.join(map(repr, absent))}; the file has {', '.join(table.names)}; --label names another"


def values(path: Path, table: tables.Columns, named: list[str], card: Card, form: Form) -> NDArray[np.float64]:
    """The values (rows, columns) of labels or targets."""
    if card.task == "multilabel" and len(named) == 1 and named != list(card.labels):
        return _sets(path, table, named[0], card)
    found = np.stack([_column(path, table, name, card, form) for name in named], axis=1)
    if card.task == "multilabel" and len(named) != len(card.labels):
        raise DataError(
            f"{path}: --label {', '.join(named)}: expected one column, or one for each of {', '.join(card.labels)}"
        )
    return found


def of_window(labels: NDArray[np.float64], card: Card) -> Any:
    """Return the label of a window, or its labels; unknown where one changes inside. regress: that of its last row."""
    if card.task == "regress":
        return labels[-1].astype(np.float32)
    if card.task == "multilabel":
        constant = bool((labels == labels[0]).all())  # NaN is none
        return labels[0].astype(np.float32) if constant else np.full(len(card.labels), np.nan, np.float32)
    return int(labels[0, 0]) if (labels == labels[0]).all() else -1


def _sets(path: Path, table: tables.Columns, name: str, card: Card) -> NDArray[np.float64]:
    """A column of label sets (rows, labels), NaN where the cell is empty."""
    unknown = (np.nan,) * len(card.labels)
    texts = table.texts.get(name)
    if texts is None:
        return np.full((len(table.lines), len(card.labels)), np.nan)
    sets = {text: label_set(text, card.labels, {}) if text.strip() else unknown for text in dict.fromkeys(texts)}
    strange = [i for i, text in enumerate(texts) if sets[text] is None]
    if strange:
        text = texts[strange[0]][:SHOWN]
        parts = [part.strip() for part in text.split(SEPARATOR)]
        odd = next((p for p in parts if find_label(p, (*card.labels, NONE)) is None), "")
        near = hint(odd, (*card.labels, NONE)) if odd else ""
        raise DataError(
            f"{path}: line {table.lines[strange[0]]}, column {name!r}: {text!r}: expected {accepted_values(card)}, "
            f"or a number whose bits they are{f'; {near}' if near.startswith('did') else ''} "
            f"(rows like it: {len(strange)} of {len(texts)}); {UNKNOWN}"
        )
    return np.array([sets[text] for text in texts], np.float64).reshape(-1, len(card.labels))


def _column(path: Path, table: tables.Columns, name: str, card: Card, form: Form) -> NDArray[np.float64]:
    """Return a column as numbers: class index by name or number, -1 unknown; regress: the value, NaN unknown."""
    texts = table.texts.get(name)
    if texts is None:
        return np.full(len(table.lines), np.nan if card.task in ("regress", "multilabel") else -1)
    if card.task in ("regress", "multilabel"):
        return _numbers(path, table, name, texts, form, WORDS if card.task == "multilabel" else {})
    names = card.labels if card.task == "classify" else ("normal", "anomaly")
    known = {text: _index(text, names) for text in dict.fromkeys(texts)}
    strange = [i for i, text in enumerate(texts) if known[text] is None]
    if strange:
        counts = Counter(texts[i][:SHOWN] for i in strange)
        text = texts[strange[0]][:SHOWN]
        others = ", ".join(f"{t!r} ({n})" for t, n in counts.most_common(MOST) if t != text)
        near = hint(text, names)
        raise DataError(
            f"{path}: line {table.lines[strange[0]]}, column {name!r}: {text!r} is none of {', '.join(names)}, nor a "
            f"number from 0 to {len(names) - 1}{f'; {near}' if near.startswith('did') else ''} "
            f"(rows like it: {len(strange)} of {len(texts)}{f', others: {others}' if others else ''}); {UNKNOWN}"
        )
    return np.array([known[text] for text in texts], np.float64)


def _numbers(
    path: Path, table: tables.Columns, name: str, texts: Sequence[str], form: Form, words: dict[str, float]
) -> NDArray[np.float64]:
    """A column of targets, or of one label; NaN where the cell is empty or a marker. words: texts that are numbers."""
    read, markers = reader(form), {marker.casefold() for marker in form.markers}
    made = np.full(len(texts), np.nan)
    for i, text in enumerate(texts):
        value = words.get(text.casefold()) if text.casefold() in words else read(text)
        if value is not None:
            made[i] = value
        elif text and text.casefold() not in markers:
            expected = f"; expected 0 or 1, {', '.join(words)}" if words else ""
            raise DataError(
                f"{path}: line {table.lines[i]}, column {name!r}: {text[:SHOWN]!r} is not a number{expected}"
            )
    return made


def _index(text: str, names: Sequence[str]) -> int | None:
    """The class index of a cell (-1: unknown), by name or number; None when it is none of the model's."""
    if not text:
        return -1
    named = find_label(text, names)
    value = number(text) if named is None else named
    return int(value) if value is not None and -1 <= value < len(names) and value == int(value) else None
