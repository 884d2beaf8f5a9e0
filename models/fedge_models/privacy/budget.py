# SPDX-License-Identifier: Apache-2.0
"""What the updates of one site may give away in all, and how much of it is spent. Pure: the caller stores it.

What is hidden is everything the site's data said. Somebody who sees every update that the site sent, the aggregator
included, tells two sites that differ in all their samples apart no better than (epsilon, delta). Each of the two moves
an update by at most the clip norm, so the sensitivity is twice that. Updates add up in ρ of zero-concentrated
differential privacy (`accounting`), whatever clip and noise each was made with.
"""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import msgspec

from ..errors import ConfigError
from .accounting import zcdp, zcdp_budget, zcdp_epsilon
from .mechanism import Clip, Delta, Epsilon, NoiseMultiplier

SENSITIVITY = 2.0  # in clip norms: one data set is replaced by another, not left out


class SitePrivacy(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Noise on every update of a site, and what all of them together may give away (docs/data-scientist/privacy.md)."""

    clip: Clip  # a longer update (L2 norm, in parameter units) is scaled down to this length
    noise_multiplier: NoiseMultiplier  # standard deviation of the noise on each parameter, in clip norms
    epsilon: Epsilon  # the budget: once it is spent, nothing is trained or sent any more
    delta: Delta  # probability with which epsilon may not hold; well below one over the number of sites


class Spent(NamedTuple):
    """What a site has spent on one federation since its first update."""

    rho: float = 0.0
    updates: int = 0  # that were charged
    unprotected: int = 0  # that carried no noise
    sequence: int | None = None  # sequence number of the newest update that was charged
    lost: str | None = None  # name of a damaged file that was set aside: what it had counted is unknown


class Charge(NamedTuple):
    """The cost of one update, and the most that all updates may cost: in ρ."""

    rho: float
    limit: float

    def affordable(self, spent: Spent) -> bool:
        """Whether the budget pays for one more update."""
        return spent.lost is None and spent.rho + self.rho <= self.limit


def charge(privacy: SitePrivacy) -> Charge:
    """The cost of an update under this configuration."""
    return Charge(zcdp(privacy.noise_multiplier, SENSITIVITY), zcdp_budget(privacy.epsilon, privacy.delta))


def updates_left(spent: Spent, privacy: SitePrivacy) -> int:
    """How many more updates the budget pays for."""
    one = charge(privacy)
    return max(1, math.floor((one.limit - spent.rho) / one.rho)) if one.affordable(spent) else 0


def why_stopped(spent: Spent, privacy: SitePrivacy, model: str) -> str | None:
    """Why no update may be made any more, in the operator's words; None while the budget pays for one."""
    effect = f"model {model} sends nothing more; it still decides, takes releases and trains what stays at this site"
    if spent.lost is not None:
        return (
            f"what was spent of the privacy budget is unknown: {spent.lost} was damaged and set aside; {effect}. "
            "Removing that file begins a new budget on top of what was spent"
        )
    if updates_left(spent, privacy):
        return None
    now, more = (zcdp_epsilon(rho, privacy.delta) for rho in (spent.rho, spent.rho + charge(privacy).rho))
    return (
        f"privacy budget spent: {now:.3g} of {privacy.epsilon:.3g} (delta {privacy.delta:g}), another update would "
        f"make it {more:.3g}; {effect}. A larger epsilon in [model.{model}.privacy] gives more away"
    )


def status(spent: Spent, privacy: SitePrivacy, model: str) -> dict[str, Any]:
    """The budget as plain data, for a status page."""
    return {
        "spent": round(zcdp_epsilon(spent.rho, privacy.delta), 4),
        "epsilon": privacy.epsilon,
        "delta": privacy.delta,
        "updates": spent.updates,
        "left": updates_left(spent, privacy),
        "unprotected": spent.unprotected,
        "stopped": why_stopped(spent, privacy, model),
    }


def check(privacy: SitePrivacy, where: str) -> None:
    """Raise ConfigError when the budget does not pay for a single update. where: file and key."""
    if updates_left(Spent(), privacy):
        return
    cost, limit = charge(privacy)
    least = {n: 1.005 * SENSITIVITY * math.sqrt(n / 2 / limit) for n in (1, 100)} if limit else {}  # rounded up
    enough = [f"{multiplier:.3g} pays for {n}" for n, multiplier in least.items()]
    raise ConfigError(
        f"{where}: an update with noise_multiplier {privacy.noise_multiplier:g} costs epsilon "
        f"{zcdp_epsilon(cost, privacy.delta):.3g}, the budget is {privacy.epsilon:g} at delta {privacy.delta:g}; "
        f"noise_multiplier {', '.join(enough) or 'cannot make up for so small an epsilon'}"
    )
