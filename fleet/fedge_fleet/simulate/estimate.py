# SPDX-License-Identifier: Apache-2.0
"""A mean over seeds with its error, such that data drawn again would give a mean within it nineteen times of twenty."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

# Two-sided 95 % quantiles of Student's t, by degrees of freedom.
STUDENT = (12.71, 4.30, 3.18, 2.78, 2.57, 2.45, 2.36, 2.31, 2.26, 2.23, 2.20, 2.18, 2.16, 2.14, 2.13)
MANY = 2.0
SMALL = 0.005  # a difference of scores that nobody would act on
FEW = 30  # samples to judge by, below which a site's score is rough
RULE_OF_THREE = 3.0  # where none of n samples shows something, up to 3 in n may (95 %; Hanley & Lippman-Hand 1983)


class Estimate(NamedTuple):
    """A mean, and half the width of its 95 % interval; NaN where one seed cannot tell it."""

    mean: float
    error: float

    @property
    def known(self) -> bool:
        """Whether there is an error to compare with."""
        return bool(np.isfinite(self.error) and np.isfinite(self.mean))

    def above(self, least: float = 0.0) -> bool:
        """Whether it is clearly above a value."""
        return self.known and self.mean - self.error > least

    def below(self, most: float = 0.0) -> bool:
        """Whether it is clearly below a value."""
        return self.known and self.mean + self.error < most

    def at_least(self, least: float) -> Estimate:
        """The same with no smaller an error, where it has one."""
        return Estimate(self.mean, max(self.error, least)) if self.known else self


def unseen(tests: Sequence[int]) -> float:
    """The mean difference of scores, which are shares, that so many test samples of each site cannot show.

    Seeds may agree to the last digit, and all be right for the few samples that they judge by only.
    """
    return min(1.0, RULE_OF_THREE / (len(tests) * max(1, min(tests)))) if tests else 1.0


def estimate(values: Sequence[float], overlap: float) -> Estimate:
    """Estimate a mean from the values of several seeds.

    overlap: test samples over training samples, where each seed draws both anew from the same data. Their training
    parts overlap, so the plain standard error is too small (Nadeau & Bengio 2003); 0: the parts are the same each time.
    """
    found = np.array([v for v in values if np.isfinite(v)])
    if not len(found):
        return Estimate(float("nan"), float("nan"))
    if len(found) < 2:
        return Estimate(float(found[0]), float("nan"))
    spread = float(found.std(ddof=1)) * float(np.sqrt(1 / len(found) + overlap))
    quantile = STUDENT[len(found) - 2] if len(found) - 2 < len(STUDENT) else MANY
    return Estimate(float(found.mean()), quantile * spread)
