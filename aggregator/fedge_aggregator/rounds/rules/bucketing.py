"""Rows are averaged in random groups, and the rule sees the groups."""

from __future__ import annotations

import math
from typing import Annotated, ClassVar

import msgspec
import numpy as np
from msgspec import Meta

from .mixing import Mixed
from .rule import Gram


class Bucketing(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Means of random buckets of `size` rows (the last may be smaller): Karimireddy, He & Jaggi 2022.

    Brings honest rows that differ closer together by the square root of `size`, and leaves the rule with as many
    hostile rows among fewer: its f stays, its n shrinks to ceil(n / size). Who shares a bucket follows from the seed,
    which nodes must not be able to foresee.
    """

    compares: ClassVar[bool] = False

    size: Annotated[int, Meta(ge=2, le=16)] = 2

    def minimum(self, rule: int) -> int:
        """One more than fills one bucket too few."""
        return (rule - 1) * self.size + 1

    def mix(self, gram: Gram, n: int, seed: int) -> Mixed:
        """One bucket a row; the divisor is common to a last bucket of another size."""
        order = np.random.default_rng(seed).permutation(n)
        buckets = [order[i : i + self.size] for i in range(0, n, self.size)]
        divisor = math.lcm(*{len(bucket) for bucket in buckets})
        matrix = np.zeros((len(buckets), n), np.int64)
        for row, bucket in zip(matrix, buckets, strict=True):
            row[bucket] = divisor // len(bucket)
        return Mixed(matrix, divisor)
