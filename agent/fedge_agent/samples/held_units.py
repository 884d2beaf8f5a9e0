# SPDX-License-Identifier: Apache-2.0
"""Note in the table of samples what each is for: to learn from, held back to judge by, or neither (`units`).

The column `held` holds, in two bits each: what the sample is for now; what it is for by blocks of time, plus one; and
what its unit was decided for, plus one. Where the upper bits are zero, nothing was decided yet, and the lowest are of
the blocks: as samples are put, and as earlier versions stored them.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from fedge_models.graph.card import Card
from fedge_models.system.healing import HealingDatabase
from numpy.typing import NDArray

from .sample_table import USED
from .units import Classes, Stored, Summary, choose

PURPOSE = "(held & 3)"  # LEARN, HOLD or NEITHER
_LOOK = f"""SELECT id, asset, time_ns, span_ns, part, y, held FROM samples
    WHERE model = ? AND {USED}"""  # noqa: S608


class Divided(NamedTuple):
    """How the samples of a model are divided: their numbers (n,), rising, and the number of each one's unit (n,)."""

    numbers: NDArray[np.int64] = np.zeros(0, np.int64)  # never changed
    units: NDArray[np.int64] = np.zeros(0, np.int64)
    shares: NDArray[np.float64] = np.zeros(0)  # see `Chosen`
    summary: Summary = Summary()


def divide(tables: HealingDatabase, model: str, card: Card, holdout: float) -> Divided:
    """Decide on samples that were not there before, and note what each is for. Raises StorageError."""
    rows = tables.rows(_LOOK, model)
    stored, codes = _stored(rows, card), np.array([r[6] for r in rows], np.int64)
    chosen = choose(stored, holdout, _classes(card))
    new = chosen.purposes | stored.blocks + 1 << 2 | chosen.decided + 1 << 4
    changed = np.flatnonzero(new != codes)
    if len(changed):
        notes = zip(new[changed].tolist(), stored.numbers[changed].tolist(), strict=True)
        with tables.transaction() as db:
            db.executemany("UPDATE samples SET held = ? WHERE id = ?", notes)
    order = np.argsort(stored.numbers)
    return Divided(stored.numbers[order], chosen.units[order], chosen.shares[order], chosen.summary)


def _classes(card: Card) -> Classes:
    if card.task == "anomaly":
        return Classes(judged=1, by_asset=True)
    return Classes(normal=card.normal_index if card.task == "classify" else 0)


def _stored(rows: list[tuple[int, str, int, int, str, float | bytes | None, int]], card: Card) -> Stored:
    codes = np.array([r[6] for r in rows], np.int64)
    blocks = np.where(codes >> 2 & 3, (codes >> 2 & 3) - 1, codes & 3)
    return Stored(
        np.array([r[0] for r in rows], np.int64),
        np.array([r[1] for r in rows], np.str_),
        np.array([r[2] for r in rows], np.int64),
        np.array([r[3] for r in rows], np.int64),
        np.array([r[4] for r in rows], np.str_),
        _labels([r[5] for r in rows], card),
        blocks,
        (codes >> 4 & 3) - 1,
    )


def _labels(values: list[float | bytes | None], card: Card) -> NDArray[np.int64]:
    """Classes of labels; of a regression one for all. A window of an anomaly model without a label may be normal."""
    if card.task == "anomaly":
        return np.array([1 if v == 1 else 0 for v in values], np.int64)
    if card.task == "classify":
        return np.array([-1 if v is None else int(v) for v in values], np.int64)
    if card.task == "regress":
        return np.array([-1 if v is None else 0 for v in values], np.int64)
    sets: dict[object, int] = {np.zeros(len(card.labels)).tobytes(): 0}
    return np.array([-1 if v is None else sets.setdefault(v, len(sets)) for v in values], np.int64)
