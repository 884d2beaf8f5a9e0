# SPDX-License-Identifier: Apache-2.0
"""Fleets of honest and hostile sites whose updates are assessed round by round."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from fedge_aggregator.rounds.trust import assessment as trust
from fedge_aggregator.rounds.trust.reputation import Reputation, TrustConfig
from fedge_aggregator.rounds.trust.sketches import sketch
from fedge_aggregator.rounds.trust.suspicion import Finding

Rows = dict[str, np.ndarray]
Forge = Callable[[Rows, Sequence[str], int, np.random.Generator], Rows]
CONFIG = TrustConfig()
D = 600


@dataclass
class Fleet:
    """Sites that agree on a direction, each with a lean of its own that it takes back over the rounds, and noise."""

    honest: int = 8
    hostile: int = 0
    forge: Forge | None = None
    lean: float = 0.5
    lasting: float = 0.0  # share of its lean that a site never takes back
    minimum: int = 3
    config: TrustConfig = CONFIG
    seed: int = 0
    reputations: dict[str, Reputation] = field(default_factory=dict)
    changes: list[str] = field(default_factory=list)
    round: int = 0

    def __post_init__(self) -> None:
        self.rng = np.random.default_rng(self.seed)
        self.names = [f"h{i}" for i in range(self.honest)] + self.bad
        self.leans = {n: self.rng.normal(size=D) * 15 * self.lean for n in self.names}

    @property
    def bad(self) -> list[str]:
        return [f"x{i}" for i in range(self.hostile)]

    def rows(self) -> Rows:
        common = np.sin(np.arange(D) * (1 + 0.1 * (self.round // 5))) * 15
        share = self.lasting + (1 - self.lasting) * (self.round < 1)
        noise = {n: self.rng.normal(size=D) * 8 for n in self.names}
        rows = {n: common + share * self.leans[n] + noise[n] for n in self.names}
        if self.forge is not None:
            rows |= self.forge(rows, self.bad, self.round, self.rng)
        return {n: np.clip(np.rint(r), -127, 127).astype(np.int8) for n, r in rows.items()}

    def step(self, rows: Rows | None = None, members: Sequence[str] | None = None) -> trust.Assessment:
        self.round += 1
        assessment = judge(self, self.rows() if rows is None else rows, members or self.names)
        self.reputations = dict(assessment.reputations)
        self.changes += assessment.changes
        return assessment

    def run(self, rounds: int) -> trust.Assessment:
        for _ in range(rounds):
            assessment = self.step()
        return assessment

    def inside(self) -> set[str]:
        return {n for n, s in self.reputations.items() if s.quarantined}


def judge(
    fleet: Fleet,
    rows: Rows,
    members: Sequence[str],
    outside: Mapping[str, Finding] | None = None,
    claims: Mapping[str, float] | None = None,
    similarity: np.ndarray | None = None,
) -> trust.Assessment:
    stacked = np.stack(list(rows.values()))
    gram = stacked.astype(np.float64) @ stacked.T.astype(np.float64)
    return trust.assess(
        fleet.reputations,
        list(rows),
        gram,
        sketch(stacked),
        release=fleet.round,
        now=fleet.round * 3600.0,
        minimum=fleet.minimum,
        members=members,
        config=fleet.config,
        outside=outside,
        claims=claims,
        similarity=similarity,
    )


def sign_flip(rows: Rows, bad: Sequence[str], round_: int, rng: np.random.Generator) -> Rows:
    return {n: -rows[n] for n in bad}
