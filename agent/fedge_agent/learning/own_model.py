# SPDX-License-Identifier: Apache-2.0
"""This site's own model: trained here alone, on the same samples, for a share of the time of the federation's training.

It begins with the weights of the model file and takes nothing from any release, so that what it gives does not depend
on what others send. It is never sent.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress

import msgspec
import numpy as np
from fedge_models.errors import StorageError
from fedge_models.graph.trainable import TrainableGraph
from fedge_models.messages.quantize import Floats
from fedge_models.training.config import TrainingConfig
from fedge_models.training.evaluation import row_losses
from fedge_models.training.loop import fit
from fedge_models.training.outliers import finite_rows

from ..config.schema import Training
from ..durable.releases import ChainStore, Learnt
from ..types import Array
from .canary import clearly_worse
from .schedule import round_rate
from .training import MIN_HELD, Data

TOLERANCE = 0.02  # a training that raises the held-back loss by a larger fraction, and beyond chance, is undone


class OwnModel:
    """The own weights for one model file; digest: the SHA-256 of that file; start: its weights (P,), never changed."""

    def __init__(
        self,
        graph: TrainableGraph,
        digest: bytes,
        config: Training,
        chain: ChainStore,
        start: Floats,
        rng: np.random.Generator,
    ) -> None:
        self.trainings, self.undone = 0, 0  # since the start of the agent
        self._graph, self._digest, self._config, self._chain = graph, digest, config, chain
        self._rng = rng
        self._pace = Pace(config.own_model, config.epochs)
        self.weights = chain.load_own(digest, len(graph.params)) if config.own_model else None  # (P,); None: untrained
        self.learnt = chain.load_learnt(digest) if self.weights is not None else None  # see `train`
        self._start = start if config.own_model and self.weights is None else None

    def train(self, data: Data, held: Data, version: int, pause: Callable[[], None], learnt: Learnt) -> bool:
        """Train after one on release `version`, when an epoch is due; whether the weights are others now.

        learnt: the newest sample of `data`, and of all that are stored.
        """
        if not (finite_rows(data.x) & finite_rows(data.y)).any():
            return False
        epochs, start = self._pace.epochs(), self._start if self.weights is None else self.weights
        if not epochs or start is None:
            return False
        rate = round_rate(self._config.learning_rate, self._config.learning_rate_halving, version)
        how = msgspec.structs.replace(self._config, epochs=epochs, learning_rate=rate)
        is_first = self.weights is None and self._graph.untrained
        trained = improved(self._graph, start, data, held, how, self._rng, pause, is_first)
        self.trainings += 1
        if trained is None:
            self.undone += 1
            if self.learnt is not None:  # a restart is no reason to try the same samples again
                self._note(self.learnt._replace(last=learnt.last))
            return False
        self.weights, self._start = trained, None
        with suppress(StorageError):  # a restart then begins with what was stored before
            self._chain.save_own(self._digest, trained)
        self._note(learnt)
        return True

    def _note(self, learnt: Learnt) -> None:
        self.learnt = learnt
        with suppress(StorageError):  # then a restart counts more samples as new
            self._chain.save_learnt(self._digest, learnt)


class Pace:
    """How many epochs the own model gets after each training: a share of that training's, over time."""

    def __init__(self, share: float, epochs: int) -> None:
        self._each, self._owed = share * epochs, 0.0

    def epochs(self) -> int:
        """Whole epochs that are due now."""
        self._owed += self._each
        due = int(self._owed + 1e-9)
        self._owed -= due
        return due


def improved(
    graph: TrainableGraph,
    start: Floats,
    data: Data,
    held: Data,
    how: TrainingConfig,
    rng: np.random.Generator,
    pause: Callable[[], None] | None = None,
    first: bool = False,
) -> Floats | None:
    """Return weights (P,) trained from `start`; None where they diverge, or are clearly worse on what is held back.

    first: there is nothing yet that they could be worse than.
    """
    graph.set_params(start)
    labels = None if graph.card.task == "anomaly" else data.y
    report = fit(graph, data.x, labels, msgspec.structs.replace(how, proximal_mu=0.0), rng, pause)
    if report.diverged or not report.rows:
        return None
    trained = graph.params.copy()
    if first or len(held.x) < MIN_HELD:
        return trained
    before, after = (_losses(graph, weights, held) for weights in (start, trained))
    return None if clearly_worse(before, after, TOLERANCE) else trained


def _losses(graph: TrainableGraph, weights: Floats, held: Data) -> Array:
    """The loss of each held-back sample; classes count alike, as the site may meet them more or less often later."""
    graph.set_params(weights)
    found = row_losses(graph, held.x, None if graph.card.task == "anomaly" else held.y)
    if graph.card.task != "classify":
        return found
    _, of, counts = np.unique(held.y, return_inverse=True, return_counts=True)
    balanced: Array = found * (len(of) / (len(counts) * counts))[of].astype(np.float32)
    return balanced
