# SPDX-License-Identifier: Apache-2.0
"""Plain attacks: a turned sign, turned labels, noise."""

from __future__ import annotations

from dataclasses import replace
from typing import Annotated, ClassVar

import numpy as np
from fedge_models.graph.card import Card
from msgspec import Meta

from ...data.site_data import Floats, Labels, Windows
from .attack import Attack, Forged, Seen


class SignFlip(Attack, frozen=True, forbid_unknown_fields=True):
    """Sends the opposite of what it has learned, `scale` times: Li et al. 2019, "RSA". Knows only its own data."""

    scale: Annotated[float, Meta(gt=0)] = 1.0

    def forge(self, seen: Seen, state: Floats | None, shared: np.random.Generator, rng: np.random.Generator) -> Forged:
        """The negative of its own update."""
        return Forged(-np.float32(self.scale) * seen.own)


class LabelFlip(Attack, frozen=True, forbid_unknown_fields=True):
    """Trains on turned labels: Biggio et al. 2012; Tolpegin et al. 2020. Knows only its own data.

    Class k of C becomes C - 1 - k, an anomaly normal and the reverse, a label that holds one that does not, a target y
    becomes
    the site's smallest + its largest - y.
    """

    def poison(self, site: Windows, card: Card, rng: np.random.Generator) -> Windows:
        """Turn the labels; unknown ones stay unknown."""
        return replace(site, y=flipped(site.y, card))


class Gaussian(Attack, frozen=True, forbid_unknown_fields=True):
    """Sends noise: Blanchard et al. 2017. Knows nothing."""

    trains: ClassVar[bool] = False

    deviation: Annotated[float, Meta(gt=0)] = 200.0  # grid steps; most of it is cut off at ±127

    def forge(self, seen: Seen, state: Floats | None, shared: np.random.Generator, rng: np.random.Generator) -> Forged:
        """Noise."""
        return Forged(rng.normal(0, self.deviation, seen.own.shape).astype(np.float32))


def flipped(y: Labels, card: Card) -> Labels:
    """Return the labels turned as LabelFlip describes."""
    if card.task == "regress":
        return y.min(axis=0) + y.max(axis=0) - y
    if card.task == "multilabel":
        return 1 - y
    top = 1 if card.task == "anomaly" else len(card.labels) - 1
    return np.where(y >= 0, top - y, y)
