# SPDX-License-Identifier: Apache-2.0
"""What hostile sites can try out before they send: the aggregator's own round, on updates that they know or guess.

The rule, its mixing, trust and the server optimiser are the aggregator's code. It is open source, and what a federation
uses stands in its releases. So an attacker can run it. What he cannot know is the secret that random choices are drawn
from: he draws his own.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
from fedge_aggregator.config.schema import FederationConfig
from fedge_aggregator.rounds.average import Averaging, DueRound, RoundState, average
from fedge_aggregator.rounds.contribution import Contribution
from fedge_aggregator.rounds.engine.update_rows import MemoryRows
from fedge_models.messages.quantize import LIMIT, expand, quantize
from numpy.typing import NDArray

from ...data.member import Base
from ...data.site_data import Floats

SATURATED = FederationConfig().max_saturated  # share of codes at the ends of the grid, above which one is refused


@dataclass(frozen=True)
class Tried:
    """What would become of a round."""

    step: Floats  # (P,) what the release would change, in grid steps
    stopped: bool  # a hostile update is refused, its site quarantined, or the updates of all of them are left out
    state: RoundState  # what the aggregator would remember


@dataclass(frozen=True)
class Rehearsal:
    """The open round, as hostile sites can run it."""

    how: Averaging
    base: Base
    sizes: NDArray[np.int64]
    loss: Callable[[Floats], float]  # of weights (P,), on the hostile sites' own data
    state: RoundState = field(default_factory=RoundState)  # what they think the aggregator remembers

    def run(self, honest: Floats, hostile: Floats, claims: Sequence[int]) -> Tried:
        """Run a round with updates (h, P) and (f, P) in grid steps; claims: the samples of all, honest ones first."""
        codes = [quantize(row, np.ones_like(row)) for row in np.concatenate([honest, hostile])]
        names = [f"honest {i:04d}" for i in range(len(honest))] + [f"hostile {i:04d}" for i in range(len(hostile))]
        spread = np.ones(len(self.sizes), np.float32)
        due = DueRound(
            federation="rehearsed",
            release=self.base.version,
            weights=self.base.weights,
            grid=expand(self.base.steps, self.sizes),
            updates=[Contribution(n, spread, c, 0, {}) for n, c in zip(names, claims, strict=True)],
            rows=MemoryRows(codes),
            members=names,
            now=0.0,
            seed=self.base.version,
        )
        made = average(self.how, due, self.state)
        bad = names[len(honest) :]
        stopped = any(n in made.state.reputations and made.state.reputations[n].quarantined for n in bad)
        stopped |= any(np.mean(np.abs(row) == LIMIT) > SATURATED for row in codes[len(honest) :])
        return Tried(made.step, stopped or not any(made.shares[n] for n in bad), made.state)

    def after(self, step: Floats) -> Floats:
        """The weights (P,) of a release that changes so much, in grid steps."""
        moved: Floats = self.base.weights + step * expand(self.base.steps, self.sizes)
        return moved
