# SPDX-License-Identifier: Apache-2.0
"""Store each window once, although its rows may be read again.

A window was stored before if a sample of the same machine and time has the same numbers. The time alone does not say
it: grids begin at 1970, and so may the clock of a gateway after each power cut. No threads: the caller holds the lock
of its connection.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from .sample_table import USED, Sample, stored_value

ULPS = 8  # by how many units in the last place numbers of the same rows may differ, in the coarser of two types

# Of pictures several may have one time, so SQLite compares them. Numbers may be stored in the other of the two types.
_OF_THAT_TIME = f"""SELECT id, x FROM samples WHERE asset = :asset AND time_ns = :time AND model = :model
    AND length(x) IN (:size, 2 * :size, :size / 2) AND (:picture IS NULL OR x = :picture) AND {USED}"""  # noqa: S608
_INSERT = """INSERT INTO samples (model, asset, time_ns, x, y, held, origin, span_ns, part)
    VALUES (:model, :asset, :time, :x, :y, :held, :origin, :span, :part)"""
_LABEL_STORED = """UPDATE samples SET y = :y, origin = :origin WHERE id = :id AND origin <= :origin AND y IS NOT :y"""


class Inserted(NamedTuple):
    """What became of samples."""

    new: list[Sample]
    repeated: list[Sample]  # of windows that are stored already: their rows were read before
    relabelled: list[Sample]  # of these, those whose stored sample got another value from them


def insert(db: sqlite3.Connection, samples: Iterable[Sample]) -> Inserted:
    """Add samples, each window once; their values, if any, come from a tag.

    What is read again (after a kill, or a position that was lost or deleted) makes the same windows once more. A tag
    may say more of them by now: then the stored ones get its value.
    """
    found = Inserted([], [], [])
    for s in samples:
        x, y = s.x.tobytes(), stored_value(s.y)
        values = {
            "model": s.model, "asset": s.asset, "time": s.time_ns, "x": x, "y": y, "held": int(s.held),
            "origin": int(y is not None), "span": s.span_ns, "part": s.part,
            "size": len(x), "picture": x if s.x.dtype == np.uint8 else None,
        }  # fmt: skip
        number = _stored(db, s.x, values)
        if number is None:
            db.execute(_INSERT, values)
            found.new.append(s)
            continue
        found.repeated.append(s)
        if y is not None and db.execute(_LABEL_STORED, {**values, "id": number}).rowcount:
            found.relabelled.append(s)
    return found


def _stored(db: sqlite3.Connection, x: NDArray[Any], values: dict[str, Any]) -> int | None:
    """The id of the sample that was stored of this very window, if there is one."""
    rows = db.execute(_OF_THAT_TIME, values)
    return next((int(number) for number, stored in rows if _is_same(x, stored)), None)


def _is_same(x: NDArray[Any], stored: bytes) -> bool:
    """Whether a stored sample has the numbers of x, as far as the coarser of their two types tells them apart."""
    if x.dtype == np.uint8:
        return True  # SQLite compared them
    kinds: dict[int, np.dtype[Any]] = {4 * x.size: np.dtype("<f4"), 8 * x.size: np.dtype("<f8")}
    if len(stored) not in kinds:
        return False
    before = np.frombuffer(stored, kinds[len(stored)])
    coarser = min(x.dtype, before.dtype, key=lambda kind: kind.itemsize)
    with np.errstate(over="ignore"):  # a float64 that float32 cannot hold was stored as infinite
        now, before = x.ravel().astype(coarser), before.astype(coarser)
    return np.allclose(now, before, rtol=ULPS * float(np.finfo(coarser).eps), atol=0.0, equal_nan=True)
