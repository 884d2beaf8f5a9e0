# SPDX-License-Identifier: Apache-2.0
"""What the demo observes while it runs, and the baselines: each site alone, and all data in one place."""

from __future__ import annotations

import os
import threading
import time
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from fedge_agent.durable.releases import ChainStore
from fedge_models.graph.trainable import TrainableGraph
from numpy.typing import NDArray

from ..data import member, site_data
from ..machines.local import get
from ..simulate import baselines
from .scenario import CONFIG, Scenario
from .stage import FEDERATION, Stage

ROUNDS_FOR_OWN = 30  # a site alone trains about as often as the federation does


@dataclass
class Watch:
    """What was observed while the demo ran."""

    began: float = field(default_factory=time.time)
    statuses: dict[str, dict[str, Any]] = field(default_factory=dict)
    decisions: dict[str, dict[int, dict[str, Any]]] = field(default_factory=dict)
    orders: int = 0
    releases: dict[int, tuple[float, NDArray[np.float32]]] = field(default_factory=dict)  # version -> (s, weights)

    def look(self, stage: Stage) -> None:
        """Ask every agent for its status."""
        for site, address in stage.agents.items():
            self.statuses[site] = get(address, "/status")
            known = self.decisions.setdefault(site, {})
            for decision in get(address, "/decisions")["machine"]:
                known[decision["time_ns"]] = decision
        self.orders = len(stage.orders())
        head = _head(stage)
        if head is not None and head[0] not in self.releases:
            self.releases[head[0]] = (time.time() - self.began, head[1])

    def line(self, compared: Comparison) -> str:
        """One line for people."""
        statuses = list(self.statuses.values())
        version, score = max(self.releases, default=0), "-"
        if version and compared.done:
            scores = compared.scored(self.releases[version][1])
            score = f"{np.mean(list(scores.values())):.3f} (own {np.mean(list(compared.own.values())):.3f})"
        return (
            f"{time.time() - self.began:5.0f} s  sites {len(statuses)}  release {version:2d}  score {score}  "
            f"decisions {sum(s['latency']['decisions'] for s in statuses):5d}  "
            f"p50 {np.median([s['latency']['p50_ms'] for s in statuses]):.2f} ms  "
            f"p99 {max(s['latency']['p99_ms'] for s in statuses):.2f} ms  "
            f"up {sum(s['bytes_up'] for s in statuses) / 1024:.0f} KiB  "
            f"down {sum(s['bytes_down'] for s in statuses) / 1024:.0f} KiB  work orders {self.orders}"
        )


class Comparison:
    """Scores, on each site's test part, of models trained without the federation on the same windows."""

    def __init__(self, scenario: Scenario, began: float) -> None:
        self.scenario, self._began_ns = scenario, round(began * 1e9)
        self.graph = TrainableGraph.load(scenario.model)
        self.sites: dict[str, site_data.Windows] = {}
        self.own: dict[str, float] = {}
        self.own_everywhere: dict[str, float] = {}
        self.central: dict[str, float] = {}
        self.done = False
        self.stop = threading.Event()  # what is worked out is not wanted any more

    def work_out(self) -> None:
        """Train each site alone and all sites together, in this thread at the lowest priority."""
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), 19)
        scenario, graph = self.scenario, TrainableGraph.load(self.scenario.model)
        start = graph.params.copy()
        for site, track in scenario.tracks.items():
            windows = site_data.windows(track, scenario.card, self._began_ns)
            self.sites[site] = site_data.standardised(windows, scenario.card)
        pool, plan = site_data.pooled(self.sites), member.Plan(ROUNDS_FOR_OWN, CONFIG)
        for site, windows in self.sites.items():
            own = baselines.alone(graph, start, windows, plan, 0, self.stop)
            self.own[site] = baselines.score(graph, own, windows)
            self.own_everywhere[site] = float(np.mean([baselines.score(graph, own, w) for w in self.sites.values()]))
        central = baselines.alone(graph, start, pool, plan, 0, self.stop)
        self.central = {s: baselines.score(graph, central, w) for s, w in self.sites.items()}
        self.done = not self.stop.is_set()

    def scored(self, weights: NDArray[np.float32]) -> dict[str, float]:
        """Score given weights on each site's test part."""
        return {site: baselines.score(self.graph, weights, w) for site, w in self.sites.items()}


def _head(stage: Stage) -> tuple[int, NDArray[np.float32]] | None:
    """Return the newest release that the first agent has verified."""
    site = next(iter(stage.agents))
    stored = ChainStore(stage.folder / site / "models" / FEDERATION).load("head", stage.graph)
    return (stored.header.version, stored.weights) if stored else None
