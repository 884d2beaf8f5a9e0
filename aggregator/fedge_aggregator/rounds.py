"""A synchronous round as a pure state machine; the clock is passed in.

A round collects at most one update per node against one base release. It is due when every active node has sent its
own, or when the quorum is reached and the deadline since the *first* update has passed: it never waits for the dead,
and never averages fewer than the rule needs. Times are Unix seconds. Storing and averaging are others' work.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from fedge_models.errors import StaleError


@dataclass(frozen=True)
class RoundConfig:
    """When a round ends."""

    quorum: int  # updates without which the deadline does not end it
    deadline_s: float  # after the first update


@dataclass
class Round:
    """The open round of one federation."""

    federation: str
    base_version: int
    config: RoundConfig
    arrivals: dict[str, float] = field(default_factory=dict)  # node -> when its update was accepted

    def admit(self, node: str, now: float) -> None:
        """Note the node's update. Raises StaleError when it already has one in this round."""
        if node in self.arrivals:
            raise StaleError(f"node {node} already has an update against release {self.base_version}; one a round")
        self.arrivals[node] = now

    def due(self, now: float, active: Iterable[str], minimum: int) -> bool:
        """Whether to average now; `active`: nodes that may still send, `minimum`: what the rule needs."""
        have = len(self.arrivals)
        if have < max(1, minimum):
            return False
        if set(active) <= set(self.arrivals) and have >= min(self.config.quorum, len(set(active))):
            return True
        return have >= self.config.quorum and now >= self.deadline()

    def deadline(self) -> float:
        """When the quorum suffices; infinite before the first update."""
        return min(self.arrivals.values(), default=float("inf")) + self.config.deadline_s

    def next_check(self, now: float) -> float | None:
        """Seconds until time alone may make it due; None: only another update can."""
        if len(self.arrivals) < self.config.quorum or now >= self.deadline():
            return None
        return self.deadline() - now

    def waiting_for(self, active: Iterable[str], minimum: int) -> str:
        """Why it is not due, in the operator's words."""
        missing = sorted(set(active) - set(self.arrivals))
        have, need = len(self.arrivals), max(self.config.quorum, minimum)
        wants = f"{have} of at least {need} updates" if have < need else f"{have} updates, deadline not yet passed"
        return f"{wants}; not heard from: {', '.join(missing) or 'nobody'}"
