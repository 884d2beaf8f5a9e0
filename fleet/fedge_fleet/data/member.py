# SPDX-License-Identifier: Apache-2.0
"""One site as a member of a federation: it trains on a release and codes what it sends."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import msgspec
import numpy as np
from fedge_agent.learning.schedule import round_rate
from fedge_agent.learning.training import Data, figures
from fedge_agent.learning.tuning import complete
from fedge_agent.learning.update import code
from fedge_aggregator.rounds.average import LOSS
from fedge_aggregator.rounds.server_optimizers import SGD, ServerOptimizer
from fedge_models.graph.trainable import TrainableGraph
from fedge_models.messages.quantize import Codes, dequantize, expand
from fedge_models.training import drift, personal, start_value
from fedge_models.training.config import TrainingConfig
from fedge_models.training.loop import fit

from .site_data import Floats, Labels


@dataclass(frozen=True)
class Plan:
    """How a federation trains: rounds of local training, as `[model.X] training` says."""

    rounds: int
    training: TrainingConfig
    halving: int = 0  # releases after which the learning rate has halved; 0: it stays
    correction: float = 1.0  # share of its own drift that a site takes back
    max_samples: int = 10_000  # the aggregator's cap of what a site weighs
    fine_tune: int = 2  # gentle epochs on a release before it serves at a site
    server: ServerOptimizer = field(default_factory=SGD)  # what the aggregator does with the mean


@dataclass(frozen=True)
class Base:
    """The release that a site trains on."""

    version: int
    weights: Floats  # (P,)
    steps: Floats  # (T,) the grid for updates against it
    drift_share: float = 1.0  # the most of its own drift that a site may take back
    part: tuple[str, ...] = ()  # the sites whose updates are in it; gateways do not hear that, attackers may


@dataclass(frozen=True)
class Sent:
    """The update that a site sends after one local training."""

    codes: Codes  # (P,) on the grid of its base
    spread: Floats  # (T,)
    samples: int
    metrics: dict[str, float] = field(default_factory=dict)  # what it reports of its base


@dataclass
class Member:
    """A site's data, error feedback and local tensors; the movement and the base of its last training."""

    x: Floats
    y: Labels
    error_feedback: Floats
    rng: np.random.Generator
    own: Floats | None = None
    movement: Floats | None = None
    base: Base | None = None
    held: Data | None = None  # held-back samples; with enough of them it reports the loss of each release there

    def turn(self, graph: TrainableGraph, base: Base, mask: personal.Mask, plan: Plan) -> Sent:
        """Train once on a release and return the coded update."""
        back, releases = None, base.version - self.base.version if self.base else 0
        if plan.correction and releases > 0 and self.movement is not None and self.base is not None:
            share = min(plan.correction, base.drift_share)
            back = drift.correction(self.movement, self.base.weights, base.weights, releases, share, mask)
        start = personal.compose(base.weights, self.own, mask)
        graph.set_params(start)
        found = figures(graph, self.held, self.held) if self.held is not None else {}
        train(graph, self.x, self.y, plan, base.version, self.rng, plan.training.proximal_mu, back)
        delta = graph.params - start
        self.own, self.base = personal.extract(graph.params, mask), base
        self.movement = delta if back is None else delta - back
        sent = self.coded(np.where(mask, np.float32(0), delta + self.error_feedback), base, graph)
        if graph.card.local_start == "shared" and complete(graph, self.y):
            made = start_value.offered(sent.codes, sent.spread, self.own, base.weights, base.steps, graph.sizes, mask)
            sent = replace(sent, codes=made[0], spread=made[1])
        return replace(sent, metrics={LOSS: found["loss"]}) if "loss" in found else sent

    def coded(self, wanted: Floats, base: Base, graph: TrainableGraph) -> Sent:
        """Code an update (P,) on the release's grid; what the grid cannot hold is added to the next update."""
        codes, wish = code(wanted, base.steps, graph.sizes)
        self.error_feedback = wanted - dequantize(codes, expand(base.steps, graph.sizes))
        return Sent(codes, wish, len(self.x))


def train(
    graph: TrainableGraph,
    x: Floats,
    y: Labels,
    plan: Plan,
    version: int,
    rng: np.random.Generator,
    mu: float = 0.0,
    back: Floats | None = None,
) -> None:
    """Train once on a release, in place."""
    rate = round_rate(plan.training.learning_rate, plan.halving, version)
    how = msgspec.structs.replace(plan.training, learning_rate=rate, proximal_mu=mu)
    fit(graph, x, None if graph.card.task == "anomaly" else y, how, rng, drift=back)
