# SPDX-License-Identifier: Apache-2.0
"""How far an estimate may be off, and what that holds for: a unit with no data yet, or the same units only. Pure.

The next run, day or machine differs from those that were learnt from, by more than windows of one differ. So where
whole units are held back, or other sites report their error on such units, the bounds are made for a new unit
(`conformal.margins_of_new_unit`). Else they hold for the same units only, and say so.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from fedge_models.graph.card import Card, Target
from fedge_models.training import conformal, objective
from numpy.typing import NDArray

from ..samples.units import Summary
from .mixture import Blend
from .training import Data

NEW, SAME = "new unit", "same unit"
REPORTED = "unit_error"  # figure of an update: root mean square error of what serves on held-back units
BEFORE = f"base_{REPORTED}"  # the same in a release: the median over the sites
LEAST_SITES = 3  # of a median that counts; of two it is what either claims
MOST_REPORTED = 8  # targets; an update has room for 32 figures


class Intervals(NamedTuple):
    """What to add to the estimate of each target for its bounds, and what these hold for."""

    margins: Mapping[str, conformal.Margins] = {}  # never changed
    holds_for: str = ""  # NEW or SAME; "": there are none
    unit: str = "run"  # what most units are
    units: int = 0  # held-back ones behind the margins
    sites: bool = False  # whether what other sites report counts
    errors: Mapping[str, float] = {}  # by target, on held-back units, to report
    assets: frozenset[str] = frozenset()  # whose runs or days these are; empty: of whatever machine

    def hold_for(self, asset: str) -> str:
        """What the bounds of an asset hold for. Other runs of known machines tell nothing of another machine."""
        return SAME if self.assets and self.holds_for and asset not in self.assets else self.holds_for

    def status(self, confidence: float) -> dict[str, Any]:
        """For the status page."""
        return {
            "confidence": confidence,
            "for": self.holds_for,
            "unit": self.unit,
            "units": self.units,
            "other_sites": self.sites,
            "margins": {name: list(margin) for name, margin in self.margins.items()},
        }


def intervals(
    blend: Blend, held: Data, judged_by: Summary, confidence: float, others: Mapping[str, float]
) -> Intervals | None:
    """Return the intervals of what serves; None for another task, or without targets.

    held: held-back samples; judged_by: what these are; others: error at other sites by target (`of_other_sites`).
    """
    if blend.card.task != "regress" or not blend.card.targets:
        return None
    targets, whole = blend.card.targets, judged_by.held > 0
    errors = _errors(blend, held) if len(held.x) else np.zeros((0, len(targets)))
    by_target = {t.name: e for t, e in zip(targets, errors.T, strict=True)}
    same = _known({name: conformal.margins(e, confidence) for name, e in by_target.items()})
    units = held.units if whole else held.units[:0]
    if not whole:
        by_target = dict.fromkeys(by_target, np.zeros(0))
    new = _known({n: conformal.margins_of_new_unit(e, units, confidence, others.get(n)) for n, e in by_target.items()})
    if not new:
        return Intervals(same, SAME if same else "", judged_by.kind)
    count = len(np.unique(units))
    if not whole:  # bounds for a new unit are no narrower than those for the same ones
        new = {name: _widest(margin, same.get(name)) for name, margin in new.items()}
    own = {name: error for name, e in by_target.items() if (error := conformal.error_of_units(e, units)) is not None}
    machines = frozenset(held.assets.tolist()) if whole and judged_by.kind != "machine" else frozenset[str]()
    by_others = bool(others) and not conformal.are_many(count, confidence)
    return Intervals(new, NEW, judged_by.kind, count, by_others, own, machines)


def reported(found: Intervals | None, targets: tuple[Target, ...]) -> dict[str, float]:
    """The figures of an update that tell other sites how far estimates are off on units that are new."""
    errors = found.errors if found is not None else {}
    names = _names(REPORTED, targets)
    return {names[t.name]: errors[t.name] for t in targets[:MOST_REPORTED] if t.name in errors}


def of_other_sites(card: Card, figures: Mapping[str, float]) -> dict[str, float]:
    """Return the error on held-back units that sites report, by target, from the figures of a release."""
    if card.task != "regress" or figures.get("nodes", 0) < LEAST_SITES:
        return {}
    found = {target: figures[name] for target, name in _names(BEFORE, card.targets).items() if name in figures}
    return {target: error for target, error in found.items() if 0 < error < math.inf}


def _names(figure: str, targets: tuple[Target, ...]) -> dict[str, str]:
    """The name of a figure of each target; of one target alone it needs no more."""
    return {t.name: figure if len(targets) == 1 else f"{figure}_{t.name}" for t in targets}


def _errors(blend: Blend, held: Data) -> NDArray[np.float64]:
    """Truth less estimate (n, targets), in the targets' units."""
    estimates = objective.unscaled(blend.card, blend.predict(held.x)).reshape(len(held.x), -1)
    return objective.possible(blend.card, held.y.reshape(len(held.x), -1)) - estimates


def _known(found: Mapping[str, conformal.Margins | None]) -> dict[str, conformal.Margins]:
    return {name: margin for name, margin in found.items() if margin is not None}


def _widest(one: conformal.Margins, other: conformal.Margins | None) -> conformal.Margins:
    """What holds both of two intervals."""
    return one if other is None else (min(one[0], other[0]), max(one[1], other[1]))
