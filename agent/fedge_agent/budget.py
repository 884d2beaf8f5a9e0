"""What this site's updates may give away in all, and how much of it is spent. Pure; the ledger itself is the spool's.

What is hidden is everything the site's data said: two sites that differ in all their samples are told apart no better
than (epsilon, delta) by whoever sees every update that was sent, the aggregator included. Each of the two moves an
update by at most the clip norm, so the sensitivity is twice that. Updates add up in ρ of zero-concentrated differential
privacy (`fedge_models.privacy.accounting`), whatever clip and noise each was made with.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, NamedTuple

from fedge_models.errors import ConfigError
from fedge_models.privacy.accounting import zcdp, zcdp_budget, zcdp_epsilon

if TYPE_CHECKING:
    from .config.schema import Privacy

SENSITIVITY = 2.0  # in clip norms: one data set for another, not for none


class Ledger(NamedTuple):
    """What was spent on one federation, ever."""

    rho: float = 0.0
    updates: int = 0  # that were paid for
    unprotected: int = 0  # that were made without noise
    sequence: int | None = None  # of the newest that was paid for
    lost: str | None = None  # a damaged spool that was set aside: what it had counted is unknown


class Charge(NamedTuple):
    """What one update costs, and the most that all may cost: in ρ."""

    rho: float
    limit: float

    def affordable(self, ledger: Ledger) -> bool:
        """Whether the ledger has room for it."""
        return ledger.lost is None and ledger.rho + self.rho <= self.limit


def charge(privacy: Privacy) -> Charge:
    """What an update under this configuration costs."""
    return Charge(zcdp(privacy.noise_multiplier, SENSITIVITY), zcdp_budget(privacy.epsilon, privacy.delta))


def left(ledger: Ledger, privacy: Privacy) -> int:
    """How many updates may still be made."""
    one = charge(privacy)
    return max(1, math.floor((one.limit - ledger.rho) / one.rho)) if one.affordable(ledger) else 0


def stopped(ledger: Ledger, privacy: Privacy, name: str) -> str | None:
    """Why no update may be made any more, in the operator's words."""
    goes_on = f"model {name} is no longer trained here and sends nothing; it goes on deciding and taking releases"
    if ledger.lost is not None:
        return (
            f"what was spent of the privacy budget is unknown: {ledger.lost} was damaged and set aside; {goes_on}. "
            "Removing that file begins a new budget on top of what was spent"
        )
    if left(ledger, privacy):
        return None
    spent, more = (zcdp_epsilon(rho, privacy.delta) for rho in (ledger.rho, ledger.rho + charge(privacy).rho))
    return (
        f"privacy budget spent: {spent:.3g} of {privacy.epsilon:.3g} (delta {privacy.delta:g}), another update would "
        f"make it {more:.3g}; {goes_on}. A larger epsilon in [model.{name}.privacy] gives more away"
    )


def status(ledger: Ledger, privacy: Privacy, name: str) -> dict[str, Any]:
    """For the status page."""
    return {
        "spent": round(zcdp_epsilon(ledger.rho, privacy.delta), 4),
        "epsilon": privacy.epsilon,
        "delta": privacy.delta,
        "updates": ledger.updates,
        "left": left(ledger, privacy),
        "unprotected": ledger.unprotected,
        "stopped": stopped(ledger, privacy, name),
    }


def check(privacy: Privacy, where: str) -> None:
    """Raise ConfigError when the budget does not pay for a single update."""
    if left(Ledger(), privacy):
        return
    cost, limit = charge(privacy)
    least = {n: 1.005 * SENSITIVITY * math.sqrt(n / 2 / limit) for n in (1, 100)} if limit else {}  # rounded up
    enough = [f"{multiplier:.3g} pays for {n}" for n, multiplier in least.items()]
    raise ConfigError(
        f"{where}: an update with noise_multiplier {privacy.noise_multiplier:g} costs epsilon "
        f"{zcdp_epsilon(cost, privacy.delta):.3g}, the budget is {privacy.epsilon:g} at delta {privacy.delta:g}; "
        f"noise_multiplier {', '.join(enough) or 'cannot make up for so small an epsilon'}"
    )
