# SPDX-License-Identifier: Apache-2.0
"""Refuse well-formed, signed updates that no round should see, with reasons for the node's operator. Pure.

The grid bounds every norm: no update is longer than 127 steps in each coordinate. An absurd norm therefore shows as an
update with nearly all values at that bound. A sample count is a claim: it is capped, and the audit log shows it.
"""

from __future__ import annotations

import numpy as np
from fedge_models.errors import WireError
from fedge_models.messages.quantize import LIMIT
from fedge_models.messages.update import Update
from fedge_models.training.personal import Mask

from ..config.schema import FederationConfig

BURST, PER_S = 20.0, 1 / 60  # refusals that are logged at once, and then by time


def check(update: Update, node: str, federation: str, config: FederationConfig, local: Mask | None = None) -> None:
    """Check an update that came from `node` for `federation`; local: codes (P,) of what stays at the sites.

    Raises WireError for one in another name, or with nearly all codes that are averaged at the ends of the grid.
    """
    if (update.node, update.federation) != (node, federation):
        raise WireError(
            f"update is signed as {update.node} for {update.federation}, but came from {node} for {federation}"
        )
    averaged = update.codes if local is None else update.codes[~local]
    saturated = np.count_nonzero(np.abs(averaged) == LIMIT) / max(averaged.size, 1)
    if saturated > config.max_saturated:
        raise WireError(
            f"update of {node}: {saturated:.1%} of its averaged values are at the ends of the grid, expected at most "
            f"{config.max_saturated:.1%}: did training diverge? Lower its learning rate, or raise max_saturated here"
        )


def summary(update: Update, staleness: int, max_samples: int) -> str:
    """An admitted update in a line for the audit log."""
    capped = f", counted as {max_samples}" if update.samples > max_samples else ""
    return f"{update.samples} samples{capped}, staleness {staleness}"


class Refusals:
    """Limit how many refusals are logged, so that nobody can fill the disk with them.

    All are, until a node has many in a row; then one a minute, with the number of those left out. Not thread-safe;
    `now` only has to rise.
    """

    def __init__(self) -> None:
        self._left: dict[str, tuple[float, float, int]] = {}  # node -> tokens, when, refusals left out since

    def line(self, node: str, reason: str, now: float) -> str | None:
        """The line for the log, or None."""
        tokens, then, left_out = self._left.get(node, (BURST, now, 0))
        tokens = min(BURST, tokens + max(0.0, now - then) * PER_S)
        if tokens < 1:
            self._left[node] = (tokens, now, left_out + 1)
            return None
        self._left[node] = (tokens - 1, now, 0)
        return reason + (f" (and {left_out} more refusals that are not listed)" if left_out else "")
