# SPDX-License-Identifier: Apache-2.0
"""Move parameters along a gradient: proximal term, clipping, learning rate, optimiser and correction of drift."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ..ops.operator import Array
from . import optimizers, schedules
from .config import TrainingConfig


class Update:
    """One step a call; `steps` is how many there will be, `start` what FedProx pulls towards."""

    def __init__(
        self,
        params: Array,
        grad: Array,
        start: Array,
        config: TrainingConfig,
        steps: int,
        drift: Array | None = None,
        *,
        statistics: NDArray[np.bool_] | None = None,
        early: bool = False,
    ) -> None:
        """All vectors (P,). `drift` is added over the whole training, evenly by step.

        statistics: which of the parameters no optimiser moves; early: the caller multiplies each gradient by `factor`
        in the loss, where it costs nothing. It is the learning rate, where the step is proportional to the gradient.
        """
        self._params, self._grad, self._config = params, grad, config
        self._optimizer = optimizers.OPTIMIZERS[config.optimizer](params.size, config.momentum, config.weight_decay)
        scratch = np.empty(min(params.size, optimizers.BLOCK), params.dtype)
        near = optimizers.blocks(params.size) if config.proximal_mu else []
        self._near = [(params[part], start[part], grad[part], scratch[: part.stop - part.start]) for part in near]
        self._drift = None if drift is None or not steps else drift / np.float32(steps)
        if self._drift is not None and statistics is not None:
            self._drift[statistics] = 0  # a corrected variance might end below zero
        self._statistics = None if statistics is None else np.flatnonzero(statistics)
        self._done, self._steps = 0, steps
        self._steady = config.schedule == "constant" and not config.warmup
        linear = self._steady and not config.clip_norm and config.optimizer in optimizers.LINEAR
        self.factor = config.learning_rate if early and linear and config.learning_rate else 1.0

    def __call__(self) -> None:
        """Take a step along the gradient, which is overwritten."""
        params, grad, config = self._params, self._grad, self._config
        for values, start, slope, away in self._near:
            np.subtract(values, start, away)
            np.multiply(away, np.float32(config.proximal_mu * self.factor), away)
            np.add(slope, away, slope)
        if config.clip_norm:
            optimizers.clip(grad, config.clip_norm)
        rate = self._rate()
        if self._statistics is None:
            self._optimizer.step(params, grad, rate)
        else:
            moved = params[self._statistics]  # as the forward pass set them
            self._optimizer.step(params, grad, rate)
            params[self._statistics] = moved
        if self._drift is not None:
            np.add(params, self._drift, params)

    def _rate(self) -> float:
        config, step = self._config, self._done
        self._done = step + 1
        if self._steady:
            return config.learning_rate / self.factor
        return config.learning_rate * schedules.factor(config.schedule, step, self._steps, config.warmup)
