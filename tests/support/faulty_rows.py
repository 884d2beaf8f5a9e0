# SPDX-License-Identifier: Apache-2.0
"""Rows with a fault, for a cluster that has to cope with it."""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from fedge_aggregator.rounds.engine.update_rows import FileRows


@dataclass(frozen=True)
class SlowRows(FileRows):
    """Rows that take a tenth of a second a block."""

    def block(self, start: int, stop: int, out: np.ndarray | None = None) -> np.ndarray:
        time.sleep(0.1)
        return super().block(start, stop, out)


@dataclass(frozen=True)
class UnsharedRows(FileRows):
    """Rows whose file does not exist for the process that they are sent to."""

    def narrow(self, start: int, stop: int) -> FileRows:
        return replace(super().narrow(start, stop), path=Path("/nowhere/rows"))
