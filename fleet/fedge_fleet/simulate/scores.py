# SPDX-License-Identifier: Apache-2.0
"""The scores of a federation's models on the sites' test parts."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
from fedge_agent.learning.mixture import Blend, outputs
from fedge_models.graph.trainable import TrainableGraph
from fedge_models.training.evaluation import average_precision, figures, macro_f1
from fedge_models.training.objective import known

from ..data.problems.problem import Problem
from ..data.site_data import Floats, Labels, Windows

Scores = dict[str, float]
Model = Floats | Blend  # parameters (P,), or what two models decide together


TOGETHER = ("macro_f1", "average_precision")  # scores that the rows of different sites may share


class Evaluator:
    """Scores models on the test parts of one problem."""

    def __init__(self, problem: Problem, graph: TrainableGraph, sites: Mapping[str, Windows]) -> None:
        self._problem, self._graph = problem, graph
        self._tests = {name: found for name, site in sites.items() if len((found := _judged(problem, site))[1])}

    def sites(self, at: Callable[[str], Model]) -> Scores:
        """Score each site's model `at(site)` on its test part, where that part can be scored."""
        found, metric = {}, self._problem.metric
        for name, (x, y) in self._tests.items():
            if not self._problem.error and len(np.unique(y)) < 2:
                continue
            found[name] = figures(self._graph, self._gives(at(name), x), x, y).get(metric, float("nan"))
        return found

    def overall(self, at: Callable[[str], Model]) -> float:
        """Mean over the sites, or the score of all test rows together.

        A classifier whose sites have one class each cannot be scored at any of them: all test rows are then scored
        together. NaN where that is no score either (an anomaly's scale differs from site to site).
        """
        if not self._problem.pooled and (scores := self.sites(at)):
            return float(np.nanmean(list(scores.values())))
        if self._problem.metric not in TOGETHER or self._problem.card.task == "multilabel":
            return float("nan")
        out, y = self._together(at)
        if self._problem.metric == "macro_f1":
            return macro_f1(y, out.argmax(axis=1))
        return average_precision(out[:, 1] - out[:, 0], y == 1)

    def f1(self, at: Callable[[str], Model]) -> float:
        """F1 of class 1 of all test rows together, where the score is average precision."""
        out, y = self._together(at)
        predicted, true = out.argmax(axis=1) == 1, y == 1
        return float(2 * (predicted & true).sum() / max(1, predicted.sum() + true.sum()))

    def accuracy(self, at: Callable[[str], Model]) -> float:
        """Share of all test rows together whose most probable class is right."""
        out, y = self._together(at)
        return float((out.argmax(axis=1) == y).mean())

    def _gives(self, model: Model, x: Floats) -> Floats:
        """What a model gives: logits of classes."""
        return model.predict(x) if isinstance(model, Blend) else outputs(self._graph, model, x)

    def _together(self, at: Callable[[str], Model]) -> tuple[Floats, Labels]:
        gives, labels = [], []
        for name, (x, y) in self._tests.items():
            gives.append(self._gives(at(name), x))
            labels.append(y)
        return np.concatenate(gives), np.concatenate(labels)


def _judged(problem: Problem, site: Windows) -> tuple[Floats, Labels]:
    """Return the test rows that have a label."""
    x, y = site.part(test=True)
    keep = known(problem.card.task, y)
    return (x, y) if problem.card.task == "regress" else (x[keep], y[keep])
