# SPDX-License-Identifier: Apache-2.0
"""Read a file of recorded data as samples, with windows and features as the gateway makes them.

CSV (or .csv.gz): a row per sample of the card's rate, a column per channel by its name. Optional columns: the label
(`label`, or another name), `group` (a change of its value ends a recording; no window spans two) and `test` (1: for the
evaluation, not trained on). npz: `x` (n, *input shape), `y` (n, ...) and `test` (n,), before standardisation; pictures
may be raw. Without `test` a fifth of the blocks of rows is held back, and windows across two parts are left out.
A wrong file is a DataError naming line and column. Standardisation is done in `fedge_models.training.standardise`.
"""

from __future__ import annotations

import csv
import gzip
import zipfile
import zlib
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from fedge_models.errors import DataError, PictureError
from fedge_models.graph.card import Card
from fedge_models.system.choices import hint
from fedge_models.system.times import number
from numpy.typing import NDArray

from ..types import Array
from ..windows.features import Preparation, bridge
from ..windows.pictures import prepare

BLOCKS = 50  # of rows (fewer where windows are long)
HELD_EVERY = 5  # one block in so many
SHOWN = 40  # characters of a cell in a message
MAX_MISSING = 0.1  # of a window's cells, as the gateway's default


class Dataset(NamedTuple):
    """Samples before standardisation."""

    x: Array  # (n, *input_shape)
    y: NDArray[Any]  # (n,) class index, 0/1 for anomaly, -1 unknown; regress: (n, targets), NaN unknown
    test: NDArray[np.bool_]  # (n,)
    left_out: int  # windows with too many gaps, or across two parts

    def part(self, test: bool) -> tuple[Array, NDArray[Any]]:
        """Return (x, y) of the test part, or of the part to train on."""
        chosen = self.test == test
        return self.x[chosen], self.y[chosen]


def load(path: Path, card: Card, shape: tuple[int, ...], label: Sequence[str] = ()) -> Dataset:
    """Read a .npz, .csv or .csv.gz file.

    label: the column of the label, or (regress) of each target; default: a column named `label` (regress: columns named
    as the card's targets), if there is one.

    Raises DataError for a file that does not fit the card or the model's input shape.
    """
    try:
        data = _npz(path, card) if path.suffix == ".npz" else _csv(path, card, label)
    except UnicodeDecodeError as e:
        raise DataError(f"{path}: byte 0x{e.object[e.start]:02x} is not UTF-8; save it as CSV in UTF-8") from e
    except (OSError, EOFError, zipfile.BadZipFile, zlib.error) as e:
        raise DataError(f"{path}: cannot be read: {e}") from e
    if data.x.shape[1:] != shape:
        raise DataError(f"{path}: gives samples of shape {data.x.shape[1:]}, the model expects {shape}")
    if not len(data.x):
        raise DataError(f"{path}: has no samples; expected at least one row in 'x'")
    known = data.y[data.y >= 0]
    top = len(card.labels) if card.task == "classify" else 2
    if card.task != "regress" and len(known) and known.max() >= top:
        raise DataError(f"{path}: label {int(known.max())}: the model has the labels 0 to {top - 1}")
    return data


def _npz(path: Path, card: Card) -> Dataset:
    arrays = _arrays(path)
    x = arrays["x"]
    if card.image is not None and x.dtype == np.uint8 and x.shape[1:] != card.image.shape:
        try:
            x = np.array([prepare(pixels, card.image) for pixels in x]).reshape(-1, *card.image.shape)
        except PictureError as e:
            raise DataError(f"{path}: array 'x': {e}") from e
    x = x.astype(np.float32)
    rows = np.arange(len(x))
    y = arrays.get("y", np.full(len(x), -1))
    test = arrays["test"].astype(np.bool_) if "test" in arrays else _held(rows, rows + 1, len(x)) == 1
    for name, array in (("y", y), ("test", test)):
        if len(array) != len(x):
            raise DataError(f"{path}: array {name!r} has {len(array)} rows, 'x' has {len(x)}")
    return Dataset(x, y if y.dtype.kind == "f" else y.astype(np.int64), test, 0)


def _arrays(path: Path) -> dict[str, NDArray[Any]]:
    """Those of x, y and test that the file holds. Raises DataError for a file without x, or that is no such archive."""
    try:
        with zipfile.ZipFile(path), np.load(path, allow_pickle=False) as file:
            if "x" not in file.files:
                has = ", ".join(file.files) or "none"
                raise DataError(f"{path}: expected an array 'x' (n, *input shape), got {has}")
            return {name: file[name] for name in ("x", "y", "test") if name in file.files}
    except (ValueError, RuntimeError) as e:  # pickled, encrypted, packed in another way
        raise DataError(f"{path}: {e}") from e


def _csv(path: Path, card: Card, label: Sequence[str]) -> Dataset:
    table = _Table(path)
    values = np.stack([table.numbers(c.name) for c in card.channels])
    for name in label:
        table.at(name)
    named = label or [t.name for t in card.targets] or ["label"]
    targets = np.stack([_labels(table, name, card) for name in named], axis=1)
    groups, flags = table.texts("group"), table.texts("test")
    spans = [(start, end) for start, end in _spans(card, groups, values.shape[1])]
    ends = np.array(spans, np.int64).reshape(-1, 2)
    if flags:
        marks = np.array([f not in ("", "0") for f in flags], np.int64)
        parts = np.array([marks[a] if len(set(marks[a:b])) == 1 else -1 for a, b in spans], np.int64)
    else:
        parts = _held(ends[:, 0], ends[:, 1], values.shape[1])
    windows = np.array([values[:, a:b] for a, b in spans], np.float32).reshape(-1, len(values), card.window.length)
    good = (parts >= 0) & (np.isnan(windows).mean(axis=(1, 2)) <= MAX_MISSING)
    if not good.any():
        rows, left_out = values.shape[1], len(good)
        raise DataError(
            f"{path}: {rows} rows have no whole window of {card.window.length} samples ({left_out} left out)"
        )
    x = Preparation(card)(bridge(windows[good]))
    y = np.array([_one(targets[a:b], card) for a, b in ends[good]])
    return Dataset(x, y, parts[good] == 1, int((~good).sum()))


