# SPDX-License-Identifier: Apache-2.0
"""Read a file of recorded data as samples, with windows and features as the gateway makes them.

A table (CSV, .gz, .xlsx in any form that a source reads): a row per sample of the card's rate, a column per channel by
its name; or a row a value with its time, which are put on a grid of the card's rate. Optional columns: the label
(`label`, or another name; of several labels, a column each), `group` (a change of its value ends a recording; no window
spans two) and `test` (1: for the evaluation, not trained on). npz: `x` (n, *input shape) in the channels' units, `y`
(n, ...), `test` (n,), and `measured` (one bool: x holds windows of the measured channels); pictures may be raw. Without
`test` a fifth of the blocks of rows is held back, and windows across two parts are left out. A wrong file is a
DataError naming line and column. Standardisation is done in `fedge_models.training.standardise`.
"""

from __future__ import annotations

import zipfile
import zlib
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from fedge_models.errors import ConfigError, DataError, PictureError
from fedge_models.graph.array_rows import is_measured, windows_shape
from fedge_models.graph.card import SEPARATOR, Card
from fedge_models.graph.channels import with_formulas
from fedge_models.graph.rows import laid_out
from fedge_models.system.choices import hint
from fedge_models.system.times import number
from fedge_models.training import objective
from fedge_models.training.outliers import finite_rows
from numpy.typing import NDArray

from ..protocols.csv import columns as tables
from ..protocols.csv.form import Form
from ..protocols.csv.guess import understand
from ..protocols.csv.numbers import reader
from ..samples.label_values import accepted_values, label_set
from ..types import Array
from ..windows.channel import LARGEST
from ..windows.features import Preparation
from ..windows.pictures import prepare

BLOCKS = 50  # of rows (fewer where windows are long)
HELD_EVERY = 5  # one block in so many
SHOWN = 40  # characters of a cell in a message
MOST = 6  # unknown labels that are named
MAX_MISSING = 0.1  # of a window's cells, as the gateway's default


class Dataset(NamedTuple):
    """Samples before standardisation."""

    x: Array  # (n, *input_shape) in the channels' units, or features
    # (n,) class index, 0/1 for anomaly, -1 unknown; multilabel: (n, labels) of 0/1, regress: (n, targets), NaN unknown.
    y: NDArray[Any]
    test: NDArray[np.bool_]  # (n,)
    left_out: int  # windows with too many gaps, or across two parts; rows of an array with a value that is not finite
    form: Form | None = None  # of a table: how it was read
    undefined: int = 0  # windows that are left out because a formula gives no number
    why: str = ""  # of which formulas
    unread: tuple[str, ...] = ()  # columns of a table that the card derives instead
    marked: bool = False  # whether the file itself says what is for the test

    def part(self, test: bool) -> tuple[Array, NDArray[Any]]:
        """Return (x, y) of the test part, or of the part to train on."""
        chosen = self.test == test
        return self.x[chosen], self.y[chosen]


def load(
    path: Path,
    card: Card,
    shape: tuple[int, ...],
    label: Sequence[str] = (),
    form: Form | None = None,
    hold_back: bool = True,
) -> Dataset:
    """Read a .npz file or a table.

    label: the column of the label, or of each target (regress) or label (multilabel); default: columns named as those,
    or a column named `label`. form: of a table; None: it is guessed. hold_back: whether a part is held back
    where the file marks none.

    Raises DataError for a file that does not fit the card or the model's input shape.
    """
    try:
        data = (
            _npz(path, card, shape, hold_back)
            if path.suffix == ".npz"
            else _table(path, card, label, form or guess_form(path, card), hold_back)
        )
    except (OSError, EOFError, zipfile.BadZipFile, zlib.error) as e:
        raise DataError(f"{path}: cannot be read: {e}") from e
    data = data._replace(x=laid_out(data.x, shape))
    if data.x.shape[1:] != shape:
        raise DataError(f"{path}: gives samples of shape {data.x.shape[1:]}, the model expects {shape}")
    if not len(data.x):
        raise DataError(f"{path}: has no samples; expected at least one row in 'x'")
    _check_labels(path, data.y, card)
    return data


