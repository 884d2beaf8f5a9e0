# SPDX-License-Identifier: Apache-2.0
"""Read a file of recorded data as samples, with windows and features as the gateway makes them.

A table (CSV, .gz, .xlsx in any form that a source reads): a row per sample of the card's rate, a column per channel by
its name; or a row a value with its time, which are put on a grid of the card's rate. Optional columns: the label
(`label`, or another name; of several labels, a column each), `group` (a change of its value ends a recording; no window
spans two) and `test` (1: for the evaluation, not trained on). npz: `x` (n, *input shape) in the channels' units, `y`
(n, ...), `test` (n,), and `measured` (one bool: x holds windows of the measured channels); pictures may be raw. Without
`test` a fifth of the blocks of rows is held back, and windows across two parts are left out. A folder: pictures, in
sub-folders with the names of the labels (`picture_folder`). A wrong file is a DataError naming line and column.
Standardisation is done in `fedge_models.training.standardise`.
"""

from __future__ import annotations

import zipfile
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import numpy as np
from fedge_models.errors import ConfigError, DataError, PictureError
from fedge_models.graph import array_labels
from fedge_models.graph.array_rows import check_pictures, is_measured, windows_shape, yes_or_no
from fedge_models.graph.card import Card
from fedge_models.graph.channels import with_formulas
from fedge_models.graph.rows import laid_out
from fedge_models.system.floats import wide
from fedge_models.training import objective
from fedge_models.training.outliers import finite_rows
from fedge_models.training.precision import WITHOUT_SCALER, blurred_columns, narrowed
from numpy.typing import NDArray

from ..protocols.csv import columns as tables
from ..protocols.csv.form import Form
from ..protocols.csv.guess import understand
from ..types import Values
from ..windows.channel import LARGEST
from ..windows.features import Preparation
from ..windows.pictures import prepare
from . import picture_folder, readiness, table_labels

BLOCKS = 50  # of rows (fewer where windows are long)
HELD_EVERY = 5  # one block in so many
AT_ONCE = 4096  # windows that are prepared at once
MAX_MISSING = 0.1  # of a window's cells, as the gateway's default
NO_SPANS: NDArray[np.int64] = np.zeros((0, 2), np.int64)


class Dataset(NamedTuple):
    """Samples before standardisation."""

    x: Values  # (n, *input_shape) in the channels' units, or features
    # (n,) class index, 0/1 for anomaly, -1 unknown; multilabel: (n, labels) of 0/1, regress: (n, targets), NaN unknown.
    y: NDArray[Any]
    test: NDArray[np.bool_]  # (n,)
    left_out: int  # windows with too many gaps, or across two parts; rows of an array with a value that is not finite
    form: Form | None = None  # of a table: how it was read
    undefined: int = 0  # windows that are left out because a formula gives no number
    why: str = ""  # of which formulas
    unread: tuple[str, ...] = ()  # columns of a table that the card derives instead
    marked: bool = False  # whether the file itself says what is for the test
    lacking: str = ""  # why no sample has a label: what the file does not have
    notes: tuple[str, ...] = ()  # of a folder: what was not read, and how labels were understood
    spans: NDArray[np.int64] = NO_SPANS  # (n, 2) first and last row, plus one, of each sample; of a table only
    groups: tuple[str, ...] = ()  # of each sample, where the file has a column `group`
    times: tuple[tuple[str, str], ...] = ()  # of its first and last row as written, where the form has one column of it

    def part(self, test: bool) -> tuple[Values, NDArray[Any]]:
        """Return (x, y) of the test part, or of the part to train on."""
        chosen = self.test == test
        return self.x[chosen], self.y[chosen]

    def labelled(self, card: Card) -> NDArray[np.bool_]:
        """Which samples (n,) the model can learn from or be evaluated by; all of an anomaly model, as no label is
        normal."""
        return np.ones(len(self.y), np.bool_) if card.task == "anomaly" else objective.known(card.task, self.y)


