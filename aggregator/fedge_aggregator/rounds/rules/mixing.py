# SPDX-License-Identifier: Apache-2.0
"""The contract of a mixing: each row is replaced by a mean of several rows before the rule sees them.

A mixing gives a matrix (m, n) of whole numbers and a divisor k: the mixed rows are `matrix @ rows / k`, and their Gram
matrix is `matrix @ gram @ matrix.T / k²`. Because all numbers are whole, rules see whole numbers and all is exact.
"""

from __future__ import annotations

from typing import ClassVar, NamedTuple, Protocol

import numpy as np
from fedge_models.messages.quantize import LIMIT, Codes
from numpy.typing import NDArray

from .combine import EXACT
from .rule import Block, Gram

CHUNK = 1024  # columns that are held as wide floats at once


class Mixed(NamedTuple):
    """How rows are mixed."""

    matrix: NDArray[np.int64]  # (m, n), each row sums to `divisor`
    divisor: int

    def of(self, block: Codes) -> Block:
        """The mixed rows (m, w) of a block (n, w), times the divisor.

        By float32 products, which are exact below 2^24. Raises ValueError for a divisor that would exceed that.
        """
        if self.divisor * LIMIT > EXACT:
            raise ValueError(
                f"mixing: divisor {self.divisor}, expected at most {EXACT // LIMIT}: too many rows at once"
            )
        matrix = self.matrix.astype(np.float32)
        out = np.empty((len(matrix), block.shape[1]), np.int16 if LIMIT * self.divisor < 1 << 15 else np.int32)
        for at in range(0, block.shape[1], CHUNK):
            out[:, at : at + CHUNK] = matrix @ block[:, at : at + CHUNK].astype(np.float32)
        return out


class Mixing(Protocol):
    """A mixing with its parameters: a frozen struct, built from the configuration."""

    compares: ClassVar[bool]  # whether it uses the Gram matrix; otherwise it gets one of shape (0, 0)

    def minimum(self, rule: int) -> int:
        """The smallest n for which it keeps its promise and leaves as many rows as the rule needs."""

    def mix(self, gram: Gram, n: int, seed: int) -> Mixed:
        """The matrix for n rows; the same seed gives the same matrix, also when averaging again after a crash."""
