# SPDX-License-Identifier: Apache-2.0
"""Many identities under one attacker."""

from __future__ import annotations

from typing import Annotated

import numpy as np
from fedge_models.graph.card import Card
from msgspec import Meta

from ...data.site_data import Floats, Windows
from .attack import Attack, Forged, Seen, direction, norm, usual_norm
from .flips import LabelFlip


class Sybils(Attack, frozen=True, forbid_unknown_fields=True):
    """All hostile sites pursue one poisoned goal with nearly the same update: Fung, Yoon & Beschastnikh 2018/2020
    (FoolsGold). They train on turned labels, and each sends their common direction at an honest update's length, times
    `scale`, with a little noise, so that no two are equal. They know each other, and how long honest updates are.
    """

    scale: Annotated[float, Meta(gt=0)] = 1.0
    noise: Annotated[float, Meta(ge=0)] = 0.05  # by length

    def poison(self, site: Windows, card: Card, rng: np.random.Generator) -> Windows:
        """Turn the labels."""
        return LabelFlip().poison(site, card, rng)

    def forge(self, seen: Seen, state: Floats | None, shared: np.random.Generator, rng: np.random.Generator) -> Forged:
        """The common direction."""
        length = self.scale * usual_norm(seen.honest)
        row = direction(seen.mates.mean(axis=0))
        row = row + np.float32(self.noise) * direction(rng.normal(size=row.shape).astype(np.float32))
        return Forged(row * np.float32(length / max(norm(row), 1e-12)))
