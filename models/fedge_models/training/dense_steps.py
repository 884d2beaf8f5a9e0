# SPDX-License-Identifier: Apache-2.0
"""Train a chain of dense layers: plans of bound NumPy calls, and all that batches have in common made at once."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..ops.operator import Array
from . import row_losses
from .dense_plan import DensePlan
from .dense_weights import DenseWeights
from .steps import Setup
from .update import Update


class DenseSteps:
    """Steps over runs of batches. The graph's parameters change only by `finish`."""

    def __init__(self, setup: Setup) -> None:
        graph, config, loss, steps, start, drift = setup
        self._graph, self._batch = graph, config.batch
        self._weights = weights = DenseWeights(graph.chain, graph.params, graph.grad)
        start = weights.packed(start) if config.proximal_mu else weights.params
        moves = None if drift is None else weights.packed(drift)
        self._update = Update(weights.params, weights.grad, start, config, steps, moves, early=True)
        self._loss = row_losses.of(loss, self._update.factor, graph.output_shape)
        self._plans: dict[int, DensePlan] = {}
        self._rows = self._outputs = graph.params[:0].reshape(0, 1)

    def run(self, x: Array, targets: NDArray[Any], pause: Callable[[], None] | None) -> float:
        """Take a step on each batch of x (rows, *input_shape); return the sum of mean loss times rows."""
        rows, outputs = self._buffers(x)
        loss, update, batch = self._loss, self._update, self._batch
        loss.begin(targets, outputs, batch)
        for start in range(0, len(x), batch):
            stop = min(start + batch, len(x))
            if pause is not None:
                pause()
            plan, part = self._plan(stop - start), rows[start:stop]
            plan.forward(part, outputs[start:stop])
            loss.slope(start, stop, plan.slope)
            plan.backward(part)
            update()
        return loss.total()

    def finish(self) -> None:
        """Write the parameters back into the graph."""
        self._weights.store(self._graph.params)

    def _buffers(self, x: Array) -> tuple[Array, Array]:
        """x as rows that end in a 1 if the first layer has a bias, and room for the outputs."""
        first, last = self._weights.matrices[0], self._weights.matrices[-1]
        if len(self._rows) < len(x):
            self._rows = np.ones((len(x), first.shape[0]), first.dtype)
            self._outputs = np.empty((len(x), last.shape[1]), first.dtype)
        rows, flat = self._rows[: len(x)], x.reshape(len(x), -1)
        rows[:, : flat.shape[1]] = flat
        return rows, self._outputs[: len(x)]

    def _plan(self, rows: int) -> DensePlan:
        """A plan for batches of so many rows: full ones, and the last of an epoch."""
        found = self._plans.get(rows)
        if found is None:
            found = self._plans[rows] = DensePlan(self._weights, rows)
        return found
