"""Rows with something amiss, for a cluster to stumble over."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from fedge_aggregator.rounds.engine.update_rows import FileRows


@dataclass(frozen=True)
class SlowRows(FileRows):
    """A tenth of a second a block."""

    def block(self, start: int, stop: int, out: np.ndarray | None = None) -> np.ndarray:
        time.sleep(0.1)
        return super().block(start, stop, out)


@dataclass(frozen=True)
class UnsharedRows(FileRows):
    """Rows that are elsewhere for whoever they are sent to."""

    def narrow(self, start: int, stop: int) -> FileRows:
        return replace(super().narrow(start, stop), path=Path("/nowhere/rows"))