def _check_labels(path: Path, y: NDArray[Any], card: Card) -> None:
    """Raise DataError for labels that the model does not have."""
    if card.task == "regress":
        return
    if card.task == "multilabel":
        try:
            objective.check_labels(card, y)
        except ValueError as e:
            raise DataError(f"{path}: {e}; its labels are {', '.join(card.labels)}") from e
        return
    known, top = y[y >= 0], len(card.labels) if card.task == "classify" else 2
    if len(known) and known.max() >= top:
        raise DataError(f"{path}: label {int(known.max())}: the model has the labels 0 to {top - 1}")


def guess_form(path: Path, card: Card) -> Form:
    """How a table with the card's channels is written. Raises DataError when its numbers could be read in two ways."""
    try:
        found = understand(path)
    except ConfigError as e:
        if "cannot be read" in str(e):
            raise DataError(str(e)) from e
        return Form()  # the reader says what is wrong
    if not {c.name for c in card.channels} <= {*found.tags, *(column.name for column in found.columns)}:
        return Form()
    if doubts := [text for text in found.doubts if "is read as" in text]:
        raise DataError(f"{path}: {doubts[0]}, in a file that is given as its form (--form)")
    return found.form


def _npz(path: Path, card: Card, shape: tuple[int, ...], hold_back: bool) -> Dataset:
    arrays = _arrays(path)
    x = arrays["x"]
    if card.image is not None and x.dtype == np.uint8 and x.shape[1:] != card.image.shape:
        try:
            x = np.array([prepare(pixels, card.image) for pixels in x]).reshape(-1, *card.image.shape)
        except PictureError as e:
            raise DataError(f"{path}: array 'x': {e}") from e
    x = x.astype(np.float32)
    rows = np.arange(len(x))
    several = (len(x), len(card.labels)) if card.task == "multilabel" else None
    y = arrays.get("y", np.full(len(x), -1) if several is None else np.full(several, np.nan))
    marked = "test" in arrays
    test = arrays["test"].astype(np.bool_) if marked else _parts(rows, rows + 1, len(x), hold_back) == 1
    for name, array in (("y", y), ("test", test)):
        if len(array) != len(x):
            raise DataError(f"{path}: array {name!r} has {len(array)} rows, 'x' has {len(x)}")
    if several is not None:
        y = np.where(y < 0, np.nan, y.astype(np.float32))
    y = y if y.dtype.kind == "f" else y.astype(np.int64)
    try:
        measured = is_measured(x, card, shape, bool(np.all(arrays["measured"])) if "measured" in arrays else None)
    except ValueError as e:
        raise DataError(f"{path}: {e}") from e
    return (_of_windows if measured else _of_rows)(path, card, x, y, test)._replace(marked=marked)


def _of_windows(path: Path, card: Card, x: Array, y: NDArray[Any], test: NDArray[np.bool_]) -> Dataset:
    """The samples of measured windows."""
    x = laid_out(x, windows_shape(card))
    if x.shape[1:] != windows_shape(card):
        raise DataError(f"{path}: array 'x' has windows of shape {x.shape[1:]}, the card's {windows_shape(card)}")
    x[~(np.abs(x) <= LARGEST)] = np.nan
    good = np.isnan(x).mean(axis=(1, 2)) <= MAX_MISSING
    if not good.any():
        raise DataError(f"{path}: none of {len(good)} windows in 'x' has enough values")
    return _prepared(path, card, x[good], y[good], test[good])._replace(left_out=int((~good).sum()))


def _of_rows(path: Path, card: Card, x: Array, y: NDArray[Any], test: NDArray[np.bool_]) -> Dataset:
    """Rows of the input as samples; those with a value that is not finite are left out."""
    keep = finite_rows(x)
    if len(x) and not keep.any():
        raise DataError(f"{path}: none of {len(x)} rows in 'x' holds finite values only")
    return Dataset(x[keep], y[keep], test[keep], int((~keep).sum()))


def _arrays(path: Path) -> dict[str, NDArray[Any]]:
    """Those of x, y, test and measured that the file holds. Raises DataError for one without x, or no such archive."""
    try:
        with zipfile.ZipFile(path), np.load(path, allow_pickle=False) as file:
            if "x" not in file.files:
                has = ", ".join(file.files) or "none"
                raise DataError(f"{path}: expected an array 'x' (n, *input shape), got {has}")
            return {name: file[name] for name in ("x", "y", "test", "measured") if name in file.files}
    except (ValueError, RuntimeError) as e:  # pickled, encrypted, packed in another way
        raise DataError(f"{path}: {e}") from e


