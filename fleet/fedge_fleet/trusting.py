"""The aggregator's trust in the nodes of a simulated federation: the one place where `simulate` asks for it."""

from __future__ import annotations

from collections.abc import Collection, Sequence

import numpy as np
from fedge_aggregator import engine, sketches, trust
from fedge_aggregator.rows import MemoryRows
from fedge_aggregator.standing import Standing, TrustConfig
from fedge_models.quantize import Codes


class Trusting:
    """Standings over the rounds, and what was said when somebody went into quarantine or came out."""

    def __init__(self, config: TrustConfig) -> None:
        self._config = config
        self.standings: dict[str, Standing] = {}
        self.changes: list[str] = []

    def weigh(
        self,
        names: list[str],
        rows: Sequence[Codes],
        release: int,
        now: float,
        minimum: int,
        members: Collection[str],
    ) -> dict[str, float]:
        """Factor (above 0, at most 1) of each node whose update is averaged; the others are left out."""
        verdict = trust.judge(
            self.standings,
            names,
            engine.gram_matrix(MemoryRows(rows)),
            sketches.sketch(np.stack(rows)),
            release=release,
            now=now,
            minimum=minimum,
            members=members,
            config=self._config,
        )
        self.standings = dict(verdict.standings)
        self.changes += [f"release {release}: {change}" for change in verdict.changes]
        return {n: verdict.weights[n] for n in trust.spokesmen(verdict, minimum)}

    def quarantined(self) -> list[str]:
        """Who is in quarantine now."""
        return sorted(n for n, s in self.standings.items() if s.quarantined)