def _spans(card: Card, groups: Sequence[str], rows: int) -> Iterator[tuple[int, int]]:
    """Yield (start, stop) of every window, none across two groups."""
    borders = [i for i in range(1, rows) if groups and groups[i] != groups[i - 1]]
    for start, stop in zip([0, *borders], [*borders, rows], strict=True):
        for end in range(start + card.window.length, stop + 1, card.window.hop):
            yield end - card.window.length, end


def _held(starts: NDArray[np.int64], stops: NDArray[np.int64], rows: int) -> NDArray[np.int64]:
    """Return for each window 1 if it lies in held-back blocks, 0 if outside, -1 if across."""
    length = int(stops[0] - starts[0]) if len(starts) else 1
    block = max(1, min(max(rows // BLOCKS, 4 * length if length > 1 else 1), rows // HELD_EVERY))
    count = -(-rows // block)
    chosen = np.zeros(count, np.bool_)
    chosen[np.random.default_rng(0).permutation(count)[: count // HELD_EVERY]] = (
        True  # random, because machines have cycles
    )
    first, last = starts // block, (stops - 1) // block
    held = [chosen[f : t + 1] for f, t in zip(first, last, strict=True)]
    return np.array([1 if h.all() else -1 if h.any() else 0 for h in held], np.int64)


def _labels(table: _Table, name: str, card: Card) -> NDArray[np.float64]:
    """Return a column as numbers: class index by name or number, -1 unknown; regress: the value, NaN unknown."""
    texts = table.texts(name)
    if not texts:
        return np.full(table.rows, np.nan if card.task == "regress" else -1)
    if card.task == "regress":
        return table.numbers(name).astype(np.float64)
    names = card.labels if card.task == "classify" else ("normal", "anomaly")
    known = {text: i for i, text in enumerate(names)} | {"": -1}
    found = [known[t] if t in known else _index(t, len(names)) for t in texts]
    strange = [i for i, index in enumerate(found) if index is None]
    if strange:
        text = texts[strange[0]][:SHOWN]
        raise DataError(
            f"{table.path}: line {strange[0] + 2}, column {name!r}: {text!r} is none of {', '.join(names)}, nor a "
            f"number from 0 to {len(names) - 1}; {hint(text, names)} {len(strange)} of {len(texts)} rows are like it; "
            "leave the cell empty where it is unknown"
        )
    return np.array(found, np.float64)


def _index(text: str, count: int) -> int | None:
    """Return the class index that a number stands for (-1: unknown), or None when it is none of the model's."""
    value = number(text)
    return int(value) if value is not None and -1 <= value < count and value == int(value) else None


def _one(labels: NDArray[np.float64], card: Card) -> Any:
    """Return the label of a window, unknown where it changes inside; regress: that of its last row."""
    if card.task == "regress":
        return labels[-1].astype(np.float32)
    return int(labels[0, 0]) if (labels == labels[0]).all() else -1


def _rows(path: Path, file: Iterable[str]) -> Iterator[list[str]]:
    """The rows of a CSV. Raises DataError naming the line that is none."""
    rows = csv.reader(file)
    try:
        yield from rows
    except csv.Error as e:
        raise DataError(f"{path}: line {rows.line_num} is not CSV: {e}") from e


class _Table:
    """A CSV file in memory, by column."""

    def __init__(self, path: Path) -> None:
        self.path = path
        opened = gzip.open if path.suffix == ".gz" else open
        with opened(path, "rt", encoding="utf-8-sig", newline="") as file:
            lines = list(_rows(path, file))
        if not lines:
            raise DataError(f"{path}: is empty; expected a header line with the channels' names")
        self.header, self._lines = lines[0], [line for line in lines[1:] if line]
        self.rows = len(self._lines)

    def at(self, name: str) -> int:
        """Return the position of a column. Raises DataError when there is none."""
        if name not in self.header:
            raise DataError(f"{self.path}: no column {name!r}; has {', '.join(self.header)}")
        return self.header.index(name)

    def texts(self, name: str) -> list[str]:
        """Return the cells of a column; [] when there is none."""
        if name not in self.header:
            return []
        at = self.header.index(name)
        for i, line in enumerate(self._lines):
            if len(line) != len(self.header):
                raise DataError(f"{self.path}: line {i + 2} has {len(line)} columns, the header {len(self.header)}")
        return [line[at].strip() for line in self._lines]

    def number(self, row: int, name: str) -> float:
        """Return one cell as a number. Raises DataError."""
        text = self._lines[row][self.at(name)].strip()
        try:
            return float(text) if text else float("nan")
        except ValueError as e:
            raise DataError(f"{self.path}: line {row + 2}, column {name!r}: {text!r} is not a number") from e

    def numbers(self, name: str) -> Array:
        """Return a column as float32; an empty cell is NaN."""
        self.at(name)
        try:
            return np.array([t or "nan" for t in self.texts(name)], np.float32)
        except ValueError:
            return np.array([self.number(i, name) for i in range(self.rows)], np.float32)
