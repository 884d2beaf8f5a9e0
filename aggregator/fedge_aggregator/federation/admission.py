"""What of a well-formed, signed update is refused before any round looks at it, and in which words; pure.

The grid bounds every norm: no update is longer than 127 steps in each coordinate. What remains of an absurd norm is an
update that is at that bound nearly everywhere. A sample count is a claim: capped, and the cap is said.
"""

from __future__ import annotations

import numpy as np
from fedge_models.errors import WireError
from fedge_models.messages.quantize import LIMIT
from fedge_models.messages.update import Update

from ..config.schema import FederationConfig

BURST, PER_S = 20.0, 1 / 60


def check(update: Update, node: str, federation: str, config: FederationConfig) -> None:
    """Raise WireError for an update in another's name, or with (nearly) all codes at the ends of the grid."""
    if (update.node, update.federation) != (node, federation):
        raise WireError(
            f"update says it is of {update.node} for {update.federation}, but came from {node} for {federation}"
        )
    saturated = np.count_nonzero(np.abs(update.codes) == LIMIT) / max(update.codes.size, 1)
    if saturated > config.max_saturated:
        raise WireError(
            f"update of {node}: {saturated:.1%} of its values are at the ends of the grid, expected at most "
            f"{config.max_saturated:.1%}: did training diverge? Lower its learning rate, or raise max_saturated here"
        )


def told(update: Update, staleness: int, max_samples: int) -> str:
    """An admitted update in a line for the audit log."""
    capped = f", counted as {max_samples}" if update.samples > max_samples else ""
    return f"{update.samples} samples{capped}, staleness {staleness}"


class Refusals:
    """Which refusals are written down: all, until a node has many in a row; then one a minute with the number of the
    others, so that nobody can fill the disk with them. Not thread-safe; `now` only has to rise."""

    def __init__(self) -> None:
        self._left: dict[str, tuple[float, float, int]] = {}  # node -> (tokens, when, not written since)

    def words(self, node: str, reason: str, now: float) -> str | None:
        """What to write, or None."""
        tokens, then, folded = self._left.get(node, (BURST, now, 0))
        tokens = min(BURST, tokens + max(0.0, now - then) * PER_S)
        if tokens < 1:
            self._left[node] = (tokens, now, folded + 1)
            return None
        self._left[node] = (tokens - 1, now, 0)
        return reason + (f" (and {folded} more refusals that are not listed)" if folded else "")