def load(
    path: Path,
    card: Card,
    shape: tuple[int, ...],
    label: Sequence[str] = (),
    form: Form | None = None,
    hold_back: bool = True,
) -> Dataset:
    """Read a .npz file, a table, or a folder of pictures.

    label: the column of the label, or of each target (regress) or label (multilabel); default: columns named as those,
    or a column named `label`. form: of a table; None: it is guessed. hold_back: whether a part is held back
    where the file marks none.

    Raises DataError for a file that does not fit the card or the model's input shape.
    """
    try:
        data = _read(path, card, shape, label, form, hold_back)
    except (OSError, EOFError, zipfile.BadZipFile, zlib.error) as e:
        raise DataError(f"{path}: cannot be read: {e}") from e
    data = data._replace(x=laid_out(data.x if data.x.dtype == np.uint8 else narrowed(data.x), shape))
    if data.x.shape[1:] != shape:
        windows = laid_out(data.x, windows_shape(card)).shape[1:] == windows_shape(card)
        to_do = "; if 'x' holds windows of what is measured, put measured = true beside it" if windows else ""
        raise DataError(f"{path}: gives samples of shape {data.x.shape[1:]}, the model expects {shape}{to_do}")
    if not len(data.x):
        raise DataError(f"{path}: has no samples; expected at least one row in 'x'")
    _check_labels(path, data.y, card)
    doubts = [f"data: {said}" for said in readiness.of_arrays(card, shape, data.x, data.y)]
    return data._replace(notes=(*data.notes, *_blurred(data.x, card), *doubts))


def _blurred(x: Values, card: Card) -> list[str]:
    """A note where a network that scales its input itself, in float32, cannot tell the changes of large values."""
    found = blurred_columns(x) if card.scaling == "file" and x.ndim > 1 else []
    names = [c.name for c in card.input_channels]
    named = [names[i] if x.shape[1] == len(names) else f"column {i + 1}" for i in found]
    text = (
        "lie so far from 0 that float32, in which the file scales them itself (scaling = 'file'), hides their changes"
    )
    return [f"values of {', '.join(named)} {text}: {WITHOUT_SCALER}"] if found else []


def _read(
    path: Path, card: Card, shape: tuple[int, ...], label: Sequence[str], form: Form | None, hold_back: bool
) -> Dataset:
    if path.is_dir():
        return _folder(path, card, label, form, hold_back)
    if path.suffix == ".npz":
        return _npz(path, card, shape, hold_back)
    return _table(path, card, label, form or guess_form(path, card), hold_back)


def _folder(path: Path, card: Card, label: Sequence[str], form: Form | None, hold_back: bool) -> Dataset:
    """The samples of a folder of pictures, as bytes: a quarter of what they take as float32."""
    found = picture_folder.read(path, card, label, form)
    marked = found.test is not None
    test = found.test if found.test is not None else np.zeros(len(found.x), np.bool_)
    if not marked and hold_back:
        kinds = found.y if found.y.ndim == 1 else np.zeros(len(found.y))
        for kind in np.unique(kinds):  # of each label a part: a folder's pictures are sorted by label
            rows = np.flatnonzero(kinds == kind)
            test[rows] = _held(np.arange(len(rows)), np.arange(1, len(rows) + 1), len(rows)) == 1
    return Dataset(found.x, found.y, test, found.left_out, marked=marked, lacking=found.lacking, notes=found.notes)


def _check_labels(path: Path, y: NDArray[Any], card: Card) -> None:
    """Raise DataError for labels of which several may hold that are not 0 and 1."""
    if card.task != "multilabel":
        return
    try:
        objective.check_labels(card, y)
    except ValueError as e:
        raise DataError(f"{path}: {e}; its labels are {', '.join(card.labels)}") from e


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
    form = found.form
    if not form.tag_column and {form.time_column, form.date_column} & {c.name for c in card.channels}:
        # Its values are near times of today. A row a sample needs no time.
        return msgspec.structs.replace(form, time_column="", date_column="", time_format="")
    return form


def _npz(path: Path, card: Card, shape: tuple[int, ...], hold_back: bool) -> Dataset:
    arrays = _arrays(path)
    try:
        x = _inputs(arrays["x"], card)
        rows, count, marked = np.arange(len(x)), len(x), "test" in arrays
        y = array_labels.labels(arrays.get("y"), count, card)
        test = array_labels.marks(arrays["test"], count) if marked else _parts(rows, rows + 1, count, hold_back) == 1
        said = yes_or_no(arrays["measured"], "measured") if "measured" in arrays else None
        measured = is_measured(x, card, shape, said)
        check_pictures(x, card)
    except ValueError as e:
        raise DataError(f"{path}: {e}") from e
    lacking = "" if "y" in arrays else f"no array 'y'; the file has {', '.join(arrays)}"
    return (_of_windows if measured else _of_rows)(path, card, x, y, test)._replace(marked=marked, lacking=lacking)


def _inputs(x: NDArray[Any], card: Card) -> Values:
    """The array `x` as floats, raw pictures prepared. Raises ValueError."""
    array_labels.check_numbers(x, "x")
    if card.image is not None and x.dtype == np.uint8 and x.shape[1:] != card.image.shape:
        try:
            x = np.array([prepare(pixels, card.image) for pixels in x]).reshape(-1, *card.image.shape)
        except PictureError as e:
            raise ValueError(f"array 'x': {e}") from e
    return wide(x)


