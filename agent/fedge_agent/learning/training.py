# SPDX-License-Identifier: Apache-2.0
"""One local training on a release, from standardised samples to the difference that may leave the site.

No threads, no network; the random generator is passed in.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import msgspec
import numpy as np
from fedge_models.graph.trainable import TrainableGraph
from fedge_models.messages.quantize import Floats
from fedge_models.messages.release import DRIFT_SHARE, Release
from fedge_models.training import objective, outliers, personal
from fedge_models.training.evaluation import evaluate
from fedge_models.training.loop import FitReport, fit
from numpy.typing import NDArray

from ..config.schema import Training
from ..types import Array
from .carry_over import CarryOver, empty
from .schedule import round_rate

# An update carries each figure twice, of before and after, and 32 in all; of more than 28 the aggregator reports the
# first by name, and `loss` must be among them.
MAX_FIGURES = 10
OF_ALL_LABELS = ("loss", "accuracy", "macro_f1", "average_precision", "auroc")
MIN_HELD = 10  # held-back samples for a threshold or a figure
NOBODY: NDArray[np.str_] = np.array([], np.str_)
NO_UNITS: NDArray[np.int64] = np.array([], np.int64)
NO_SHARES: NDArray[np.float64] = np.array([], np.float64)
NO_TIMES: NDArray[np.int64] = np.array([], np.int64)


class Data(NamedTuple):
    """Standardised local samples and their labels.

    y: class index (n,), for anomaly 0 or 1, -1 where unknown; for multilabel 0 and 1 (n, labels), for regress (n,) or
    (n, targets) in the targets' units, NaN where unknown.
    """

    x: Array  # (n, *input_shape)
    y: NDArray[Any]
    assets: NDArray[np.str_] = NOBODY  # (n,) whose they are; empty where nobody asks
    units: NDArray[np.int64] = NO_UNITS  # (n,) number of the unit of each (`samples.units`); empty where nobody asks

    shares: NDArray[np.float64] = NO_SHARES  # (n,) what no earlier window covers of each; empty: they do not overlap
    times: NDArray[np.int64] = NO_TIMES  # (n,) end of each (ns); empty where nobody asks

    def part(self, keep: NDArray[np.bool_]) -> Data:
        """Some of them."""
        assets = self.assets[keep] if len(self.assets) else self.assets
        units = self.units[keep] if len(self.units) else self.units
        shares = self.shares[keep] if len(self.shares) else self.shares
        times = self.times[keep] if len(self.times) else self.times
        return Data(self.x[keep], self.y[keep], assets, units, shares, times)

    def independent(self, keep: NDArray[np.bool_] | slice = slice(None)) -> float:
        """How many windows that do not overlap some of them (default: all) are worth."""
        return float(self.shares[keep].sum()) if len(self.shares) else float(len(self.x[keep]))


def usable(task: str, data: Data, labelled: bool | NDArray[np.bool_]) -> Data:
    """Return what may be trained on: anomaly takes what counts as normal, the other tasks need a label.

    labelled: whether samples without a label do not count as normal, of all or of each (n,). A measured target that is
    wild (`outliers`) is no target.
    """
    y = data.y
    if task == "anomaly":
        keep = (y == 0) | ((y < 0) & np.logical_not(labelled))
    elif task == "regress":
        keep = objective.known(task, y)
        if keep.any():
            measured = y.reshape(len(y), -1)
            keep &= outliers.bounds(measured[keep]).plausible(measured)
    else:
        keep = objective.known(task, y)
    return data.part(keep)


def with_label(task: str, data: Data) -> Data:
    """Return the samples whose label is known."""
    return data.part(objective.known(task, data.y))


def figures(graph: TrainableGraph, held: Data, known: Data) -> dict[str, float]:
    """Return loss and the task's figures on held-back data; `known` are all held-back samples with a label.

    Of labels that may hold together those of the whole model, as many as an update has room for.
    """
    if len(held.x) < MIN_HELD:
        return {}
    if graph.card.task == "anomaly":
        found = evaluate(graph, held.x, None)
        if len(known.x) and 0 < known.y.sum() < len(known.y):
            found["auroc"] = evaluate(graph, known.x, known.y)["auroc"]
        return found
    found = evaluate(graph, held.x, held.y)
    if graph.card.task == "multilabel":
        found = {name: found[name] for name in OF_ALL_LABELS if name in found}
    return dict(list(found.items())[:MAX_FIGURES])


@dataclass(frozen=True)
class Trained:
    """The result of one local training."""

    report: FitReport
    delta: Floats | None  # (P,) what may leave the site; None when the training diverged
    before: dict[str, float]  # held-back figures of the base release
    after: dict[str, float]
    own: Floats | None = None  # the tensors that stay here
    movement: Floats | None = None  # (P,) what training did by itself, without the correction of drift
    complete: bool = False  # whether the data held every class


def train(
    graph: TrainableGraph,
    base: Release,
    data: Data,
    held: Data,
    known: Data,
    config: Training,
    rng: np.random.Generator,
    pause: Callable[[], None],
    carried: CarryOver | None = None,
) -> Trained:
    """Train from the release's weights and the site's own tensors, and evaluate before and after.

    data: what is trained on; held: held-back samples; known: held-back samples with a label; pause: called before each
    batch; carried: what the last training left.
    """
    mask, carried = personal.local_mask(graph), carried or empty(graph)
    start = personal.compose(base.weights, carried.own, mask)
    graph.set_params(start)
    before = figures(graph, held, known)
    rate = round_rate(config.learning_rate, config.learning_rate_halving, base.header.version)
    how = msgspec.structs.replace(config, learning_rate=rate)
    allowed = base.header.figures.get(DRIFT_SHARE, 1.0)  # by the rule that averages
    correction = carried.correction(base, min(config.drift_correction, allowed), mask)
    report = fit(graph, data.x, data.y if graph.card.task != "anomaly" else None, how, rng, pause, correction)
    if report.diverged or not report.rows:
        return Trained(report, None, before, before)
    delta, own = graph.params - start, personal.extract(graph.params, mask)
    movement = delta if correction is None else delta - correction
    after = figures(graph, held, known)
    return Trained(report, np.where(mask, np.float32(0), delta), before, after, own, movement)