def _table(path: Path, card: Card, label: Sequence[str], form: Form, hold_back: bool) -> Dataset:
    named = list(label) or [*card.measured, "label"]
    channels = [c.name for c in card.channels]
    table = tables.read(path, form, channels, [*named, "group", "test"], card.window.rate_hz)
    named = _label_columns(path, table, card, list(label))
    for name in label:
        if name not in table.names:
            raise DataError(f"{path}: no column {name!r}; has {', '.join(table.names)}")
    values = np.stack([table.numbers[name] for name in channels])
    values[~(np.abs(values) <= LARGEST)] = np.nan  # as the gateway takes them: no value
    targets = _targets(path, table, named, card, form)
    groups, flags = table.texts.get("group", []), table.texts.get("test", [])
    spans = [(start, end) for start, end in _spans(card, groups, values.shape[1])]
    ends = np.array(spans, np.int64).reshape(-1, 2)
    if flags:
        marks = np.array([f not in ("", "0") for f in flags], np.int64)
        parts = np.array([marks[a] if len(set(marks[a:b])) == 1 else -1 for a, b in spans], np.int64)
    else:
        parts = _parts(ends[:, 0], ends[:, 1], values.shape[1], hold_back)
    windows = np.array([values[:, a:b] for a, b in spans], np.float32).reshape(-1, len(values), card.window.length)
    good = (parts >= 0) & (np.isnan(windows).mean(axis=(1, 2)) <= MAX_MISSING)
    if not good.any():
        rows, left_out = values.shape[1], len(good)
        raise DataError(
            f"{path}: {rows} rows have no whole window of {card.window.length} samples ({left_out} left out)"
        )
    y = np.array([_one(targets[a:b], card) for a, b in ends[good]])
    unread = tuple(name for name in table.names if name in card.derive)
    made = _prepared(path, card, windows[good], y, parts[good] == 1)
    return made._replace(left_out=int((~good).sum()), form=form, unread=unread, marked=bool(flags))


def _prepared(path: Path, card: Card, windows: Array, y: NDArray[Any], test: NDArray[np.bool_]) -> Dataset:
    """The samples of windows (n, channels, length); those for which a formula gives no number are left out."""
    prepare = Preparation(card, scaled=False)  # `Model` scales raw windows, as those of arrays
    x = prepare(windows)
    if not prepare.undefined:
        return Dataset(x, y, test, 0)
    keep = ~np.isnan(x.reshape(len(x), -1)).any(axis=1)
    why = _undefined(card, prepare.undefined)
    if not keep.any():
        raise DataError(f"{path}: no window can be used: {why}")
    return Dataset(x[keep], y[keep], test[keep], 0, undefined=int((~keep).sum()), why=why)


def _undefined(card: Card, names: Sequence[str]) -> str:
    return f"the formula {', '.join(with_formulas(card.derive, names))} gives no number, such as by a division by zero"


def _spans(card: Card, groups: Sequence[str], rows: int) -> Iterator[tuple[int, int]]:
    """Yield (start, stop) of every window, none across two groups."""
    borders = [i for i in range(1, rows) if groups and groups[i] != groups[i - 1]]
    for start, stop in zip([0, *borders], [*borders, rows], strict=True):
        for end in range(start + card.window.length, stop + 1, card.window.hop):
            yield end - card.window.length, end


def _parts(starts: NDArray[np.int64], stops: NDArray[np.int64], rows: int, hold_back: bool) -> NDArray[np.int64]:
    """`_held`, or no window held back."""
    return _held(starts, stops, rows) if hold_back else np.zeros(len(starts), np.int64)


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


def _label_columns(path: Path, table: tables.Columns, card: Card, label: list[str]) -> list[str]:
    """The columns of labels or targets. Raises DataError when there is one for some of several labels only."""
    if label or card.task != "multilabel":
        return label or [t.name for t in card.targets] or ["label"]
    there = [name for name in card.labels if name in table.texts]
    if there and len(there) < len(card.labels):
        lacking = [name for name in card.labels if name not in there]
        raise DataError(
            f"{path}: has a column for the labels {', '.join(there)}, none for {', '.join(lacking)}; expected one for "
            "each, or a column 'label' with the names of those that hold"
        )
    return there or ["label"]