def _of_windows(path: Path, card: Card, x: Values, y: NDArray[Any], test: NDArray[np.bool_]) -> Dataset:
    """The samples of measured windows."""
    x = laid_out(x, windows_shape(card))
    if x.shape[1:] != windows_shape(card):
        raise DataError(f"{path}: array 'x' has windows of shape {x.shape[1:]}, the card's {windows_shape(card)}")
    x[~(np.abs(x) <= LARGEST)] = np.nan
    good = np.isnan(x).mean(axis=(1, 2)) <= MAX_MISSING
    if not good.any():
        raise DataError(f"{path}: none of {len(good)} windows in 'x' has enough values")
    return _prepared(path, card, x[good], y[good], test[good])._replace(left_out=int((~good).sum()))


def _of_rows(path: Path, card: Card, x: Values, y: NDArray[Any], test: NDArray[np.bool_]) -> Dataset:
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
    time = [] if form.tag_column or form.date_column or not form.time_column else [form.time_column]
    table = tables.read(path, form, channels, [*named, "group", "test", *time], card.window.rate_hz)
    named = table_labels.columns(path, table, card, list(label))
    values = np.stack([table.numbers[name] for name in channels])
    values[~(np.abs(values) <= LARGEST)] = np.nan  # as the gateway takes them: no value
    targets = table_labels.values(path, table, named, card, form)
    groups, flags = table.texts.get("group", []), table.texts.get("test", [])
    spans = [(start, end) for start, end in _spans(card, groups, values.shape[1])]
    ends = np.array(spans, np.int64).reshape(-1, 2)
    if flags:
        marks = np.array([f not in ("", "0") for f in flags], np.int64)
        parts = np.array([marks[a] if len(set(marks[a:b])) == 1 else -1 for a, b in spans], np.int64)
    else:
        parts = _parts(ends[:, 0], ends[:, 1], values.shape[1], hold_back)
    good = (parts >= 0) & (_missing(values, ends) <= MAX_MISSING)
    if not good.any():
        rows, left_out = values.shape[1], len(good)
        raise DataError(
            f"{path}: {rows} rows have no whole window of {card.window.length} samples ({left_out} left out)"
        )
    y = np.array([table_labels.of_window(targets[a:b], card) for a, b in ends[good]])
    unread = tuple(name for name in table.names if name in card.derive)
    if not card.derive and not card.features:
        values = narrowed(values.T).T
    made = _prepared(path, card, [values[:, a:b] for a, b in ends[good]], y, parts[good] == 1, ends[good])
    stamps = table.texts.get(form.time_column, []) if time else []
    made = made._replace(
        groups=tuple(groups[a] for a in made.spans[:, 0]) if groups else (),
        times=tuple((stamps[a], stamps[b - 1]) for a, b in made.spans) if stamps else (),
    )
    lacking = table_labels.lacking(table, named)
    made = made._replace(form=form, unread=unread, marked=bool(flags), lacking=lacking)
    return made._replace(left_out=int((~good).sum()))


def _missing(values: Values, ends: NDArray[np.int64]) -> NDArray[np.float64]:
    """Share of the cells that have no value, of each window (n, start and stop) of values (channels, rows)."""
    before = np.concatenate([[0], np.cumsum(np.isnan(values).sum(axis=0))])
    cells = len(values) * np.maximum(ends[:, 1] - ends[:, 0], 1)
    share: NDArray[np.float64] = (before[ends[:, 1]] - before[ends[:, 0]]) / cells
    return share


def _prepared(
    path: Path,
    card: Card,
    windows: Sequence[Values],
    y: NDArray[Any],
    test: NDArray[np.bool_],
    spans: NDArray[np.int64] = NO_SPANS,
) -> Dataset:
    """The samples of windows (channels, length); those for which a formula gives no number are left out."""
    prepare, parts, found = Preparation(card, scaled=False), [], set[str]()  # `Model` scales raw windows
    for start in range(0, len(windows), AT_ONCE):  # float64 of overlapping windows would be large
        parts.append(prepare(np.asarray(windows[start : start + AT_ONCE])))
        found.update(prepare.undefined)
    x = parts[0] if len(parts) == 1 else np.concatenate(parts)
    if not found:
        return Dataset(x, y, test, 0, spans=spans)
    keep = ~np.isnan(x.reshape(len(x), -1)).any(axis=1)
    why = _undefined(card, [name for name in card.derive if name in found])
    if not keep.any():
        raise DataError(f"{path}: no window can be used: {why}")
    spans = spans[keep] if len(spans) else spans
    return Dataset(x[keep], y[keep], test[keep], 0, undefined=int((~keep).sum()), why=why, spans=spans)


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
