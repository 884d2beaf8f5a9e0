# SPDX-License-Identifier: Apache-2.0
"""Decide with an ONNX Runtime session whose weights never change after it was made.

A new release makes a new `Serving` while the old one serves; the swap is one assignment. The weights are written into
the file that the new session is made of. `SessionOptions.add_initializer` would spare that, but ONNX Runtime optimises
the graph before it takes them: what it packs, fuses or folds then (convolutions, transposed weights) would stay as it
was in the file.
"""

from __future__ import annotations

import math
import os
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, NamedTuple

import numpy as np
from fedge_models.errors import ModelError
from fedge_models.graph.card import NONE, SEPARATOR, Card, Target
from fedge_models.graph.channels import channel_labels
from fedge_models.graph.intake import with_weights
from fedge_models.graph.served_errors import explained
from fedge_models.training import objective
from fedge_models.training.calibration import Calibration, LabelCalibration
from fedge_models.training.standardise import Scale

from ..types import Array
from .intervals import Intervals
from .limits import UNKNOWN, ChannelErrors, Limit
from .mixture import Mixing

NO_INTERVALS = Intervals()
LEAST_PROBABILITY = 1e-30  # of which a logarithm is taken
LEAST_LOG = math.log(LEAST_PROBABILITY)


class Scored(NamedTuple):
    """A model's score, label and estimates for one window.

    score: anomaly: mean squared reconstruction error; classify: 1 - P(normal label); multilabel: the largest ratio of a
    label's probability to its limit; regress: 1 at the nearest alarm
    level of a target, plus the distance beyond it (negative: before it) in units of the target's scale, and 0 where no
    target has an alarm level.
    """

    score: float
    label: str
    channel: str = ""
    values: dict[str, float] = {}  # noqa: RUF012  # never changed
    bounds: dict[str, tuple[float, float]] = {}  # noqa: RUF012


class Serving:
    """Everything that decides: session, standardisation, limits. Immutable; safe to read from any thread.

    probabilities: a classifier's output is the result of a Softmax; limit: of an asset that is not among `limits`;
    intervals: how far estimates may be off; `past`: by asset, this model's estimates at earlier times (ns), from the
    oldest; calibration: of the probabilities of classes or labels.
    """

    def __init__(
        self,
        session: Session | MixedSession,
        card: Card,
        release: int,
        scale: Scale,
        limit: Limit = UNKNOWN,
        probabilities: bool = False,
        limits: Mapping[str, Limit] = MappingProxyType({}),
        intervals: Intervals = NO_INTERVALS,
        calibration: Calibration | LabelCalibration | None = None,
    ) -> None:
        self.session, self.card, self.release, self.scale = session, card, release, scale
        self.limits, self._default = limits, limit
        self.scale_of_scores = ""  # names what decides and its standardisation: others give scores of another scale
        self.below: Mapping[str, float] = {}  # by asset: scores of confirmed faults, which no move lifts a limit above
        self.past: Mapping[str, Sequence[tuple[int, Mapping[str, float]]]] = {}
        self._margins, self.bounds_hold_for = intervals.margins, intervals.hold_for
        self.calibration = calibration
        self._calibrated = (
            (calibration.slope, calibration.biases.tolist()) if isinstance(calibration, Calibration) else None
        )
        self._channels = channel_labels(card.channels, card.derive)
        self._errors = ChannelErrors(card, session.input.shape)
        self._normal, self._probabilities = card.normal_index, probabilities
        self._decide = {
            "anomaly": self._anomaly,
            "classify": self._class,
            "multilabel": self._labels,
            "regress": self._estimate,
        }[card.task]
        self._label_limits = self._limits_of_labels() if card.task == "multilabel" else ()

    def _limits_of_labels(self) -> tuple[tuple[str, float, float, float], ...]:
        """Name and limit of each label, and slope and bias of its logit."""
        slopes, biases = (1.0,) * len(self.card.labels), (0.0,) * len(self.card.labels)
        if isinstance(self.calibration, LabelCalibration):
            slopes, biases = (tuple(part.tolist()) for part in self.calibration)
        return tuple(zip(self.card.labels, self.card.limits, slopes, biases, strict=True))

    @property
    def threshold(self) -> float:
        """The limit of an asset that has none of its own."""
        return self._default.score

    @threshold.setter
    def threshold(self, score: float) -> None:
        self._default = self._default._replace(score=score)

    def limit(self, asset: str) -> Limit:
        """What scores of the asset are compared with."""
        return self.limits.get(asset, self._default)

    def decide(self, features: Array, limit: Limit | None = None) -> Scored:
        """Score one feature vector or raw window, not standardised. Main thread only: buffers are reused.

        limit: what the score is compared with; default: that of an asset that has none of its own.
        """
        x = self.scale(features.reshape(self.session.input.shape), self.session.input)
        return self._decide(x, self.session.run(), self._default if limit is None else limit)

    def _anomaly(self, x: Array, y: Array, limit: Limit) -> Scored:
        difference = (y - x).ravel()
        score = float(np.dot(difference, difference)) / difference.size
        if score > limit.score:
            return Scored(score, "anomaly", self._cause(difference, limit.usual))
        return Scored(score, "normal" if limit.score < math.inf else "unknown")

    def _cause(self, difference: Array, usual: Array | None) -> str:
        """Return the channel whose error is the largest multiple of its usual error."""
        if usual is None:
            return ""
        errors = self._errors(difference.reshape(1, *self.session.input.shape))[0] / usual
        return self._channels[int(errors.argmax())]

    def _class(self, _: Array, y: Array, __: Limit) -> Scored:
        logits, is_certain = y.tolist(), self._probabilities
        if self._calibrated is not None:
            slope, biases = self._calibrated
            if is_certain:
                logits = [LEAST_LOG if v <= LEAST_PROBABILITY else math.log(v) for v in logits]  # a NaN stays one
            logits, is_certain = [slope * v + b for v, b in zip(logits, biases, strict=True)], False
        highest = max(logits)
        label = self.card.labels[logits.index(highest)]
        if is_certain:
            return Scored(1.0 - logits[self._normal], label)
        p = [math.exp(v - highest) for v in logits]
        return Scored(1.0 - p[self._normal] / sum(p), label)

    def _labels(self, _: Array, y: Array, limit: Limit) -> Scored:
        """Name every label whose probability is above its limit, in the card's order."""
        values, holds, worst = {}, [], 0.0
        for (name, least, slope, bias), z in zip(self._label_limits, y.tolist(), strict=True):
            p = values[name] = _probability(slope * z + bias)
            ratio = p / least
            if ratio > limit.score:
                holds.append(name)
            worst = ratio if ratio > worst or math.isnan(ratio) else worst  # a NaN stays: such a score alarms nobody
        return Scored(worst, SEPARATOR.join(holds) or NONE, values=values)

    def _estimate(self, _: Array, y: Array, __: Limit) -> Scored:
        estimates = objective.unscaled(self.card, y[None]).ravel().tolist()
        values, worst, label = {}, 0.0, "normal"
        for target, value in zip(self.card.targets or _unnamed(len(estimates)), estimates, strict=True):
            values[target.name] = value
            beyond = target.beyond(value)
            if beyond is not None and 1 + beyond > worst:
                worst, label = 1 + beyond, target.name if beyond > 0 else label
        bounds = {name: (values[name] + low, values[name] + high) for name, (low, high) in self._margins.items()}
        return Scored(worst, label, values=values, bounds=bounds)


