# SPDX-License-Identifier: Apache-2.0
"""Clip a vector to integers of bounded norm, and add integers of noise to them.

The lattice is a property of the noise alone: its unit is σ / 2^16 with σ = noise multiplier × clip norm, the same for
every parameter, whatever the grid of the wire. A vector is clipped to the L2 norm `clip` (in parameter units), divided
by the unit and cut off *towards zero*, so its integer norm cannot pass the clip norm: that is the sensitivity that is
accounted for, in exact integers (what is cut off is below σ / 65536 per parameter). Adding integers is exact, so no
rounding depends on the secret afterwards. All that follows (float32, the wire's int8 grid, saturation, error feedback
of coding, the requested spread) works on the noised vector only and costs nothing more.

Who may see which sum, and what was spent, is decided by `budget.py` at a site and by the aggregator's `rounds`.
"""

from __future__ import annotations

import math
from typing import Annotated

import numpy as np
from msgspec import Meta

from ..messages.quantize import Floats
from .discrete_gaussian import SIGMA, Bits, Integers, sample, system_bits

Clip = Annotated[float, Meta(gt=0, le=1e9)]  # L2 norm, in parameter units
NoiseMultiplier = Annotated[
    float, Meta(ge=2**-10, le=1e9)
]  # σ over the clip norm; less would leave the lattice's range
Epsilon = Annotated[float, Meta(gt=0, le=1e6)]
Delta = Annotated[float, Meta(gt=0, lt=1)]

_MARGIN = 1 - 2.0**-20  # of the clip norm, for what floating point may round up before the integers are cut off


def norm(values: Floats) -> float:
    """Euclidean length, accumulated in float64."""
    return math.sqrt(math.fsum(float(part @ part) for part in _blocks(values)))


def unit(clip: float, noise_multiplier: float) -> float:
    """The lattice's unit in parameter units: σ / 2^16."""
    return noise_multiplier * clip / SIGMA


def to_lattice(values: Floats, length: float, clip: float, noise_multiplier: float) -> Integers:
    """Return integers (P,) of norm <= 2^16 / noise_multiplier from values (P,), part of a vector of `length`.

    Raises ValueError when the length is not finite.
    """
    if not math.isfinite(length):
        raise ValueError(f"a vector of length {length} cannot be clipped; leave out what is not finite")
    factor = min(1.0, clip / length if length else 1.0) * _MARGIN / unit(clip, noise_multiplier)
    return np.trunc(values.astype(np.float64) * factor).astype(np.int64)


def from_lattice(integers: Integers, clip: float, noise_multiplier: float) -> Floats:
    """Values (P,) float32 in parameter units."""
    return (integers * unit(clip, noise_multiplier)).astype(np.float32)


def noised(values: Floats, clip: float, noise_multiplier: float, bits: Bits = system_bits) -> Floats:
    """Clip values (P,), and add a discrete Gaussian of σ = noise_multiplier × clip to each."""
    integers = to_lattice(values, norm(values), clip, noise_multiplier)
    return from_lattice(integers + sample(values.size, bits), clip, noise_multiplier)


def _blocks(values: Floats, size: int = 1 << 16) -> list[np.ndarray[tuple[int], np.dtype[np.float64]]]:
    return [values[i : i + size].astype(np.float64) for i in range(0, values.size, size)]
