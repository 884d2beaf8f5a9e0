"""What the sites' data allows, worked out by hand with the very code that gateways run: windows, features,
standardisation, training, and the int8 coding in between.

The demo draws its comparison lines from here (each site alone, everything pooled), `benchmarks/accuracy.py` its tables.
Labels: class index, 0/1 for anomaly, -1 where a window has none of its own; targets for regress.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from fedge_agent import standardise
from fedge_agent.config import Training
from fedge_agent.features import Preparation, bridge
from fedge_agent.learning import SPREAD_QUANTILE, round_rate, usable
from fedge_agent.samples import split
from fedge_aggregator.publish import FIRST_SPREAD, difference_steps, next_grid
from fedge_models import drift, personal
from fedge_models.card import Card
from fedge_models.evaluation import evaluate
from fedge_models.graph import TrainableGraph
from fedge_models.quantize import LIMIT, dequantize, expand, quantize, spread
from fedge_models.release import apply_difference
from fedge_models.training import TrainingConfig, fit
from numpy.typing import NDArray

from .recordings import Track

Floats = NDArray[np.float32]
Labels = NDArray[Any]  # int64, or float for regress


@dataclass(frozen=True)
class Windows:
    """Windows of one site: inputs, labels, which belong to the test part, and which a gateway does not train on."""

    x: Floats  # (n, features) or, for raw windows, (n, channels, length)
    y: Labels  # (n,)
    test: NDArray[np.bool_]  # (n,)
    held: NDArray[np.bool_]  # (n,) held back to judge releases by, or straddling what is

    def part(self, test: bool) -> tuple[Floats, Labels]:
        """Inputs and labels of the test part, or of the training part."""
        chosen = self.test == test
        return self.x[chosen], self.y[chosen]


@dataclass(frozen=True)
class Plan:
    """How a federation trains: rounds of local training, as `[model.X] training` says."""

    rounds: int
    training: TrainingConfig
    halving: int = 0  # releases after which the learning rate has halved; 0: it stays
    correction: float = 1.0  # share of its own drift that a site takes back
    max_samples: int = 10_000  # the aggregator's cap of what a site weighs


def windows(track: Track, card: Card, began_ns: int | None = None) -> Windows:
    """All windows of a track that lie within one segment and one part; features before standardisation.

    With the Unix time at which its replay began, those are held back which a gateway holds back by their time.
    """
    blocks = split(track.rate_hz, card.window.length, card.window.hop, Training().holdout)
    length_ns = round(card.window.length / track.rate_hz * 1e9)
    values, labels, tests, held = [], [], [], []
    for k, (start, stop) in enumerate(track.segments):
        for end in range(start + card.window.length, stop + 1, card.window.hop):
            piece = slice(end - card.window.length, end)
            parts, states = np.unique(track.part[piece]), np.unique(track.label[piece])
            if len(parts) > 1:
                continue
            values.append(track.values[:, piece])
            labels.append(states[0] if len(states) == 1 else -1)
            tests.append(parts[0] == 1)
            end_ns = (began_ns or 0) + round(track.seconds_at(end - 1, k) * 1e9)
            held.append(began_ns is not None and blocks.held(end_ns - length_ns, end_ns) is not False)
    x = Preparation(card)(bridge(np.stack(values)))
    return Windows(x, np.array(labels, np.int64), np.array(tests, np.bool_), np.array(held, np.bool_))


def standardised(site: Windows, card: Card) -> Windows:
    """With the statistics of the site's own samples, held back or not (anomaly: the normal ones)."""
    keep = ~site.test & (site.y == 0 if card.task == "anomaly" else True)
    return replace(site, x=standardise.fit(site.x[keep], card)(site.x))


def trainable(site: Windows, card: Card) -> tuple[Floats, Labels]:
    """What a gateway may train on."""
    keep = ~site.test & ~site.held
    data = usable(card.task, site.x[keep], site.y[keep], labelled=True)
    return data.x, data.y


def pooled(sites: Mapping[str, Windows]) -> Windows:
    """All sites as one."""
    return Windows(
        np.concatenate([s.x for s in sites.values()]),
        np.concatenate([s.y for s in sites.values()]),
        np.concatenate([s.test for s in sites.values()]),
        np.concatenate([s.held for s in sites.values()]),
    )


def score(graph: TrainableGraph, params: Floats, site: Windows) -> float:
    """Of the test part: AUROC (anomaly), macro-F1 (classify) or RMSE (regress)."""
    x, y = site.part(test=True)
    if graph.card.task != "regress":
        x, y = x[y >= 0], y[y >= 0]
    graph.set_params(params)
    return evaluate(graph, x, y)[{"anomaly": "auroc", "classify": "macro_f1", "regress": "rmse"}[graph.card.task]]


