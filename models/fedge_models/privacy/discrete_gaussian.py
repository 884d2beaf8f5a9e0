# SPDX-License-Identifier: Apache-2.0
"""Draw integers from the discrete Gaussian exactly: P(k) ∝ exp(-k² / 2σ²) with σ = 2^16.

A textbook Gaussian in floating point does not protect: the values that can occur reveal the value that it was added to
(Mironov 2012, "On significance of the least significant bits for differential privacy"). Here no number is in floating
point: Canonne, Kamath, Steinke 2020 ("The discrete Gaussian for differential privacy", algorithms 1 to
3) with integer comparisons only, many samples at a time. The random bits are passed in: the operating system's
(`system_bits`) wherever it matters, a seeded generator's in tests.

Timing is not protected: how long a draw takes depends on what is drawn.
"""

from __future__ import annotations

import os
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

Words = NDArray[np.uint64]
Bits = Callable[[int], Words]  # that many independent, uniform 64-bit words
Integers = NDArray[np.int64]
Bools = NDArray[np.bool_]

SIGMA_BITS = 16
SIGMA = 1 << SIGMA_BITS
CHUNK = 1 << 16  # samples at a time: bounds the memory, whatever the size of a model
_ONE = 2 * SIGMA_BITS + 1  # probabilities are fractions of 2^33: 2 σ²


def system_bits(count: int) -> Words:
    """Words from the operating system's cryptographic generator."""
    return np.frombuffer(os.urandom(8 * count), np.uint64)


def sample(count: int, bits: Bits = system_bits) -> Integers:
    """Draw `count` independent integers with σ = `SIGMA` (exactly: the variance is σ² up to e^(-10^10))."""
    out = np.empty(count, np.int64)
    for start in range(0, count, CHUNK):
        part = out[start : start + CHUNK]
        part[:] = _until_accepted(len(part), lambda n: _gaussian_try(n, bits))
    return out


def _until_accepted(count: int, attempt: Callable[[int], tuple[Integers, Bools]]) -> Integers:
    """Repeat attempts until `count` values are accepted."""
    out, left = np.empty(count, np.int64), np.arange(count)
    while left.size:
        values, accepted = attempt(left.size)
        out[left[accepted]] = values[accepted]
        left = left[~accepted]
    return out


def _gaussian_try(count: int, bits: Bits) -> tuple[Integers, Bools]:
    """Algorithm 3: a discrete Laplace of scale t = σ, accepted with probability exp(-(|y| - σ²/t)² / 2σ²)."""
    y = _until_accepted(count, lambda n: _laplace_try(n, bits))
    return y, _bernoulli_exp((np.abs(y) - SIGMA) ** 2, bits)


def _laplace_try(count: int, bits: Bits) -> tuple[Integers, Bools]:
    """Algorithm 2 with scale σ: P(y) ∝ exp(-|y| / σ)."""
    u = below(SIGMA, count, bits)
    accepted = _bernoulli_exp(u << (_ONE - SIGMA_BITS), bits)
    size = u + (_successes(count, bits) << SIGMA_BITS)
    negative = below(2, count, bits) == 1
    return np.where(negative, -size, size), accepted & ~(negative & (size == 0))


def _bernoulli_exp(gamma: Integers, bits: Bits) -> Bools:
    """True with probability exp(-gamma / 2^33), gamma >= 0."""
    whole, part = gamma >> _ONE, gamma & ((1 << _ONE) - 1)
    return (_successes(gamma.size, bits) >= whole) & _bernoulli_exp_part(part, bits)


def _successes(count: int, bits: Bits) -> Integers:
    """Count how often in a row an event of probability exp(-1) happens: m times or more with probability exp(-m)."""
    out, going = np.zeros(count, np.int64), np.arange(count)
    while going.size:
        going = going[_bernoulli_exp_part(np.full(going.size, 1 << _ONE), bits)]
        out[going] += 1
    return out


def _bernoulli_exp_part(gamma: Integers, bits: Bits) -> Bools:
    """Algorithm 1, for gamma <= 2^33: k grows while Bernoulli(gamma / k) is true; True when k ends odd."""
    odd, going, k = np.ones(gamma.size, np.bool_), np.arange(gamma.size), 1
    while going.size:
        going = going[below(k << _ONE, going.size, bits) < gamma[going]]
        odd[going] ^= True
        k += 1
    return odd


def below(bound: int, count: int, bits: Bits = system_bits) -> Integers:
    """`count` uniform integers from 0 to bound - 1 (bound <= 2^62), without the bias of a bare remainder."""
    words = bits(count).copy()
    last = np.uint64((1 << 64) // bound * bound - 1)  # the largest word of a whole number of cycles
    while (over := np.flatnonzero(words > last)).size:
        words[over] = bits(over.size)
    return (words % np.uint64(bound)).astype(np.int64)
