# SPDX-License-Identifier: Apache-2.0
"""Attacks that hide in the honest sites' own spread: they know what those send."""

from __future__ import annotations

from statistics import NormalDist
from typing import Annotated, ClassVar

import numpy as np
from msgspec import Meta

from ...data.site_data import Floats
from .attack import Attack, Forged, Seen


class Alie(Attack, frozen=True, forbid_unknown_fields=True):
    """ "A little is enough": Baruch, Baruch & Goldberg 2019. Knows what every honest site sends.

    In each coordinate the honest mean less z honest standard deviations, all hostile sites the same. z as the paper has
    it: the largest for which enough honest sites lie farther out, so that a majority looks like the hostile ones,
    z = Φ⁻¹((n - f - s) / (n - f)) with s = ⌊n / 2 + 1⌋ - f.
    """

    trains: ClassVar[bool] = False

    z: float | None = None  # None: the paper's

    def forge(self, seen: Seen, state: Floats | None, shared: np.random.Generator, rng: np.random.Generator) -> Forged:
        """Mean less z deviations."""
        z = enough(seen.n, seen.f) if self.z is None else self.z
        return Forged(seen.honest.mean(axis=0) - np.float32(z) * seen.honest.std(axis=0))


def enough(n: int, f: int) -> float:
    """ALIE's z for f hostile of n."""
    supporters = n // 2 + 1 - f
    share = (n - f - supporters) / (n - f)
    return NormalDist().inv_cdf(min(max(share, 0.001), 0.999))


class Ipm(Attack, frozen=True, forbid_unknown_fields=True):
    """Inner product manipulation: Xie, Koyejo & Gupta 2020, "Fall of empires". Knows what every honest site sends.

    Minus `epsilon` times the honest mean. Small: it is nearer to the honest than they are to each other, and turns
    the aggregate's direction where sites differ. Large: the mean itself turns.
    """

    trains: ClassVar[bool] = False

    epsilon: Annotated[float, Meta(gt=0)] = 0.5

    def forge(self, seen: Seen, state: Floats | None, shared: np.random.Generator, rng: np.random.Generator) -> Forged:
        """Minus epsilon times the mean."""
        return Forged(-np.float32(self.epsilon) * seen.honest.mean(axis=0))


class Mimic(Attack, frozen=True, forbid_unknown_fields=True):
    """Copies one honest site: Karimireddy, He & Jaggi 2022, section 3.3. Knows what every honest site sends.

    Nothing it sends is wrong; it only makes one site's peculiarity count for many. The site is the one farthest out
    along the direction in which honest sites differ most, found by Oja's rule over the rounds as in the paper.
    """

    trains: ClassVar[bool] = False

    def forge(self, seen: Seen, state: Floats | None, shared: np.random.Generator, rng: np.random.Generator) -> Forged:
        """The row of the site farthest out. State: the direction (P,)."""
        mean = seen.honest.mean(axis=0)
        z = shared.normal(size=mean.shape).astype(np.float32) if state is None else state
        centred = seen.honest - mean
        for _ in range(1 if state is not None else 5):
            z = centred.T @ (centred @ z)
            z /= np.float32(max(float(np.linalg.norm(z)), 1e-12))
        return Forged(seen.honest[int(np.argmax(np.abs(centred @ z)))].copy(), z)
