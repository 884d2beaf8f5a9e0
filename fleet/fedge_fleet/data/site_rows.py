# SPDX-License-Identifier: Apache-2.0
"""Read the data of one site with the gateway's own reader, as rows before standardisation, and what is to be said of
them: how a table was understood, what was left out, how far apart in time its rows are.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
from fedge_agent.learning import dataset, workbench
from fedge_agent.learning.dataset import Dataset
from fedge_agent.protocols.csv.clock import Clock
from fedge_agent.protocols.csv.form_file import load_form
from fedge_agent.protocols.csv.guess import understand
from fedge_agent.protocols.csv.snippet import key_lines
from fedge_models.errors import ConfigError, DataError
from fedge_models.graph.card import Card
from fedge_models.graph.card_scale import rows_in_card_scale
from fedge_models.graph.trainable import TrainableGraph
from fedge_models.system.text import counted
from numpy.typing import NDArray

from . import units
from .units import Bools, Units


@dataclass(frozen=True)
class SiteRows:
    """The samples of one site."""

    x: NDArray[Any]  # (n, *input shape) in the card's scale, before standardisation
    y: NDArray[Any]  # (n,) or (n, k), as of a `Dataset`
    units: Units
    marked: Bools | None = None  # (n,) what the data itself gives for the test
    left_out: int = 0  # windows with gaps, or without a number
    step_s: float | None = None  # between two rows of its tables; None: they have no times
    notes: tuple[str, ...] = ()

    def classes(self, card: Card) -> Bools:
        """Which classes each sample shows (n, k); of a target none."""
        if card.task == "regress":
            return np.zeros((len(self.y), 0), np.bool_)
        if card.task == "multilabel":
            shown: Bools = np.concatenate([self.y > 0, self.y == 0], axis=1)
            return shown
        names = len(card.labels) if card.task == "classify" else 2
        found: Bools = self.y[:, None] == np.arange(names)
        return found


def read(paths: Sequence[Path], graph: TrainableGraph, label: Sequence[str], form: Path | None) -> SiteRows:
    """Read all files of a site. Raises DataError and ConfigError that name file, line and column."""
    made = [_loaded(path, graph, label, form) for path in paths]
    if len({d.marked for d in made}) > 1:
        first, other = (next(p for p, d in zip(paths, made, strict=True) if d.marked == m) for m in (True, False))
        raise DataError(f"{first} has a column 'test', {other} has none; expected all files of a site to be alike")
    several = len(paths) > 1
    steps = [s for p in paths if (s := _step(p)) is not None] if graph.card.image is None else []
    return SiteRows(
        rows_in_card_scale(np.concatenate([d.x for d in made]), graph.card),
        np.concatenate([d.y for d in made]),
        _units(paths, made, graph.card),
        np.concatenate([d.test for d in made]) if made[0].marked else None,
        sum(d.left_out + d.undefined for d in made),
        median(steps) if steps else None,
        tuple(f"{p.name}: {n}" if several else n for p, d in zip(paths, made, strict=True) for n in _notes(d, form)),
    )


def _loaded(path: Path, graph: TrainableGraph, label: Sequence[str], form: Path | None) -> Dataset:
    given = load_form(form, path) if form is not None and path.suffix != ".npz" else None
    made = dataset.load(path, graph.card, graph.input_shape, label, given, hold_back=False)
    workbench.check_targets(path, made, graph)
    workbench.check_labelled(path, made._replace(test=np.zeros_like(made.test)), graph.card, training=True)
    return made


def _units(paths: Sequence[Path], made: Sequence[Dataset], card: Card) -> Units:
    """By experiment, by file, by time, or by blocks of rows."""
    if all(d.groups for d in made):
        groups = [f"{p}:{g}" for p, d in zip(paths, made, strict=True) for g in d.groups]
        if (found := units.of_groups(groups, "whole experiments (column group)")) is not None:
            return found
    if len(paths) > 1:
        files = [str(p) for p, d in zip(paths, made, strict=True) for _ in range(len(d.x))]
        if (found := units.of_groups(files, "whole files")) is not None:
            return found
    if len(made) == 1 and (timed := _by_time(made[0])) is not None:
        return timed
    return units.joined([_blocks(d, card) for d in made])


def _by_time(made: Dataset) -> Units | None:
    """Runs or days, where a table has times."""
    if not made.times or made.form is None:
        return None
    clock, stamps = Clock(made.form), np.zeros((len(made.times), 2), np.int64)
    try:
        for row, (first, last) in zip(stamps, made.times, strict=True):
            row[:] = clock.parse(first, ""), clock.parse(last, "")
    except ValueError:
        return None  # blocks of rows need no times
    return units.of_times(stamps[:, 0], stamps[:, 1])


def _blocks(made: Dataset, card: Card) -> Units:
    if len(made.spans):
        return units.of_blocks(made.spans[:, 0], made.spans[:, 1])
    if card.image is not None and made.y.ndim == 1:  # a folder's pictures are sorted by label
        return units.of_blocks(*_within_labels(made.y), "pictures that follow each other")
    rows = np.arange(len(made.x), dtype=np.int64)
    return units.of_blocks(rows, rows + 1)


def _within_labels(y: NDArray[Any]) -> tuple[units.Ints, units.Ints]:
    """The place of each picture when they are sorted by label."""
    place = np.empty(len(y), np.int64)
    place[np.argsort(y, kind="stable")] = np.arange(len(y))
    return place, place + 1


def _step(path: Path) -> float | None:
    """The usual time between two rows of a table with a column a channel, s."""
    if path.suffix == ".npz":
        return None
    with suppress(ConfigError, ValueError):
        found = understand(path)
        if found.form.tag_column or not found.form.time_column or found.form.date_column:
            return None
        clock = Clock(found.form)
        cells = next(c.cells for c in found.columns if c.name == found.form.time_column)
        times = [clock.parse(cell, "") for cell in cells if cell]
        steps = [b - a for a, b in pairwise(times) if b > a]
        return median(steps) / 1e9 if len(steps) > 1 else None
    return None


def _notes(made: Dataset, form: Path | None) -> list[str]:
    """What a person must know of how a file was read."""
    found = list(made.notes)
    if form is None and made.form is not None and (keys := key_lines(made.form)):
        found.append(f"understood as {', '.join(keys)}")
    if made.unread:
        found.append(f"not read, because the model derives it itself: {', '.join(made.unread)}")
    if made.undefined:
        found.append(f"{counted(made.undefined, 'window')} left out: {made.why}")
    return found
