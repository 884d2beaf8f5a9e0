# SPDX-License-Identifier: Apache-2.0
"""How this site's own model and the tuned release decide together: the mean of what they give.

The mean of probabilities, reconstructions or estimates is never further from the truth than the two are on average
(the losses are convex), and no release can move a decision by more than its share. Pure.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from fedge_models.graph.card import Card
from fedge_models.graph.trainable import TrainableGraph
from fedge_models.messages.quantize import Floats
from fedge_models.training.evaluation import predict
from numpy.typing import NDArray

from ..types import Array

HUGE = 1e18  # float32 cannot hold the square of a larger value, and a score that is not finite raises no alarm
LEAST = np.float32(1e-30)  # probability, of which the logarithm is taken


class Mixing(NamedTuple):
    """How the two outputs become one; share: how much the own model counts, 0 to 1.

    known: which classes or labels (k,) the own model has learnt and been judged by; of the others only the release's
    probability is used. None: all. probabilities: the outputs of a classifier are such, not logits, and so is the
    result.
    counts: weight of the release's probabilities of the others (k,), less than 1 where it reports them too often in
    samples of other classes (`champion.false_alarms`). None: 1.
    """

    task: str
    share: float
    known: NDArray[np.bool_] | None = None
    probabilities: bool = False
    counts: Array | None = None

    def __call__(self, own: Array, release: Array) -> Array:
        """Mix outputs (..., k). Where one of the two gives no number, because it overflows, the other decides alone."""
        return self.mix(own, release)[0]

    def mix(self, own: Array, release: Array) -> tuple[Array, bool]:
        """Return the mixture, and whether it is of both throughout."""
        with np.errstate(all="ignore"):
            mixed = self._mixed(own, release)
            if np.abs(mixed).max(initial=0) < HUGE:
                return mixed, True
            mine, theirs = self._sound(own), self._sound(release)
            return np.where(theirs, np.where(mine, mixed, release), own), bool(mine.all() and theirs.all())

    def _mixed(self, own: Array, release: Array) -> Array:
        if self.task == "classify":
            return self._classes(own, release)
        if self.task == "multilabel":
            return self._labels(own, release)
        mixed: Array = release + np.float32(self.share) * (own - release)
        return mixed

    def _sound(self, outputs: Array) -> NDArray[np.bool_]:
        """Which outputs are numbers to decide by; of a classifier all of a row, or none."""
        sound: NDArray[np.bool_] = np.abs(outputs) < (HUGE if self.task in ("anomaly", "regress") else np.inf)
        if self.task == "classify":
            sound = np.logical_and.reduce(sound, axis=-1, keepdims=True)
        return sound

    def _classes(self, own: Array, release: Array) -> Array:
        """The own model divides among the classes that it knows what the release gives to these together."""
        p, q = (own, release) if self.probabilities else (softmax(own), softmax(release))
        if self.known is None or self.known.all():
            mixed = q + np.float32(self.share) * (p - q)
        else:
            q = q if self.counts is None else self._less(q, self.known, self.counts)
            p, mine = np.where(self.known, p, 0), np.where(self.known, q, 0)
            p = p * (mine.sum(axis=-1, keepdims=True) / np.maximum(p.sum(axis=-1, keepdims=True), LEAST))
            mixed = q + np.float32(self.share) * (p - mine)
        found: Array = mixed if self.probabilities else np.log(np.maximum(mixed, LEAST))
        return found

    @staticmethod
    def _less(q: Array, known: NDArray[np.bool_], counts: Array) -> Array:
        """The release's probabilities q with less for the classes that are not known: the rest goes to the known ones,
        as the release divides between them, or evenly where it gives them nothing."""
        others = np.where(known, 0, q * counts)
        mine = np.where(known, q, 0)
        total = mine.sum(axis=-1, keepdims=True)
        parts = np.where(total > LEAST, mine / np.maximum(total, LEAST), known / np.float32(known.sum()))
        found: Array = others + parts * (1 - others.sum(axis=-1, keepdims=True))
        return found

    def _labels(self, own: Array, release: Array) -> Array:
        share = np.float32(self.share) if self.known is None else np.where(self.known, np.float32(self.share), 0)
        p, q = sigmoid(own), sigmoid(release)
        q = q if self.counts is None else q * self.counts
        mixed = q + share * (p - q)
        found: Array = np.log(np.maximum(mixed, LEAST)) - np.log(np.maximum(1 - mixed, LEAST))
        return found


class Blend(NamedTuple):
    """The weights that decide, and how they do so together; without `own` the release alone decides."""

    graph: TrainableGraph
    release: Floats  # (P,), tuned
    own: Floats | None = None  # (P,)
    share: float = 0.0  # how much the own model counts
    known: NDArray[np.bool_] | None = None  # see `Mixing`
    counts: Array | None = None  # see `Mixing`

    @property
    def card(self) -> Card:
        """The card of both."""
        return self.graph.card

    @property
    def input_shape(self) -> tuple[int, ...]:
        """Shape of one input."""
        return self.graph.input_shape

    @property
    def alone(self) -> Floats | None:
        """The weights of the one that decides alone; None where both do."""
        if self.own is None or (not self.share and self.counts is None):
            return self.release
        return self.own if self.share == 1 and (self.known is None or self.known.all()) else None

    @property
    def left_to_release(self) -> dict[str, float]:
        """Labels that the own model says nothing of, and the weight of the release there."""
        if self.known is None or self.own is None or self.alone is self.release:
            return {}
        counts = np.ones(len(self.known)) if self.counts is None else self.counts.round(4)
        found = zip(self.card.labels, self.known.tolist(), counts.tolist(), strict=True)
        return {label: round(count, 4) for label, known, count in found if not known}

    @property
    def identity(self) -> list[NDArray[Any]]:
        """Arrays that no other blend has: the weights of what decides, and how it does so where two do."""
        two = [self.release, self.own, np.float64(self.share), self.known, self.counts]
        parts = two if self.alone is None else [self.alone]
        return [np.asarray(part) for part in parts if part is not None]

    def predict(self, x: Array) -> Array:
        """Return the output of both together for all rows of x (n, *input_shape); logits of classes and labels."""
        if self.alone is not None:
            return outputs(self.graph, self.alone, x)
        assert self.own is not None
        own, release = (outputs(self.graph, w, x) for w in (self.own, self.release))
        return self.mixing()(own, release)

    def mixing(self, probabilities: bool = False) -> Mixing:
        """How the outputs of both become one; probabilities: as in `Mixing`."""
        return Mixing(self.card.task, self.share, self.known, probabilities, self.counts)


def outputs(graph: TrainableGraph, params: Floats, x: Array) -> Array:
    """Return the output of the graph with parameters (P,) for all rows of x; logits of classes and labels."""
    graph.set_params(params)
    return predict(graph, x, logits=True)


def softmax(z: Array) -> Array:
    """Probabilities (..., k) of classes, from logits."""
    e = np.exp(z - z.max(axis=-1, keepdims=True))
    found: Array = e / e.sum(axis=-1, keepdims=True)
    return found


def sigmoid(z: Array) -> Array:
    """Probabilities of labels, from logits."""
    small = np.exp(-np.abs(z))
    found: Array = np.where(z >= 0, 1, small) / (1 + small)
    return found
