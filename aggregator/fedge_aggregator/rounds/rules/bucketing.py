# SPDX-License-Identifier: Apache-2.0
"""Average rows in random groups; the rule sees the groups."""

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

    Honest rows that differ come closer together, by the square root of `size`. The number of hostile rows stays, among
    fewer rows: the rule's f is the same, its n shrinks to ceil(n / size). The seed decides who shares a bucket; nodes
    must not be able to foresee it.
    """

    compares: ClassVar[bool] = False

    size: Annotated[int, Meta(ge=2, le=16)] = 2

    def minimum(self, rule: int) -> int:
        """One more than fits into one bucket less than the rule needs."""
        return (rule - 1) * self.size + 1

    def mix(self, gram: Gram, n: int, seed: int) -> Mixed:
        """A row for each bucket, with one divisor for all: a last bucket may have another size."""
        order = np.random.default_rng(seed).permutation(n)
        buckets = [order[i : i + self.size] for i in range(0, n, self.size)]
        divisor = math.lcm(*{len(bucket) for bucket in buckets})
        matrix = np.zeros((len(buckets), n), np.int64)
        for row, bucket in zip(matrix, buckets, strict=True):
            row[bucket] = divisor // len(bucket)
        return Mixed(matrix, divisor)
