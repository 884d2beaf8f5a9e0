# SPDX-License-Identifier: Apache-2.0
"""Quantiles of Student's t distribution, for what few observations can tell. Pure."""

from __future__ import annotations

import math
from functools import cache

STEPS = 60  # halvings of an angle: to the last bit


@cache
def two_sided(confidence: float, freedom: int) -> float:
    """Return t so that |T| < t with this probability, for T with a whole number of degrees of freedom."""
    low, high = 0.0, math.pi / 2
    for _ in range(STEPS):
        middle = (low + high) / 2
        low, high = (middle, high) if _within(middle, freedom) < confidence else (low, middle)
    return math.sqrt(freedom) * math.tan((low + high) / 2)


def _within(angle: float, freedom: int) -> float:
    """P(|T| < sqrt(freedom) tan(angle)) as a finite sum (Abramowitz and Stegun 1964, 26.7.3 and 26.7.4)."""
    cosine, odd = math.cos(angle), freedom % 2
    term, total = (cosine, 0.0) if odd else (1.0, 0.0)
    for k in range(1 + odd, freedom, 2):
        total += term
        term *= cosine * cosine * k / (k + 1)
    total *= math.sin(angle)
    return 2 / math.pi * (angle + total) if odd else total
