# SPDX-License-Identifier: Apache-2.0
"""Hold back whole units of a site: to judge the models by (test), and for the gateway's own judgement (held).

A unit is what repeats at a site: an experiment (column `group`), a recording (a file of a folder), a run between two
gaps in time or a day, else a block of rows that follow each other. Rows of one unit resemble each other, so a unit lies
on one side only. Pure.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from fedge_models.system.times import DAY_NS
from numpy.typing import NDArray

Bools = NDArray[np.bool_]
Ints = NDArray[np.int64]
EVERY = 5  # one unit in so many is judged by, and of the rest again one in so many is held back
FEWEST = 5  # groups or files below which blocks of rows are the units
BLOCKS = 50  # of rows (fewer where windows are long)
GAP = 20  # usual steps of time, as a gateway parts its runs
TRAIN, TEST, HELD = 0, 1, 2


class Units(NamedTuple):
    """The unit of each sample's first and last row (n,), and what a unit is, in words."""

    first: Ints
    last: Ints
    kind: str


class Parts(NamedTuple):
    """What each sample (n,) is for; one that lies across two parts is for nothing."""

    test: Bools
    held: Bools
    used: Bools


def of_groups(groups: list[str], kind: str) -> Units | None:
    """Units by name; None where there are too few."""
    names, index = np.unique(np.array(groups, dtype=object).astype(str), return_inverse=True)
    found = index.astype(np.int64).reshape(-1)
    return Units(found, found, kind) if len(names) >= FEWEST else None


def of_times(starts: Ints, ends: Ints) -> Units | None:
    """Runs between gaps in time, else days, by the time of each sample's first and last row (ns); None: too few."""
    order = np.argsort(starts, kind="stable")
    steps = np.diff(starts[order])
    if not len(steps) or (usual := float(np.median(steps))) <= 0:
        return None
    run = np.empty(len(starts), np.int64)
    run[order] = np.concatenate([[0], np.cumsum(steps > GAP * usual)])
    if run.max() + 1 >= FEWEST:
        return Units(run, run, "whole runs (between gaps in time)")
    days = np.unique(np.concatenate([starts // DAY_NS, ends // DAY_NS]))
    first, last = (np.searchsorted(days, of // DAY_NS).astype(np.int64) for of in (starts, ends))
    return Units(first, last, "whole days") if len(days) >= FEWEST else None


def of_blocks(starts: Ints, stops: Ints, kind: str = "blocks of rows") -> Units:
    """Units of rows that follow each other; starts, stops: the rows of each sample."""
    rows = int(stops.max()) if len(stops) else 1
    length = int((stops - starts).max()) if len(stops) else 1
    block = max(1, min(max(rows // BLOCKS, 4 * length if length > 1 else 1), rows // EVERY))
    return Units(starts // block, (stops - 1) // block, kind)


def joined(parts: list[Units]) -> Units:
    """The units of several files as one site's."""
    offsets = np.cumsum([0, *(int(p.last.max(initial=-1)) + 1 for p in parts)])
    first = np.concatenate([p.first + o for p, o in zip(parts, offsets[:-1], strict=True)])
    last = np.concatenate([p.last + o for p, o in zip(parts, offsets[:-1], strict=True)])
    return Units(first, last, parts[0].kind)


def choose(units: Units, classes: Bools, marked: Bools | None, seed: int) -> Parts:
    """Choose units by a seed.

    classes: (n, k), which classes a sample shows: a class that few units have is trained on first, then judged by, then
    held back; marked: what the data itself gives for the test (n,), which is then kept to.
    """
    rng = np.random.default_rng(seed)
    if marked is not None:
        side = _dealt(units, classes, ~marked, (TRAIN, HELD), rng)
        first, last = (np.where(marked, TEST, side[of]) for of in (units.first, units.last))
    else:
        side = _dealt(units, classes, np.ones(len(units.first), np.bool_), (TRAIN, TEST, HELD), rng)
        first, last = side[units.first], side[units.last]
    same = first == last
    return Parts(same & (first == TEST), same & (first == HELD), same)


def _dealt(
    units: Units, classes: Bools, free: Bools, parts: tuple[int, ...], rng: np.random.Generator
) -> NDArray[np.int64]:
    """The part of each unit (u,), by the samples that are free to be dealt; rare classes are dealt first."""
    number = int(units.last.max(initial=-1)) + 1
    there = rng.permutation(np.unique(units.first[free]))
    side = np.full(number, -1, np.int64)
    shows = np.zeros((number, classes.shape[1]), np.bool_)
    whole = free & (units.first == units.last)
    np.logical_or.at(shows, units.first[whole], classes[whole])
    for k in np.argsort(shows.sum(axis=0), kind="stable"):
        waiting = [u for u in there if shows[u, k]]
        for part in parts:
            if not any(side[u] == part for u in waiting) and (left := [u for u in waiting if side[u] < 0]):
                side[left[0]] = part
    for part in parts[1:]:
        left = [u for u in there if side[u] < 0]
        wanted = max(1, (len(there) if part == parts[1] else int((side[there] != TEST).sum())) // EVERY)
        side[left[: max(0, wanted - int((side == part).sum()))]] = part
    side[side < 0] = TRAIN
    return side
