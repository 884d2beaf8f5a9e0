# SPDX-License-Identifier: Apache-2.0
"""The sites of a comparison for each seed: one's own data, or a recorded set, with whole units held back.

The seed chooses which units are held back, so that the error of a figure says what other data would have given.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Protocol

import msgspec
import numpy as np
from fedge_agent.learning.champion import planted
from fedge_models.graph.card import Card
from fedge_models.graph.trainable import TrainableGraph
from fedge_models.training.outliers import finite_rows

from ..data import units
from ..data.held_back import holding_back
from ..data.member import Plan
from ..data.problems.problem import Problem
from ..data.problems.registry import load
from ..data.site_data import Windows
from ..data.site_rows import SiteRows
from . import production
from .config import Config
from .run import Fleet

METRICS = {"anomaly": "auroc", "classify": "macro_f1", "multilabel": "macro_f1", "regress": "rmse"}


class Source(Protocol):
    """Where the sites come from."""

    def fleet(self, seed: int) -> Fleet:
        """The sites with the parts that this seed holds back."""


@dataclass(frozen=True)
class OwnData:
    """Rows of one's own, by site."""

    sites: Mapping[str, SiteRows]
    body: bytes  # the ONNX file
    plan: Plan
    config: Config
    where: str

    def fleet(self, seed: int) -> Fleet:
        """Every site with whole units held back."""
        graph = TrainableGraph.load(self.body)
        windows = {n: _parted(s, graph.card, seed, k) for k, (n, s) in enumerate(self.sites.items())}
        plan, metric = self.plan, METRICS[graph.card.task]
        problem = Problem(self.where, windows, graph.card, lambda _: self.body, metric, plan, plan, plan)
        config = msgspec.structs.replace(self.config, sites=len(windows), skew={"name": "own"}, seed=seed)
        fleet = Fleet(config, self.where, problem)
        if self.plants:
            fleet.sites = {n: _with_faults(w, seed) for n, w in fleet.sites.items()}
        return fleet

    @property
    def plants(self) -> bool:
        """Whether the data know no anomaly, so that models are judged by faults that are planted."""
        return TrainableGraph.load(self.body).card.task == "anomaly" and not any(
            (site.y == 1).any() for site in self.sites.values()
        )

    @property
    def marked(self) -> bool:
        """Whether the data say what is for the test, the same for every seed."""
        return all(site.marked is not None for site in self.sites.values())


@dataclass(frozen=True)
class RecordedSet:
    """One of the sets that `--set` names, dealt as the settings say."""

    config: Config
    where: str

    def fleet(self, seed: int) -> Fleet:
        """The set, dealt by this seed."""
        config = msgspec.structs.replace(self.config, seed=seed)
        problem = holding_back(load(config.set, config.folder(self.where), self.where))
        plan = production.plan(config, self.where, problem.plan)
        return Fleet(config, self.where, replace(problem, plan=plan))

    marked = True
    plants = False


def _parted(site: SiteRows, card: Card, seed: int, index: int) -> Windows:
    """A site's samples that are finite and lie within one part."""
    parts = units.choose(site.units, site.classes(card), site.marked, seed * 1000 + index)
    keep = finite_rows(site.x) & parts.used
    y = site.y.astype(np.float32) if card.task in ("multilabel", "regress") else site.y
    if card.task == "anomaly":
        y = np.maximum(y, 0)  # without a label it counts as normal, as on a gateway
    return Windows(site.x[keep], y[keep], parts.test[keep], parts.held[keep])


def _with_faults(site: Windows, seed: int) -> Windows:
    """The same standardised site, whose test part has copies of its samples with planted faults, as anomalies."""
    if not site.test.any():
        return site
    faults = planted(site.x[site.test], np.random.default_rng([seed, 5])).astype(site.x.dtype)
    number = len(faults)
    return Windows(
        np.concatenate([site.x, faults]),
        np.concatenate([site.y, np.ones(number, site.y.dtype)]),
        np.concatenate([site.test, np.ones(number, np.bool_)]),
        np.concatenate([site.held, np.zeros(number, np.bool_)]),
    )
