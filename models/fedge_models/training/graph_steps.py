# SPDX-License-Identifier: Apache-2.0
"""Train any graph: forwards, loss, backwards and update, batch by batch."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from numpy.typing import NDArray

from ..ops.operator import Array
from .steps import Setup
from .update import Update


class GraphSteps:
    """Steps over runs of batches."""

    def __init__(self, setup: Setup) -> None:
        graph, config, loss, steps, start, drift = setup
        self._graph, self._batch, self._loss = graph, config.batch, loss
        self._update = Update(graph.params, graph.grad, start, config, steps, drift, statistics=graph.statistics)

    def run(self, x: Array, targets: NDArray[Any], pause: Callable[[], None] | None) -> float:
        """Take a step on each batch of x (rows, *input_shape); return the sum of mean loss times rows."""
        total = 0.0
        for start in range(0, len(x), self._batch):
            if pause is not None:
                pause()
            part = x[start : start + self._batch]
            loss, slope = self._loss(self._graph.logits(part), targets[start : start + self._batch])
            self._graph.backward(slope)
            self._update()
            total += loss * len(part)
        return total

    def finish(self) -> None:
        """The graph's own parameters were trained."""
