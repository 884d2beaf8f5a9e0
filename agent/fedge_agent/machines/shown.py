# SPDX-License-Identifier: Apache-2.0
"""Show decisions: the newest of each asset, and that there is none once the asset decides no more."""

from __future__ import annotations

from collections.abc import Callable

from ..types import Decision
from .asset import Asset


class Shown:
    """What outputs show of each asset; `show` is called when that changes."""

    def __init__(self, show: Callable[[Decision], None]) -> None:
        self._show = show
        self._decisions: dict[str, Decision] = {}  # asset -> its newest decision that was shown
        self._unseen: set[str] = set()  # assets whose last decision is shown no more

    def newest(self, asset: Asset) -> None:
        """Show the asset's newest decision, if it was not shown yet."""
        if not asset.decisions or (newest := asset.decisions[-1][0]) is self._decisions.get(asset.name):
            return
        self._decisions[asset.name] = newest
        self._unseen.discard(asset.name)
        self._show(newest)

    def unseen(self, asset: Asset, now: float) -> None:
        """Show the last decision no more once the asset is stale; `now`: monotonic s."""
        nothing = asset.unseen(now)
        if nothing is not None and asset.name not in self._unseen:
            self._unseen.add(asset.name)
            self._show(nothing)
