"""What a federation does with a round's rows: mix them or not, then a rule."""

from __future__ import annotations

from dataclasses import dataclass

from .mixing import Mixing
from .rule import Rule


@dataclass(frozen=True)
class Pipeline:
    """rows -> [mixing] -> rule, all in grid units. Built by `rules/registry.py` from the configuration."""

    rule: Rule
    mixing: Mixing | None = None

    @property
    def compares(self) -> bool:
        """Whether any part of it looks at the Gram matrix."""
        return self.rule.compares or (self.mixing is not None and self.mixing.compares)

    @property
    def pairs(self) -> bool:
        """Whether it looks at inner products of different rows; mixed rows' lengths are made of them."""
        return self.mixing is not None or self.rule.pairs

    def minimum(self) -> int:
        """The smallest number of updates for which it holds what it promises."""
        need = self.rule.minimum()
        return self.mixing.minimum(need) if self.mixing else need

    def require(self, n: int) -> None:
        """Raises ValueError, naming the number needed, when n updates are too few; a round waits before that."""
        if n < self.minimum():
            raise ValueError(f"{n} updates: {self.describe()} needs {self.minimum()}")

    def describe(self) -> str:
        """In the operator's words, e.g. ``Krum(byzantine=2) after Bucketing(size=2)``."""
        return f"{self.rule} after {self.mixing}" if self.mixing else str(self.rule)
