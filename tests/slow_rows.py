"""Rows that take their time, for workers that are to die over them."""

from __future__ import annotations

import time
from dataclasses import dataclass

import numpy as np
from fedge_aggregator.rows import FileRows


@dataclass(frozen=True)
class SlowRows(FileRows):
    """A tenth of a second a block."""

    def block(self, start: int, stop: int, out: np.ndarray | None = None) -> np.ndarray:
        time.sleep(0.1)
        return super().block(start, stop, out)
