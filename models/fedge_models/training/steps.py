# SPDX-License-Identifier: Apache-2.0
"""What every way to train is given and does: that of any graph, and the faster one of a chain of dense layers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

from numpy.typing import NDArray

from ..graph.trainable import TrainableGraph
from ..ops.operator import Array
from . import objective
from .config import TrainingConfig


class Setup(NamedTuple):
    """One training."""

    graph: TrainableGraph
    config: TrainingConfig
    loss: objective.Loss
    steps: int  # that there will be
    start: Array  # the parameters (P,) that FedProx pulls towards
    drift: Array | None  # (P,), added over the whole training


class Steps(Protocol):
    """A way to train: takes steps over runs of batches."""

    def run(self, x: Array, targets: NDArray[Any], pause: Callable[[], None] | None) -> float:
        """Take a step on each batch of x (rows, *input_shape); return the sum of mean loss times rows."""

    def finish(self) -> None:
        """Leave the trained parameters in the graph."""
