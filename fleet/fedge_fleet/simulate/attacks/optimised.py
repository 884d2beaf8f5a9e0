# SPDX-License-Identifier: Apache-2.0
"""Attacks that go as far from the mean as something that a defence may look at allows."""

from __future__ import annotations

from typing import Annotated, Literal

import numpy as np
from msgspec import Meta
from numpy.typing import NDArray

from ...data.site_data import Floats
from .attack import Attack, Forged, Seen, direction


class _Farthest(Attack, frozen=True, forbid_unknown_fields=True):
    """The mean and as much of a harmful direction as a bound on distances allows; all hostile sites send the same."""

    towards: Literal["deviation", "mean", "sign"] = "deviation"  # against which of the honest updates it leans
    fellows: bool = False  # knows only what the hostile sites' own data give, not what honest sites send

    def _rows(self, seen: Seen) -> Floats:
        return seen.mates if self.fellows and len(seen.mates) > 1 else seen.honest

    def _lean(self, rows: Floats) -> Floats:
        mean = rows.mean(axis=0)
        found: Floats = -{"deviation": rows.std(axis=0), "mean": direction(mean), "sign": np.sign(mean)}[self.towards]
        return found


class MinMax(_Farthest, frozen=True, forbid_unknown_fields=True):
    """Min-Max: Shejwalkar & Houmansadr 2021, section 4. Knows what every honest site sends, or only its fellows.

    It is no further from any honest update than two of those are from each other.
    """

    def forge(self, seen: Seen, state: Floats | None, shared: np.random.Generator, rng: np.random.Generator) -> Forged:
        """The mean, and the largest lean that keeps the largest distance."""
        rows = self._rows(seen).astype(np.float64)
        lean, offsets = self._lean(self._rows(seen)), rows.mean(axis=0) - rows
        steps = [_largest(lean, offset, _distances(rows).max()) for offset in offsets]
        return Forged((rows.mean(axis=0) + min(steps) * lean).astype(np.float32))


class MinSum(_Farthest, frozen=True, forbid_unknown_fields=True):
    """Min-Sum: Shejwalkar & Houmansadr 2021, section 4. Knows what every honest site sends, or only its fellows.

    Its squared distances to all honest updates add up to no more than those of an honest one.
    """

    def forge(self, seen: Seen, state: Floats | None, shared: np.random.Generator, rng: np.random.Generator) -> Forged:
        """The mean, and the largest lean that keeps the largest sum of squared distances."""
        rows = self._rows(seen).astype(np.float64)
        lean, offsets = self._lean(self._rows(seen)), rows.mean(axis=0) - rows
        most = _distances(rows).sum(axis=1).max() - np.square(offsets).sum()
        length = len(rows) * float(np.square(lean.astype(np.float64)).sum())  # the products with the lean add up to 0
        return Forged((rows.mean(axis=0) + max(most, 0) ** 0.5 / max(length, 1e-12) ** 0.5 * lean).astype(np.float32))


class Fang(Attack, frozen=True, forbid_unknown_fields=True):
    """Poisoning of trimmed mean and median: Fang et al. 2020, section 4. Knows what every honest site sends.

    In each coordinate a little beyond the honest values, on the side against which they go.
    """

    beyond: Annotated[float, Meta(gt=1)] = 2.0  # the paper's b

    def forge(self, seen: Seen, state: Floats | None, shared: np.random.Generator, rng: np.random.Generator) -> Forged:
        """Drawn between the outermost honest value and `beyond` times it, or its part where that lies further out."""
        low, high, up = seen.honest.min(axis=0), seen.honest.max(axis=0), seen.honest.mean(axis=0) > 0
        b = np.float32(self.beyond)
        below = low - np.where(low > 0, low - low / b, (1 - b) * low) * rng.random(low.shape, np.float32)
        above = high + np.where(high > 0, (b - 1) * high, high / b - high) * rng.random(high.shape, np.float32)
        return Forged(np.where(up, below, above).astype(np.float32))


class Sleeper(Attack, frozen=True, forbid_unknown_fields=True):
    """Honest for a while, so that it is trusted; then it sends the opposite of what it learned.

    Reputation systems call this an on-off attack (Perrone & Nelson 2006, "A study of on-off attack models").
    """

    after: Annotated[int, Meta(ge=0)] = 20  # updates
    scale: Annotated[float, Meta(gt=0)] = 1.0

    def forge(self, seen: Seen, state: Floats | None, shared: np.random.Generator, rng: np.random.Generator) -> Forged:
        """Its own update, or minus `scale` times it. State: how many it has sent."""
        sent = 0 if state is None else int(state[0])
        row = seen.own if sent < self.after else -np.float32(self.scale) * seen.own
        return Forged(row, np.array([sent + 1], np.float32))


def _distances(rows: NDArray[np.float64]) -> NDArray[np.float64]:
    """Squared distances (n, n) of rows."""
    gram = rows @ rows.T
    squares = np.diag(gram)
    found: NDArray[np.float64] = np.maximum(squares[:, None] + squares[None, :] - 2 * gram, 0)
    return found


def _largest(lean: Floats, offset: NDArray[np.float64], most: float) -> float:
    """The largest g for which offset + g * lean is no longer than the square root of `most`; 0 where it is already."""
    wide = lean.astype(np.float64)
    a, b, c = float(wide @ wide), float(wide @ offset), float(offset @ offset) - most
    return 0.0 if c > 0 or a == 0 else (-b + (b * b - a * c) ** 0.5) / a
