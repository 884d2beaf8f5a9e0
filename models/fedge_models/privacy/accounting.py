# SPDX-License-Identifier: Apache-2.0
"""Account for what Gaussian noise costs: Rényi differential privacy, summed over rounds, converted to (epsilon, delta).

Without subsampling a release with sensitivity Δ and noise σ is ρ-zCDP with ρ = Δ² / 2σ² (Bun & Steinke 2016): its Rényi
divergence at order α is αρ, for the discrete Gaussian too (Canonne, Kamath, Steinke 2020). Where each member takes part
by the toss of a coin of probability q, the divergence is that of Mironov, Talwar, Zhang 2019 ("Rényi differential
privacy of the sampled Gaussian mechanism", theorem 4). Divergences of rounds add up, also when later rounds depend on
what earlier ones published. The conversion is proposition 12 of Canonne, Kamath, Steinke 2020.

Divergences are given at fixed `ORDERS`. Each order gives an upper bound of epsilon and the least of them counts, so a
coarse choice of orders costs a thousandth, never the guarantee. Pure; the caller stores what was spent.
"""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

Divergences = NDArray[np.float64]  # (len(ORDERS),)

ORDERS = 1 + np.logspace(-4, 6, 1001)
HIGHEST_SAMPLED = 1024.0  # subsampled noise is not computed above; its best order is rarely above 100
LEAST_SAMPLED = 0.25  # noise multiplier below which subsampling is not credited


def zcdp(noise_multiplier: float, sensitivity: float = 1.0) -> float:
    """rho of one release; noise_multiplier: σ over the clip norm; sensitivity: in clip norms."""
    return (sensitivity / noise_multiplier) ** 2 / 2


def epsilon(divergences: Divergences, delta: float) -> float:
    """The least epsilon >= 0 that holds at delta (0 to 1, exclusive)."""
    bounds = divergences + np.log1p(-1 / ORDERS) - (math.log(delta) + np.log(ORDERS)) / (ORDERS - 1)
    return max(0.0, float(bounds.min()))


def zcdp_epsilon(rho: float, delta: float) -> float:
    """The epsilon at delta of what is rho-zCDP."""
    return epsilon(ORDERS * rho, delta) if rho else 0.0


@lru_cache(maxsize=64)
def zcdp_budget(limit: float, delta: float) -> float:
    """The largest rho whose epsilon at delta is within the limit."""
    low, high = 0.0, 1.0
    while zcdp_epsilon(high, delta) <= limit:
        low, high = high, 2 * high
    while high - low > 1e-12 * high:
        middle = (low + high) / 2
        low, high = (middle, high) if zcdp_epsilon(middle, delta) <= limit else (low, middle)
    return low


@lru_cache(maxsize=64)
def sampled(noise_multiplier: float, rate: float) -> Divergences:
    """Divergences of one round that each member joins with probability `rate` (above 0, to 1).

    What is hidden is one member's whole presence; its contribution is at most one clip norm.
    """
    whole = ORDERS * zcdp(noise_multiplier)
    if rate == 1 or noise_multiplier < LEAST_SAMPLED:
        return whole  # never less than with sampling
    out = np.full(len(ORDERS), math.inf)
    known = ORDERS <= HIGHEST_SAMPLED
    out[known] = _moments(noise_multiplier, rate, ORDERS[known]) / (ORDERS[known] - 1)
    return np.minimum(out, whole)


def _moments(sigma: float, rate: float, orders: Divergences) -> Divergences:
    """log E[(1 - q + q exp((2x - 1) / 2σ²))^α] for x ~ N(0, σ²), at each order α.

    By the trapezoid rule, which for integrands that are analytic in a strip and vanish at both ends is exact to the
    last digit once the points are this close (Trefethen & Weideman 2014, "The exponentially convergent trapezoidal
    rule"): the strip's half-width is πσ², where the base of the power has its zero.
    """
    step = min(sigma, sigma**2) / 8
    x = np.arange(-12 * sigma, orders.max() + 12 * sigma, step)
    density = -((x / sigma) ** 2) / 2 + math.log(step / sigma) - math.log(2 * math.pi) / 2
    ratio = np.logaddexp(math.log1p(-rate), math.log(rate) + (2 * x - 1) / (2 * sigma**2))
    return np.array([_log_sum(density + order * ratio) for order in orders])


def _log_sum(exponents: Divergences) -> float:
    top = float(exponents.max())
    return max(0.0, top + math.log(float(np.exp(exponents - top).sum())))
