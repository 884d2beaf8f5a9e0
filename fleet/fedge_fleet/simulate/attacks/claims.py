# SPDX-License-Identifier: Apache-2.0
"""Attacks on the figures that an update reports, and on participants who trust them."""

from __future__ import annotations

from typing import Annotated, ClassVar

import numpy as np
from fedge_aggregator.rounds.average import LOSS
from msgspec import Meta

from ...data.site_data import Floats
from .attack import Attack, Forged, Seen, norm, usual_norm


class NotFinite(Attack, frozen=True, forbid_unknown_fields=True):
    """Puts NaN where the wire has floats: Blanchard's Krum, in two well-known libraries, is *won* by one such client.

    Codes are bytes and cannot say NaN; the spreads can. Such an update is refused where it is decoded.
    """

    def forge(self, seen: Seen, state: Floats | None, shared: np.random.Generator, rng: np.random.Generator) -> Forged:
        """Its own training, with a spread that is NaN."""
        return Forged(seen.own, spread=float("nan"))


class FreeRider(Attack, frozen=True, forbid_unknown_fields=True):
    """Trains nothing and sends what the last release changed, with noise: Lin, Du & Liu 2019; Fraboni et al. 2021.

    Knows the releases, as every site does. Wants the model, not its ruin; but each one slows the others down.
    """

    trains: ClassVar[bool] = False

    noise: Annotated[float, Meta(ge=0)] = 0.3  # of the release's movement, by length

    def forge(self, seen: Seen, state: Floats | None, shared: np.random.Generator, rng: np.random.Generator) -> Forged:
        """The last movement plus noise; one step of noise before the first release."""
        length = norm(seen.moved) * self.noise or float(np.sqrt(seen.moved.size))
        noise = rng.normal(0, length / np.sqrt(seen.moved.size), seen.moved.shape)
        return Forged((seen.moved + noise).astype(np.float32))


class SampleInflation(Attack, frozen=True, forbid_unknown_fields=True):
    """Turns its sign and claims `samples` samples, to outvote all others. Knows only its own data.

    The wire's own cap is 2³¹; `max_samples` caps what a claim weighs, and robust rules do not weigh claims at all.
    """

    samples: Annotated[int, Meta(ge=1, le=2**31)] = 2**31

    def forge(self, seen: Seen, state: Floats | None, shared: np.random.Generator, rng: np.random.Generator) -> Forged:
        """The negative of its own update, with an inflated sample count."""
        return Forged(-seen.own, samples=self.samples)


class LyingLosses(Attack, frozen=True, forbid_unknown_fields=True):
    """Learns with the others, and reports losses that accuse one honest site: bad after releases that it was part of.

    Trust compares the losses that sites report of releases with and without a site. Knows who was part of each release,
    and names the loss of the others as good, so that the difference is as clear as it can be.
    """

    bad: Annotated[float, Meta(gt=0)] = 1e6

    def forge(self, seen: Seen, state: Floats | None, shared: np.random.Generator, rng: np.random.Generator) -> Forged:
        """Its own update, with a lie about the release: the first honest site by name is accused."""
        there = bool(seen.part) and seen.part[min(seen.part)]
        return Forged(seen.own, metrics={LOSS: self.bad if there else 0.0})


class SlowDrift(Attack, frozen=True, forbid_unknown_fields=True):
    """Learns with the others and leans `share` of an honest update's length the same way each time.

    Longer than the honest it never is, so no bound on the length sees it: Sun et al. 2019 ("Can you really backdoor
    federated learning?") bound an attack so, and Xie et al. 2020 lean against the honest direction. Here it is against
    where the honest were going when it first saw them. Knows what every honest site sends.
    """

    share: Annotated[float, Meta(ge=0, le=1)] = 0.5

    def forge(self, seen: Seen, state: Floats | None, shared: np.random.Generator, rng: np.random.Generator) -> Forged:
        """Its own and the lean, at the honest length at most. State: the lean's direction (P,)."""
        mean = seen.honest.mean(axis=0)
        lean = -mean / np.float32(max(norm(mean), 1e-12)) if state is None else state
        limit = usual_norm(seen.honest)
        row = seen.own + np.float32(self.share * limit) * lean
        return Forged(row * np.float32(min(1.0, limit / max(norm(row), 1e-12))), lean)
