"""The contract of a pre-aggregation: each row is replaced by a mean of several, before the rule sees them.

A mixing gives a matrix (m, n) of whole numbers; with its divisor k, the mixed rows are `matrix @ rows / k` and their
Gram matrix is `matrix @ gram @ matrix.T / k²`. Whole numbers, so that the mixed rows are exact in float32.
"""

from __future__ import annotations

from typing import ClassVar, NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from .rule import Gram


class Mixed(NamedTuple):
    """How rows are mixed."""

    matrix: NDArray[np.int64]  # (m, n), each row sums to `divisor`
    divisor: int


class Mixing(Protocol):
    """One pre-aggregation with its parameters: a frozen struct, built from the configuration."""

    compares: ClassVar[bool]  # looks at the Gram matrix; otherwise it is handed one of shape (0, 0)

    def minimum(self, rule: int) -> int:
        """The smallest n for which it holds what it promises and leaves as many rows as the rule needs."""

    def mix(self, gram: Gram, n: int, seed: int) -> Mixed:
        """The matrix for n rows; the same for the same seed, so that averaging again after a crash agrees."""
