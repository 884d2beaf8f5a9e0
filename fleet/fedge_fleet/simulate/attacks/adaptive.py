# SPDX-License-Identifier: Apache-2.0
"""Colluders that run the aggregator's own round before they send, and go as far as it lets through."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, ClassVar, Literal

import numpy as np

from ...data.site_data import Floats
from .attack import Attack, Forged, Seen, direction, norm, usual_norm
from .rehearsal import Rehearsal, Tried

Lean = Literal["mean", "deviation", "sign"]
LEANS: tuple[Lean, ...] = ("mean", "deviation", "sign")
SIZES = (0.5, 1.0, 1.5, 2.0, 3.0, 4.5, 7.0)  # of a lean, in usual lengths of an honest update
APART = (0.0, 1.0)  # how much of what is peculiar to each site's own update it keeps: none, so that all send the same


class Adaptive(Attack, frozen=True, forbid_unknown_fields=True):
    """Simulates the rule in force and what trust looks at: Shejwalkar & Houmansadr 2021, "AGR-tailored" attacks.

    Each hostile site sends the mean of the honest updates, what is peculiar to its own, and a common lean against the
    honest. They try leans of several directions and sizes in rounds that the aggregator's own code averages, leave out
    those that would put one of them in quarantine, and send the one whose release does worst on their own data. With
    `fellows` they know only what their own data give: the honest updates are drawn from their mean and spread.
    """

    colludes: ClassVar[bool] = True

    fellows: bool = False  # knows only what the hostile sites' own data give, not what honest sites send
    towards: Lean | None = None  # None: all are tried

    def agree(
        self, seen: Seen, rehearsal: Rehearsal, state: Any, shared: np.random.Generator
    ) -> tuple[Floats | None, Any]:
        """The rows (f, P) that they send, and what they think the aggregator remembers then."""
        rows = _guessed(seen.mates, seen.n - len(seen.mates), shared) if self.fellows else seen.honest
        if len(rows) + len(seen.mates) < rehearsal.how.pipeline.minimum():
            return None, state  # too few are known to try a round
        known = None if self.fellows or seen.claims is None else seen.claims
        claims = [*(known if known is not None else [seen.samples] * len(rows)), *[seen.samples] * len(seen.mates)]
        if state is not None:
            rehearsal = replace(rehearsal, state=state)
        best, sent = rehearsal.run(rows, seen.mates, claims), seen.mates
        worst = _harm(best, rehearsal)
        for candidate in self._candidates(rows, seen.mates):
            tried = rehearsal.run(rows, candidate, claims)
            if not tried.stopped and (harm := _harm(tried, rehearsal)) > worst:
                best, sent, worst = tried, candidate, harm
        return sent, best.state

    def _candidates(self, rows: Floats, mates: Floats) -> list[Floats]:
        usual, mean = usual_norm(rows), rows.mean(axis=0)
        apart = mates - mates.mean(axis=0)
        ways = LEANS if self.towards is None else (self.towards,)
        leans = [np.float32(usual) * _lean(way, rows) for way in ways]
        sizes = [(np.float32(share), np.float32(size)) for share in APART for size in SIZES]
        return [mean + share * apart + size * lean for lean in leans for share, size in sizes]

    def forge(self, seen: Seen, state: Floats | None, shared: np.random.Generator, rng: np.random.Generator) -> Forged:
        """What they have agreed on; its own update where there is nothing to agree with."""
        return Forged(seen.own if seen.agreed is None else seen.agreed)


def _harm(tried: Tried, rehearsal: Rehearsal) -> float:
    """The loss on the hostile sites' own data after a round; never NaN."""
    loss = rehearsal.loss(rehearsal.after(tried.step))
    return loss if np.isfinite(loss) else -np.inf


def _lean(way: Lean, rows: Floats) -> Floats:
    """A direction (P,) of length 1 against the honest rows."""
    mean = rows.mean(axis=0)
    found: Floats = -direction({"mean": mean, "deviation": rows.std(axis=0), "sign": np.sign(mean)}[way])
    return found


def _guessed(mates: Floats, count: int, rng: np.random.Generator) -> Floats:
    """Rows (count, P) as honest sites may send them: the fellows' mean, and mixtures of how they differ from it."""
    mean, n = mates.mean(axis=0), len(mates)
    apart = mates - mean
    if n == 1:  # nothing is known of how sites differ: as much as an update is long
        noise = rng.normal(size=(count, mean.size)).astype(np.float32)
        return mean + noise * np.float32(norm(mean) / max(mean.size, 1) ** 0.5)
    mixes = rng.normal(0, (n - 1) ** -0.5, (count, n)).astype(np.float32)
    guessed: Floats = mean + mixes @ apart
    return guessed
