"""What the sites' data allows, worked out by hand with the very code that gateways run: windows, features,
standardisation, training, and the int8 coding in between.

The demo draws its comparison lines from here (each site alone, everything pooled), `benchmarks/accuracy.py` its tables.
Labels: class index, or 0/1 for anomaly; -1 where a window has none of its own.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
from fedge_agent import standardise
from fedge_agent.config import Training
from fedge_agent.features import bridge, extract
from fedge_agent.samples import split
from fedge_models.card import Card
from fedge_models.graph import TrainableGraph
from fedge_models.quantize import dequantize, expand, quantize, spread
from fedge_models.training import TrainingConfig, evaluate, fit
from numpy.typing import NDArray

from .recordings import Track

Floats = NDArray[np.float32]
Ints = NDArray[np.int64]
FIRST_SPREAD = 0.1


@dataclass(frozen=True)
class Windows:
    """Windows of one site: inputs, labels, which belong to the test part, and which a gateway does not train on."""

    x: Floats  # (n, features) or, for raw windows, (n, channels, length)
    y: Ints  # (n,)
    test: NDArray[np.bool_]  # (n,)
    held: NDArray[np.bool_]  # (n,) held back to judge releases by, or straddling what is

    def part(self, test: bool) -> tuple[Floats, Ints]:
        """Inputs and labels of the test part, or of the training part."""
        chosen = self.test == test
        return self.x[chosen], self.y[chosen]


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
    x = extract(bridge(np.stack(values)), card.features)
    return Windows(x, np.array(labels, np.int64), np.array(tests, np.bool_), np.array(held, np.bool_))


def standardised(site: Windows, card: Card) -> Windows:
    """With the statistics of the site's own samples, held back or not (anomaly: the normal ones)."""
    x, _ = trainable(replace(site, held=np.zeros_like(site.held)), card)
    return replace(site, x=standardise.fit(x)(site.x))


def trainable(site: Windows, card: Card) -> tuple[Floats, Ints]:
    """What a gateway may train on."""
    known = site.y == 0 if card.task == "anomaly" else site.y >= 0
    keep = known & ~site.test & ~site.held
    return site.x[keep], site.y[keep]


def pooled(sites: Mapping[str, Windows]) -> Windows:
    """All sites as one."""
    return Windows(
        np.concatenate([s.x for s in sites.values()]),
        np.concatenate([s.y for s in sites.values()]),
        np.concatenate([s.test for s in sites.values()]),
        np.concatenate([s.held for s in sites.values()]),
    )


def score(graph: TrainableGraph, params: Floats, site: Windows) -> float:
    """Of the test part: AUROC (anomaly) or macro-F1 (classify)."""
    x, y = site.part(test=True)
    x, y = x[y >= 0], y[y >= 0]
    graph.set_params(params)
    figures = evaluate(graph, x, y)
    return figures["auroc"] if graph.card.task == "anomaly" else figures["macro_f1"]


def alone(
    graph: TrainableGraph, start: Floats, site: Windows, config: TrainingConfig, rounds: int, seed: int
) -> Floats:
    """Parameters after training on one site (or on the pool) as often as a federation would."""
    params, rng = start, np.random.default_rng(seed)
    x, y = trainable(site, graph.card)
    for _ in range(rounds):
        graph.set_params(params)
        fit(graph, x, None if graph.card.task == "anomaly" else y, config, rng)
        params = graph.params.copy()
    return params


def federated(
    graph: TrainableGraph, start: Floats, sites: Mapping[str, Windows], config: TrainingConfig, rounds: int, seed: int
) -> Floats:
    """FedAvg over the sites with the real int8 coding, error feedback and common grid in the loop."""
    params, rng = start.copy(), np.random.default_rng(seed)
    steps = np.full(len(graph.sizes), FIRST_SPREAD / 127, np.float32)
    owed = {name: np.zeros_like(start) for name in sites}
    for _ in range(rounds):
        total, weight, spreads, grid = np.zeros(len(start)), 0, [], expand(steps, graph.sizes)
        for name, site in sites.items():
            x, y = trainable(site, graph.card)
            graph.set_params(params)
            fit(graph, x, None if graph.card.task == "anomaly" else y, config, rng)
            wanted = graph.params - params + owed[name]
            sent = dequantize(quantize(wanted, grid), grid)
            owed[name] = wanted - sent
            spreads.append(spread(wanted, graph.sizes, 0.999))
            total += len(x) * sent.astype(np.float64)
            weight += len(x)
        params = (params + total / weight).astype(np.float32)
        steps = np.maximum(np.clip(np.median(spreads, axis=0) / 127, steps / 4, steps * 4), 1e-8).astype(np.float32)
    return params
