# SPDX-License-Identifier: Apache-2.0
"""The contract of an attack.

Hostile sites hold real keys and certificates: what they send is signed and enrolled, only wrong. They work together and
see everything: what the honest sites send in the same round, the release before, the grid. An attack either changes the
data that a hostile site trains on (`poison`) or what it sends (`forge`), or both; each is a pure function of what it is
given, and the generators are passed in. Rows are in grid units, as the aggregator's rules see them; what a row says
beyond ±127 steps is cut off, for the wire carries no more.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

import msgspec
import numpy as np
from fedge_models.graph.card import Card

from ...data.site_data import Floats, Windows
from .rehearsal import Rehearsal


@dataclass(frozen=True)
class Seen:
    """What a hostile site knows when it makes an update."""

    honest: Floats  # (h, P) what each honest site has sent last, on the present grid
    own: Floats  # (P,) what its own training (on poisoned data, if the attack poisons) came to
    mates: Floats  # (f, P) the same of every hostile site that sends now, its own among them
    moved: Floats  # (P,) what the newest release changed, on the present grid
    samples: int  # its own
    n: int  # sites that send
    f: int  # of them hostile
    claims: Sequence[int] | None = None  # the sample counts of the honest ones (h,)
    part: Mapping[str, bool] = field(default_factory=dict)  # honest site -> whether it was part of the newest release
    metrics: Mapping[str, float] = field(default_factory=dict)  # what its own training reports
    agreed: Floats | None = None  # (P,) what the hostile sites have agreed that this one sends


@dataclass(frozen=True)
class Forged:
    """The update that it sends, and the state that it keeps until the next one."""

    row: Floats  # (P,) grid units
    state: Any = None
    samples: int | None = None  # claimed; None: the truth
    spread: float | None = None  # claimed for every tensor; None: that of the row
    metrics: Mapping[str, float] | None = None  # reported; None: the truth


class Attack(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Base: an attack with its parameters, built from a table. Does no harm by itself."""

    trains: ClassVar[bool] = True  # whether its sites train at all
    colludes: ClassVar[bool] = False  # whether its sites agree on what each of them sends

    def poison(self, site: Windows, card: Card, rng: np.random.Generator) -> Windows:
        """Return the (standardised) windows that a hostile site trains on in place of its own."""
        return site

    def agree(
        self, seen: Seen, rehearsal: Rehearsal, state: Any, shared: np.random.Generator
    ) -> tuple[Floats | None, Any]:
        """What each hostile site is to send (f, P), in the order of `mates`, and what they remember together."""
        return None, state

    def forge(self, seen: Seen, state: Floats | None, shared: np.random.Generator, rng: np.random.Generator) -> Forged:
        """Make the update of a hostile site. `state`: kept from last time; `shared`: draws common to all of them."""
        return Forged(seen.own)


def norm(row: Floats) -> float:
    """Euclidean length."""
    return float(np.linalg.norm(row.astype(np.float64)))


def usual_norm(rows: Floats) -> float:
    """Median length of rows (h, P)."""
    return float(np.median([norm(r) for r in rows]))


def direction(row: Floats) -> Floats:
    """Scale the row to length 1; a zero row stays zero."""
    unit: Floats = row / np.float32(max(norm(row), 1e-12))
    return unit
