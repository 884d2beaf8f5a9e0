# SPDX-License-Identifier: Apache-2.0
"""Learning-rate schedules: the factor of the rate at each step of one training."""

from __future__ import annotations

import math
from collections.abc import Callable

# By its name in a configuration: progress from 0 to 1 -> factor.
SCHEDULES: dict[str, Callable[[float], float]] = {
    "constant": lambda progress: 1.0,
    "cosine": lambda progress: (1 + math.cos(math.pi * progress)) / 2,  # Loshchilov & Hutter 2017, without restarts
    "linear": lambda progress: 1 - progress,
}


def factor(name: str, step: int, steps: int, warmup: float) -> float:
    """Return the factor at `step` (from 0) of `steps`, the first `warmup` (fraction) of which rise linearly to 1.

    It is never 0: the last step has the factor of one step before the end.
    """
    rising = warmup * steps
    if step + 1 < rising:
        return (step + 1) / rising
    return SCHEDULES[name](max(0.0, step - rising) / max(1.0, steps - rising))