def _targets(path: Path, table: tables.Columns, named: list[str], card: Card, form: Form) -> NDArray[np.float64]:
    """The values (rows, columns) of labels or targets."""
    if card.task == "multilabel" and len(named) == 1:
        return _label_sets(path, table, named[0], card)
    found = np.stack([_labels(path, table, name, card, form) for name in named], axis=1)
    if card.task == "multilabel" and len(named) != len(card.labels):
        raise DataError(
            f"{path}: --label {', '.join(named)}: expected one column, or one for each of {', '.join(card.labels)}"
        )
    return found


def _label_sets(path: Path, table: tables.Columns, name: str, card: Card) -> NDArray[np.float64]:
    """A column of label sets (rows, labels), NaN where the cell is empty."""
    unknown = (np.nan,) * len(card.labels)
    texts = table.texts.get(name)
    if texts is None:
        return np.full((len(table.lines), len(card.labels)), np.nan)
    sets = {text: label_set(text, card.labels, {}) if text.strip() else unknown for text in dict.fromkeys(texts)}
    strange = [i for i, text in enumerate(texts) if sets[text] is None]
    if strange:
        text = texts[strange[0]][:SHOWN]
        near = hint(text.split(SEPARATOR)[0].strip(), card.labels)
        raise DataError(
            f"{path}: line {table.lines[strange[0]]}, column {name!r}: {text!r}: expected {accepted_values(card)}, "
            f"or a number whose bits they are; {near} {len(strange)} of {len(texts)} rows are like it; leave the cell "
            "empty where it is unknown"
        )
    return np.array([sets[text] for text in texts], np.float64).reshape(-1, len(card.labels))


def _labels(path: Path, table: tables.Columns, name: str, card: Card, form: Form) -> NDArray[np.float64]:
    """Return a column as numbers: class index by name or number, -1 unknown; regress: the value, NaN unknown."""
    texts = table.texts.get(name)
    if texts is None:
        return np.full(len(table.lines), np.nan if card.task in ("regress", "multilabel") else -1)
    if card.task in ("regress", "multilabel"):
        return _numbers(path, table, name, texts, form)
    names = card.labels if card.task == "classify" else ("normal", "anomaly")
    known = {text: i for i, text in enumerate(names)} | {"": -1}
    found = [known[t] if t in known else _index(t, len(names)) for t in texts]
    strange = [i for i, index in enumerate(found) if index is None]
    if strange:
        counts = Counter(texts[i][:SHOWN] for i in strange)
        text = texts[strange[0]][:SHOWN]
        others = ", ".join(f"{t!r} ({n})" for t, n in counts.most_common(MOST) if t != text)
        raise DataError(
            f"{path}: line {table.lines[strange[0]]}, column {name!r}: {text!r} is none of {', '.join(names)}, nor a "
            f"number from 0 to {len(names) - 1}; {hint(text, names)} {len(strange)} of {len(texts)} rows are like it"
            f"{f', others: {others}' if others else ''}; leave the cell empty where it is unknown"
        )
    return np.array(found, np.float64)


def _numbers(path: Path, table: tables.Columns, name: str, texts: Sequence[str], form: Form) -> NDArray[np.float64]:
    """A column of targets; NaN where the cell is empty or a marker."""
    read, markers = reader(form), {marker.casefold() for marker in form.markers}
    made = np.full(len(texts), np.nan)
    for i, text in enumerate(texts):
        value = read(text)
        if value is not None:
            made[i] = value
        elif text and text.casefold() not in markers:
            raise DataError(f"{path}: line {table.lines[i]}, column {name!r}: {text[:SHOWN]!r} is not a number")
    return made


def _index(text: str, count: int) -> int | None:
    """Return the class index that a number stands for (-1: unknown), or None when it is none of the model's."""
    value = number(text)
    return int(value) if value is not None and -1 <= value < count and value == int(value) else None


def _one(labels: NDArray[np.float64], card: Card) -> Any:
    """Return the label of a window, or its labels; unknown where one changes inside. regress: that of its last row."""
    if card.task == "regress":
        return labels[-1].astype(np.float32)
    if card.task == "multilabel":
        constant = bool((labels == labels[0]).all())  # NaN is none
        return labels[0].astype(np.float32) if constant else np.full(len(card.labels), np.nan, np.float32)
    return int(labels[0, 0]) if (labels == labels[0]).all() else -1
