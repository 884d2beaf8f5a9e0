# SPDX-License-Identifier: Apache-2.0
"""The hostile sites of a federation, which work together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from fedge_agent.learning.update import SPREAD_QUANTILE
from fedge_aggregator.rounds.average import Averaging
from fedge_models.graph.trainable import TrainableGraph
from fedge_models.messages.quantize import LIMIT, Codes, expand, quantize, spread
from fedge_models.training import personal
from fedge_models.training.evaluation import row_losses

from ...data.member import Base, Member, Plan, Sent
from ...data.site_data import Floats
from .attack import Attack, Forged, Seen
from .rehearsal import Rehearsal


class Crew:
    """Who they are, what each has trained and remembers; they answer a release together.

    An honest site's codes are read on the grid they were made on. Whatever the attack, they say the end of the grid
    where sites offer their own tensors as a start value. Deterministic: each site draws from its own generator, and
    what they draw in common from one of the seed and the release.
    """

    def __init__(
        self,
        attack: Attack,
        members: Mapping[str, Member],
        graph: TrainableGraph,
        plan: Plan,
        sites: int,
        seed: int,
        how: Averaging,
    ) -> None:
        self.names = frozenset(members)
        self._attack, self._members, self._graph, self._plan = attack, members, graph, plan
        self._mask, self._n, self._seed = personal.local_mask(graph), sites, seed
        self._how = how
        self._together: Any = None  # what they remember together
        self._state: dict[str, Floats | None] = {}
        self._before: Base | None = None
        self._honest: set[str] = set()  # names that were part of a release
        self._moved = np.zeros_like(graph.params)

    def turn(self, nodes: Sequence[str], base: Base, honest: Sequence[tuple[Base, Sent]]) -> dict[str, Sent]:
        """Return what each of these nodes sends in answer to a release."""
        grid = expand(base.steps, self._graph.sizes)
        self._note(base)
        trained = {n: self._train(n, base) for n in nodes}
        own = {n: row for n, (row, _) in trained.items()}
        rows = np.stack([self._averaged(on_grid(b, s.codes, base, self._graph)) for b, s in honest])
        mates, moved = np.stack(list(own.values())), self._moved / grid
        self._honest |= set(base.part) - self.names
        known = [sent.samples for _, sent in honest], {n: n in base.part for n in sorted(self._honest)}
        seen = {n: Seen(rows, own[n], mates, moved, *self._sizes(n), *known, trained[n][1]) for n in nodes}
        if self._attack.colludes:
            seen = self._agree(seen, base)
        return {n: self._send(n, base, seen[n]) for n in nodes}

    def _agree(self, seen: Mapping[str, Seen], base: Base) -> dict[str, Seen]:
        """Let them agree on what each sends."""
        shared, first = np.random.default_rng([self._seed, base.version, 1]), next(iter(seen.values()))
        rehearsal = Rehearsal(self._how, base, self._graph.sizes, self._loss)
        rows, self._together = self._attack.agree(first, rehearsal, self._together, shared)
        return {n: replace(one, agreed=None if rows is None else rows[i]) for i, (n, one) in enumerate(seen.items())}

    def _loss(self, weights: Floats) -> float:
        """The mean loss of a model on the hostile sites' own data."""
        self._graph.set_params(weights)
        unlabelled = self._graph.card.task == "anomaly"
        losses = [row_losses(self._graph, m.x, None if unlabelled else m.y) for m in self._members.values()]
        return float(np.concatenate(losses).mean(dtype=np.float64))

    def _sizes(self, node: str) -> tuple[int, int, int]:
        return len(self._members[node].x), self._n, len(self.names)

    def _note(self, base: Base) -> None:
        if self._before is not None and base.version > self._before.version:
            self._moved = (base.weights - self._before.weights) / np.float32(base.version - self._before.version)
        self._before = base

    def _train(self, node: str, base: Base) -> tuple[Floats, Mapping[str, float]]:
        """Train its own update (P,) in grid units, and what it reports; zero where the attack does not train."""
        if not self._attack.trains:
            return np.zeros_like(base.weights), {}
        sent = self._members[node].turn(self._graph, base, self._mask, self._plan)
        return self._averaged(sent.codes.astype(np.float32)), sent.metrics

    def _averaged(self, row: Floats) -> Floats:
        """A row without the tensors that stay at the sites: rules and trust do not see them."""
        return np.where(self._mask, np.float32(0), row)

    def _send(self, node: str, base: Base, seen: Seen) -> Sent:
        shared = np.random.default_rng([self._seed, base.version])
        forged = self._attack.forge(seen, self._state.get(node), shared, self._members[node].rng)
        self._state[node] = forged.state
        return self._coded(forged, base, seen)

    def _coded(self, forged: Forged, base: Base, seen: Seen) -> Sent:
        row = self._averaged(forged.row)
        if self._graph.card.local_start == "shared":
            row[self._mask] = LIMIT
        codes = quantize(row, np.ones_like(row))
        sizes = self._graph.sizes
        spreads = spread(row * expand(base.steps, sizes), sizes, SPREAD_QUANTILE)
        if forged.spread is not None:
            spreads = np.full_like(spreads, forged.spread)
        samples = seen.samples if forged.samples is None else forged.samples
        return Sent(codes, spreads, samples, dict(seen.metrics if forged.metrics is None else forged.metrics))


def on_grid(made: Base, codes: Codes, base: Base, graph: TrainableGraph) -> Floats:
    """Convert codes (P,) made against the release `made` into steps of the grid of `base`."""
    ratio = made.steps / base.steps
    row: Floats = codes * expand(ratio.astype(np.float32), graph.sizes)
    return row