def _probability(z: float) -> float:
    """The sigmoid of a logit."""
    if z >= 0:
        return 1.0 / (1.0 + math.exp(-z))
    small = math.exp(z)
    return small / (1.0 + small)


def _unnamed(count: int) -> tuple[Target, ...]:
    return tuple(Target(f"y{i}") for i in range(count))


class Session:
    """An ONNX Runtime session of the model file with given weights, for one window at a time.

    The window is written to `input`. On the CPU that array is bound to the session once, which saves a third of a run.
    """

    by_one = 0  # see `MixedSession`

    def __init__(self, model: bytes, weights: dict[str, Array]) -> None:
        os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")  # on by default from 1.29
        import onnxruntime as ort

        options = ort.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1  # faster up to about a million parameters
        options.log_severity_level = 4  # what fails is raised
        wanted = [p for p in ("CUDAExecutionProvider",) if p in ort.get_available_providers()]
        try:
            file = with_weights(model, weights)
            self._session = ort.InferenceSession(file, options, providers=[*wanted, "CPUExecutionProvider"])
        except Exception as e:  # onnxruntime's own exceptions have no common base
            raise ModelError(f"the model cannot be served: {e if isinstance(e, ModelError) else explained(e)}") from e
        name, shape = (i := self._session.get_inputs()[0]).name, i.shape[1:]
        self.provider: str = self._session.get_providers()[0]  # the one in use
        self.input: Array = np.zeros(shape, np.float32)
        self._feed = {name: self.input[None]}
        self._output: Array = self._session.run(None, self._feed)[0]  # warms up, and shows the shape
        self._bound: Any = self._bind(name) if self.provider == "CPUExecutionProvider" else None

    def run(self) -> Array:
        """Return the output for `input`, which the next run overwrites."""
        if self._bound is None:
            result: Array = self._session.run(None, self._feed)[0][0]
            return result
        self._session.run_with_iobinding(self._bound)
        return self._output[0]

    def _bind(self, name: str) -> Any:
        """Bind input and output: on the CPU an OrtValue shares the memory of its array."""
        import onnxruntime as ort

        bound = self._session.io_binding()
        ends = [ort.OrtValue.ortvalue_from_numpy(a) for a in (self._feed[name], self._output)]
        bound.bind_ortvalue_input(name, ends[0])
        bound.bind_ortvalue_output(self._session.get_outputs()[0].name, ends[1])
        self._ends = ends
        return bound


class MixedSession:
    """Two sessions of one model file, with this site's own weights and with a release's, that decide together."""

    def __init__(self, own: Session, release: Session, mixing: Mixing) -> None:
        self._own, self._release, self._mixing = own, release, mixing
        self.provider, self.input = release.provider, release.input
        self.by_one = 0  # windows on which one decided alone, as the other gave no number

    def run(self) -> Array:
        """Return the mixed output for `input`."""
        self._own.input[...] = self.input
        mixed, of_both = self._mixing.mix(self._own.run(), self._release.run())
        self.by_one += not of_both
        return mixed
