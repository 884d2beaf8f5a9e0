# SPDX-License-Identifier: Apache-2.0
"""Which stored windows are held back to judge by: whole units, so that a model is judged by what it has not met. Pure.

A unit is a stretch of one asset's operation: a run between two longer gaps (an experiment, a file, a batch), or a day
of a run that lasts for days. No unit ends within a labelled event or a part. Of stretches with few windows several are
one unit. Of each class of labels the third unit is held back, and then one in so many; what a class was met in first is
learnt from, so that no rare fault is only judged by. Where labels are learnt from machines together, the third machine
is held back as a unit while none has a third stretch.

While a class has no unit that is held back, blocks of time within its units are (`split`), and it is known that these
show nothing of another unit (`Summary.same_only`). A window that shares samples with a held-back one is not learnt
from. What was decided on a window stays: one that was learnt from never judges later.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from fedge_models.system.text import counted
from fedge_models.system.times import DAY_NS
from numpy.typing import NDArray

LEARN, HOLD, NEITHER = 0, 1, 2  # what a window is for; NEITHER: it shares samples with both parts
FEWEST = 20  # windows of a unit, where more follow
FIRST = 2  # units of a class that are learnt from before one is held back
GAP_STEPS, GAP_WINDOWS = 20, 4  # a gap of so many usual steps, and so many window lengths, ends a run

Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]
_Key = tuple[str, int]  # asset, class


class Stored(NamedTuple):
    """Windows of one model as they are stored, in any order: arrays (n,)."""

    numbers: Ints
    assets: NDArray[np.str_]
    ends: Ints  # ns, source time
    spans: Ints  # ns from the first sample to the last
    parts: NDArray[np.str_]  # what was made; "": unknown
    classes: Ints  # label; -1: unknown, counts as no label. Where labels are numbers all are 0
    blocks: Ints  # LEARN, HOLD or NEITHER by blocks of time
    decided: Ints  # LEARN or HOLD by units, as it was decided before; -1: not yet


class Summary(NamedTuple):
    """What a model is judged by at this site."""

    kind: str = "run"  # what most units are: "run", "day" or "machine"
    units: int = 0
    held: int = 0  # whole units that are held back
    same_only: tuple[str, ...] = ()  # assets of which only blocks within a unit are held back

    def text(self) -> str:
        """The same in words."""
        if not self.units:
            return "nothing yet"
        if not self.held:
            return f"blocks of the same {self.kind} only: {counted(self.units, self.kind)} so far, none held back whole"
        found = f"{self.held} held-back {self.kind}{'s' if self.held > 1 else ''} of {self.units}"
        return found + (
            f"; {', '.join(self.same_only)} by blocks of the same {self.kind} only" if self.same_only else ""
        )


class Chosen(NamedTuple):
    """What each window (n,) is for, in the order of `Stored`."""

    purposes: Ints  # LEARN, HOLD or NEITHER
    decided: Ints  # LEARN or HOLD by units; -1: its unit has no label yet
    units: Ints  # number of its unit
    whole: Bools  # held back with its whole unit
    shares: NDArray[np.float64]  # of its time, what no window before it covers; their sum is of independent windows
    summary: Summary


class Classes(NamedTuple):
    """What is special of some classes, and whether assets are judged together."""

    normal: int = 0  # all others are events, which no unit cuts
    judged: int | None = None  # never learnt from, so all of it judges
    by_asset: bool = False  # each asset is judged by units of its own, as its limit is its own


def choose(stored: Stored, holdout: float, how: Classes) -> Chosen:
    """Return what each window is for; holdout: share of the units that is held back; 0: none."""
    n = len(stored.ends)
    every = max(2, round(1 / holdout)) if holdout > 0 else 0
    stretches, days = np.zeros(n, np.int64), 0
    order = np.lexsort((stored.ends, stored.assets))
    bounds = np.flatnonzero(stored.assets[order][1:] != stored.assets[order][:-1]) + 1 if n else np.zeros(0, np.int64)
    count = 0
    for rows in np.split(order, bounds) if n else []:
        cuts, of_days = _cuts(stored, rows, how.normal)
        stretches[rows] = count + np.searchsorted(cuts, np.arange(len(rows)), side="right")
        count, days = count + len(cuts) + 1, days + of_days
    decided = _decide(stored, stretches, every, how)
    if not every:
        decided[decided == HOLD] = LEARN  # of another holdout before: it is learnt from now, and never judges later
    whole = _with_units(stored, decided, how)
    purposes = np.where(whole, np.maximum(decided, LEARN), stored.blocks)
    if not every:
        purposes[:] = LEARN
    if how.judged is not None:
        purposes[stored.classes == how.judged] = HOLD
    _keep_apart(stored, purposes, whole & (decided == HOLD) & (stored.classes != (how.judged or -2)))
    held = whole & (decided == HOLD)
    return Chosen(
        purposes, decided, stretches, held, _shares(stored, order), _summary(stored, stretches, held, days, how)
    )


def _cuts(stored: Stored, rows: Ints, normal: int) -> tuple[Ints, int]:
    """Where units of one asset end (positions in its rows, oldest first), and how many of them at the end of a day."""
    ends, spans, classes, parts = stored.ends[rows], stored.spans[rows], stored.classes[rows], stored.parts[rows]
    if len(rows) < 2:
        return np.zeros(0, np.int64), 0
    steps = np.diff(ends)
    gap = max(GAP_STEPS * int(np.median(steps)), GAP_WINDOWS * int(spans.max()))
    long = steps - spans[1:] > gap
    new_day = np.diff(ends // DAY_NS) != 0
    within = (classes[1:] == classes[:-1]) & (classes[1:] != normal) & (classes[1:] >= 0)
    within |= (parts[1:] == parts[:-1]) & (parts[1:] != "")
    allowed = np.flatnonzero(long | ~within)
    found, of_days, last = [], 0, 0
    for i in np.flatnonzero(long | new_day).tolist():
        later = np.searchsorted(allowed, i)
        at = int(allowed[later]) + 1 if later < len(allowed) else len(rows)
        if at - last >= FEWEST and at < len(rows):
            found.append(at)
            of_days += not long[i]
            last = at
    return np.array(found, np.int64), of_days


def _shares(stored: Stored, order: Ints) -> NDArray[np.float64]:
    """Of each window the share of its time that the window before it of its asset does not cover. order: by asset and
    time."""
    found = np.ones(len(order))
    ends, spans, assets = stored.ends[order], stored.spans[order], stored.assets[order]
    same = (assets[1:] == assets[:-1]) & (spans[1:] > 0)
    found[order[1:][same]] = np.minimum(1, np.diff(ends)[same] / spans[1:][same])
    return found


def _decide(stored: Stored, stretches: Ints, every: int, how: Classes) -> Ints:
    """LEARN or HOLD of each window by its unit, in the order of time; -1 where it has no label."""
    decided, counts = stored.decided.copy(), _Counts(every, how.by_asset)
    for rows in _by_time(stored, stretches):
        asset, classes = str(stored.assets[rows[0]]), stored.classes[rows]
        keys = [(asset, int(c)) for c in np.unique(classes) if c >= 0 and c != how.judged]
        is_due = any(counts.is_due(key) for key in keys)
        for key in keys:
            mine = rows[classes == key[1]]
            new = mine[decided[mine] < 0]
            before = decided[mine][decided[mine] >= 0]
            is_held = bool(before.min() == HOLD) if len(before) else is_due and counts.is_met(key)
            decided[new] = HOLD if is_held else LEARN
            counts.add(key, is_held)
    return decided


class _Counts:
    """Units of each asset and class so far, and which are due to be held back; every: one in so many, 0: none."""

    def __init__(self, every: int, by_asset: bool) -> None:
        self._every, self._by_asset = every, by_asset
        self._learnt, self._since = Counter[_Key](), Counter[_Key]()  # since: the last that was held back
        self._held = set[_Key]()
        self._machines = defaultdict[int, set[str]](set)  # class -> assets that it is learnt from

    def is_due(self, key: _Key) -> bool:
        """Whether the next unit is to be held back."""
        if not self._every:
            return False
        if key in self._held:
            return self._since[key] >= self._every - 1
        if not self._by_asset and any(c == key[1] for _, c in self._held):
            return self._learnt[key] >= self._every - 1
        met = max(self._learnt[key], 0 if self._by_asset or self._learnt[key] else len(self._machines[key[1]]))
        return met >= min(FIRST, self._every - 1)

    def is_met(self, key: _Key) -> bool:
        """Whether the class is learnt from another unit."""
        return bool(self._learnt[key] or (not self._by_asset and self._machines[key[1]]))

    def add(self, key: _Key, is_held: bool) -> None:
        """Count a unit."""
        if is_held:
            self._held.add(key)
            self._since[key] = 0
            return
        self._learnt[key] += 1
        self._since[key] += 1
        self._machines[key[1]].add(key[0])


def _by_time(stored: Stored, stretches: Ints) -> Sequence[Ints]:
    """The rows of each stretch; stretches in the order in which they begin."""
    order = np.lexsort((stored.ends, stretches))
    edges = np.flatnonzero(np.diff(stretches[order])) + 1
    return sorted(np.split(order, edges), key=lambda rows: stored.ends[rows[0]]) if len(order) else []


def _with_units(stored: Stored, decided: Ints, how: Classes) -> Bools:
    """Which windows are divided by units: those of a class of which a unit is held back (by asset, or at the site)."""
    held = {_group(stored, i, how) for i in _firsts(stored, decided == HOLD)}
    found = np.zeros(len(decided), np.bool_)
    for asset, label in held:
        of_asset = stored.assets == asset if how.by_asset else True
        found |= of_asset & (stored.classes == label)
    return found


def _firsts(stored: Stored, keep: Bools) -> Ints:
    """One of the rows of each asset and class."""
    rows = np.flatnonzero(keep)
    pairs = {(str(stored.assets[i]), int(stored.classes[i])): i for i in rows}
    return np.array(list(pairs.values()), np.int64)


def _group(stored: Stored, i: int, how: Classes) -> tuple[str, int]:
    return (str(stored.assets[i]) if how.by_asset else "", int(stored.classes[i]))


def _keep_apart(stored: Stored, purposes: Ints, held: Bools) -> None:
    """Learn from no window that shares samples with one that is held back with its unit."""
    for asset in np.unique(stored.assets[held]):
        of_asset = stored.assets == asset
        rows = np.flatnonzero(held & of_asset)
        rows = rows[np.argsort(stored.ends[rows])]
        mine = np.flatnonzero(of_asset & (purposes == LEARN) & (stored.spans > 0))
        first = np.searchsorted(stored.ends[rows], stored.ends[mine] - stored.spans[mine])
        inside = first < len(rows)
        other = rows[first[inside]]
        mine = mine[inside]
        purposes[mine[stored.ends[other] - stored.spans[other] <= stored.ends[mine]]] = NEITHER


def _summary(stored: Stored, stretches: Ints, held: Bools, days: int, how: Classes) -> Summary:
    usable = stored.classes >= 0
    assets = {str(a): len(np.unique(stretches[usable & (stored.assets == a)])) for a in np.unique(stored.assets)}
    units, held_units = sum(assets.values()), len(np.unique(stretches[held]))
    kind = "day" if days and days * 2 >= units - len(assets) else "run"
    if held_units and max(assets.values()) == 1:
        kind = "machine"
    same = sorted(set(assets) - set(stored.assets[held].tolist())) if how.by_asset and held_units else []
    return Summary(kind, units, held_units, tuple(same))