def alone(graph: TrainableGraph, start: Floats, site: Windows, plan: Plan, seed: int) -> Floats:
    """Parameters after all rounds of a plan on one site, or on the pool; nothing holds it back (no FedProx)."""
    params, rng = start, np.random.default_rng(seed)
    x, y = trainable(site, graph.card)
    for version in range(1, plan.rounds + 1):
        graph.set_params(params)
        _local(graph, x, y, plan, version, rng)
        params = graph.params.copy()
    return params


@dataclass(frozen=True)
class Federation:
    """What rounds have led to: the newest release, and the tensors that each site keeps for itself."""

    params: Floats
    own: dict[str, Floats]
    mask: personal.Mask

    def at(self, site: str) -> Floats:
        """What a site decides with; the release itself where it never trained."""
        return personal.compose(self.params, self.own.get(site), self.mask)


def federated(
    graph: TrainableGraph,
    start: Floats,
    sites: Mapping[str, Windows],
    plan: Plan,
    seed: int,
    look: Callable[[int, Federation], None] | None = None,
) -> Federation:
    """FedAvg over the sites with the real int8 coding of updates and releases, error feedback and grid in the loop.

    `look` is shown each release with its version.
    """
    params, rng, mask = start.copy(), np.random.default_rng(seed), personal.local_mask(graph)
    steps = np.full(len(graph.sizes), FIRST_SPREAD / LIMIT, np.float32)
    members = {name: _Member(*trainable(site, graph.card), np.zeros_like(start)) for name, site in sites.items()}
    before, kept = params, np.zeros_like(start)
    for version in range(1, plan.rounds + 1):
        total, weight, spreads, grid = np.zeros(len(start)), 0, [], expand(steps, graph.sizes)
        for member in members.values():
            sent = _turn(graph, member, before, params, grid, mask, plan, version, rng)
            spreads.append(spread(sent + member.owed, graph.sizes, SPREAD_QUANTILE))
            share = min(len(member.x), plan.max_samples)
            total += share * sent.astype(np.float64)
            weight += share
        wanted = (total / weight).astype(np.float32) + kept
        coarse = difference_steps(wanted, graph.sizes)
        codes = quantize(wanted, expand(coarse, graph.sizes))
        kept = wanted - dequantize(codes, expand(coarse, graph.sizes))
        before, params = params, apply_difference(params, codes, coarse, graph.sizes)
        steps = next_grid(steps, spreads)
        if look is not None:
            look(version, _so_far(params, members, mask))
    return _so_far(params, members, mask)


@dataclass
class _Member:
    """A site in a federation: its data, its error feedback, its own tensors, what its last training did by itself."""

    x: Floats
    y: Labels
    owed: Floats
    own: Floats | None = None
    movement: Floats | None = None


def _turn(
    graph: TrainableGraph,
    member: _Member,
    before: Floats,
    params: Floats,
    grid: Floats,
    mask: personal.Mask,
    plan: Plan,
    version: int,
    rng: np.random.Generator,
) -> Floats:
    """One local training: what arrives at the aggregator of it (P,)."""
    back = None
    if plan.correction and member.movement is not None:
        back = drift.correction(member.movement, before, params, 1, plan.correction, mask)
    start = personal.compose(params, member.own, mask)
    graph.set_params(start)
    _local(graph, member.x, member.y, plan, version, rng, plan.training.proximal_mu, back)
    delta = graph.params - start
    member.own = personal.extract(graph.params, mask)
    member.movement = delta if back is None else delta - back
    wanted = np.where(mask, np.float32(0), delta + member.owed)
    sent = dequantize(quantize(wanted, grid), grid)
    member.owed = wanted - sent
    return sent


def _so_far(params: Floats, members: Mapping[str, _Member], mask: personal.Mask) -> Federation:
    return Federation(params, {n: m.own for n, m in members.items() if m.own is not None}, mask)


def _local(
    graph: TrainableGraph,
    x: Floats,
    y: Labels,
    plan: Plan,
    version: int,
    rng: np.random.Generator,
    mu: float = 0.0,
    back: Floats | None = None,
) -> None:
    """One local training on a release, in place."""
    rate = round_rate(plan.training.learning_rate, plan.halving, version)
    how = replace(plan.training, learning_rate=rate, proximal_mu=mu)
    fit(graph, x, None if graph.card.task == "anomaly" else y, how, rng, drift=back)
