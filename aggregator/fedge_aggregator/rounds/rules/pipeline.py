# SPDX-License-Identifier: Apache-2.0
"""What a federation does with the rows of a round: an optional mixing, then a rule."""

from __future__ import annotations

from dataclasses import dataclass

from .mixing import Mixing
from .rule import HALF, Rule, stated

USUAL_SHARE = 0.3  # of hostile updates, where neither rule nor mixing states any: that of the default rule


@dataclass(frozen=True)
class Pipeline:
    """rows -> [mixing] -> rule, all in grid units; `registry.py` builds it from the configuration."""

    rule: Rule
    mixing: Mixing | None = None

    @property
    def compares(self) -> bool:
        """Whether any part of it uses the Gram matrix."""
        return self.rule.compares or (self.mixing is not None and self.mixing.compares)

    @property
    def pairs(self) -> bool:
        """Whether it uses inner products of different rows; the lengths of mixed rows consist of them."""
        return self.mixing is not None or self.rule.pairs

    def minimum(self) -> int:
        """The smallest number of updates for which it keeps its promise."""
        need = self.rule.minimum()
        return self.mixing.minimum(need) if self.mixing else need

    @property
    def drift(self) -> float:
        """The most of its own drift that a site may take back: none but a plain mean bears all of it."""
        return self.rule.drift if self.mixing is None else min(self.rule.drift, HALF)

    def holds(self, n: int) -> int:
        """Against how many hostile updates of n it holds, by its rule."""
        return self.rule.holds(n)

    def hostile(self, n: int) -> int:
        """How many of n updates may be hostile by the configuration: the most that rule or mixing states."""
        given = [getattr(part, "byzantine", None) for part in (self.rule, self.mixing)]
        return max((stated(f, n) for f in given if f is not None), default=stated(USUAL_SHARE, n))

    def require(self, n: int) -> None:
        """Raise ValueError, with the number needed, for too few updates; a round waits for enough."""
        if n < self.minimum():
            raise ValueError(f"{n} updates: {self.describe()} needs {self.minimum()}")

    def describe(self) -> str:
        """The pipeline in words for operators, e.g. ``Krum(byzantine=2) after Bucketing(size=2)``."""
        return f"{self.rule} after {self.mixing}" if self.mixing else str(self.rule)
