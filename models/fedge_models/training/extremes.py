# SPDX-License-Identifier: Apache-2.0
"""Extrapolate a high quantile of scores by a generalised Pareto tail on the peaks over a level (Siffer et al. 2017).

A site with a thousand normal windows has seen the score that one in a thousand exceeds only once; the score for one
false alarm in a hundred thousand lies beyond its data. Peaks over a high enough level follow a generalised Pareto
distribution, whatever the scores follow (Pickands 1975). It is fitted by maximum likelihood in one variable
(Grimshaw 1993).
"""

from __future__ import annotations

import math
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

LEVEL = 0.9  # quantile of the scores above which the tail begins
MIN_PEAKS = 20  # fewer do not show the shape of a tail
GRID = 400
FARTHEST = 50.0  # logarithm of the highest ratio of a limit to a median: data may be such that no number holds more


def quantile(scores: NDArray[np.floating], q: float) -> float:
    """Return the q-quantile of the scores (n,) from their tail; the counted one where it does not lie in the tail."""
    level = float(np.quantile(scores, LEVEL))
    peaks = np.asarray(scores[scores > level], np.float64) - level
    beyond = (1 - q) * len(scores) / max(1, len(peaks))  # the chance that a peak exceeds the quantile
    if len(peaks) < MIN_PEAKS or beyond >= 1:
        return float(np.quantile(scores, q))
    shape, scale = fit(peaks)
    if abs(shape) < 1e-6:
        return level - scale * float(np.log(beyond))
    return level + scale / shape * float(beyond**-shape - 1)


def fit(peaks: NDArray[np.float64]) -> tuple[float, float]:
    """Return (shape, scale) of greatest likelihood for peaks (n,) > 0; (0, mean), the exponential, if none is better.

    With theta = shape / scale the shape is the mean of log(1 + theta x), and the likelihood depends on theta alone.
    """
    mean, largest = float(peaks.mean()), float(peaks.max())
    up = np.geomspace(1e-3, 1e2, GRID) / mean
    down = -(1 - np.geomspace(1e-4, 1 - 1e-4, GRID)) / largest
    best, found = -1 - float(np.log(mean)), (0.0, mean)
    for grid in (up, down):
        theta = grid
        for _ in range(3):  # finer around the best
            shape = np.log1p(theta[:, None] * peaks).mean(axis=1)
            valid = (np.abs(shape) > 1e-9) & (
                shape > -0.5
            )  # below -1/2 the likelihood has no good maximum (Smith 1985)
            likelihood = np.where(valid, -np.log(np.where(valid, shape / theta, 1)) - shape - 1, -np.inf)
            k = int(likelihood.argmax())
            if likelihood[k] > best:
                best, found = float(likelihood[k]), (float(shape[k]), float(shape[k] / theta[k]))
            theta = np.linspace(theta[max(0, k - 1)], theta[min(len(theta) - 1, k + 1)], 21)
    return found


FEWEST = 5.0  # independent scores; of fewer nothing can be said of a tail, and a limit would be beyond all faults


def promised(counted: float, middle: float, q: float, independent: float) -> float:
    """Raise a q-quantile that was counted on few independent scores, so that the next one exceeds it as rarely.

    Of n normal values the next one exceeds mean + t(q, n - 1) sqrt(1 + 1/n) deviations with probability 1 - q (the
    prediction interval of Student's t), not mean + z(q) deviations. The distance of the quantile from the median is
    stretched by that ratio on a logarithmic scale. middle: the median; independent: how many scores that share no
    samples the quantile comes from.
    """
    n, normal = max(independent, FEWEST), NormalDist().inv_cdf(q)
    if not 0 < middle < counted or normal < 0.5:
        return counted
    stretched = student_quantile(q, n - 1) * math.sqrt(1 + 1 / n) / normal
    return middle * math.exp(min(math.log(counted / middle) * stretched, max(FARTHEST, math.log(counted / middle))))


def student_quantile(p: float, dof: float) -> float:
    """Return the p-quantile (p > 1/2) of Student's t with `dof` degrees of freedom (Hill 1970, algorithm 396)."""
    a = 1 / (dof - 0.5)
    b = 48 / a**2
    c = ((20700 * a / b - 98) * a - 16) * a + 96.36
    d = ((94.5 / (b + c) - 3) / b + 1) * math.sqrt(a * math.pi / 2) * dof
    x = d * 2 * (1 - p)
    y = x ** (2 / dof)
    if y > 0.05 + a:
        x = NormalDist().inv_cdf(1 - p)
        y = x**2
        c += 0.3 * (dof - 4.5) * (x + 0.6) if dof < 5 else 0.0
        c = (((0.05 * d * x - 5) * x - 7) * x - 2) * x + b + c
        y = (((((0.4 * y + 6.3) * y + 36) * y + 94.5) / c - y - 3) / b + 1) * x
        y = math.expm1(a * y**2)
    else:
        y = ((1 / (((dof + 6) / (dof * y) - 0.089 * d - 0.822) * (dof + 2) * 3) + 0.5 / (dof + 4)) * y - 1) * (
            dof + 1
        ) / (dof + 2) + 1 / y
    return math.sqrt(dof * y)
