# SPDX-License-Identifier: Apache-2.0
"""Which sources are to be read no further for now, because a machine cannot decide yet on what they would deliver.

A source that holds a stored past loses nothing by waiting; a living one does, so only machines whose windows come from
sources that can wait have these wait. A machine that decides is held up by no other for longer than `SHARED_S`. Pure;
the clock is passed in.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from .condition import Cause, Reason

SHARED_S = 60.0  # while another machine of the same source decides
FIT_S = 600.0  # for a limit: it is made here, from windows that are there, and a training may come before it


class Held(NamedTuple):
    """What is held, and what was held for too long, in words."""

    sources: dict[str, str]  # read no further: why
    assets: frozenset[str]  # whose windows wait
    given_up: dict[str, str]  # source -> why what is read of it now is not decided on


class Holding:
    """sources: those of each asset's windows; can_wait: the sources that hold a stored past."""

    def __init__(self, sources: Mapping[str, frozenset[str]], can_wait: Iterable[str]) -> None:
        patient = frozenset(can_wait)
        self.assets = frozenset(asset for asset, those in sources.items() if those and those <= patient)
        self._sources = {asset: sources[asset] for asset in self.assets}
        self._beside = {a: [b for b, s in sources.items() if b != a and s & sources[a]] for a in self.assets}
        self._since: dict[tuple[str, Reason], float] = {}
        self._given_up: set[tuple[str, Reason]] = set()

    def update(self, lacks: Mapping[str, Cause | None], now: float) -> Held:
        """What is held as of `now` (monotonic, s); lacks: what each asset waits for without needing more readings."""
        open_ = {(asset, cause.reason) for asset, cause in lacks.items() if cause is not None}
        self._since = {key: since for key, since in self._since.items() if key in open_}
        self._given_up &= open_
        held, assets, given_up = dict[str, str](), set[str](), dict[str, str]()
        for asset in sorted(self.assets):
            cause = lacks[asset]
            if cause is None:
                continue
            key = asset, cause.reason
            waited = now - self._since.setdefault(key, now)
            if waited > self._longest(asset, cause, lacks):
                self._given_up.add(key)
            what = "its model" if cause.reason is Reason.MODEL else "its limit"
            if key in self._given_up:
                text = f"{asset} still waits for {what} after {waited:.0f} s: what is read now is not decided on"
                given_up.update(dict.fromkeys(self._sources[asset], text))
            else:
                held.update(dict.fromkeys(self._sources[asset], f"{asset} waits for {what}"))
                assets.add(asset)
        return Held(held, frozenset(assets), given_up)

    def _longest(self, asset: str, cause: Cause, lacks: Mapping[str, Cause | None]) -> float:
        if any(lacks.get(other) is None for other in self._beside[asset]):
            return SHARED_S
        return math.inf if cause.reason is Reason.MODEL else FIT_S
