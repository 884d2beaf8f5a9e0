# SPDX-License-Identifier: Apache-2.0
"""Divide a site's recorded windows as its gateway does: whole units held back, or blocks of time while there is one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import NamedTuple

import numpy as np
from fedge_agent.config.schema import Training
from fedge_agent.learning.training import Data
from fedge_agent.samples import units
from fedge_agent.samples.split import split
from fedge_fleet.data.recordings import Track
from fedge_fleet.data.site_data import Windows
from fedge_models.graph.card import Card
from numpy.typing import NDArray

APART_S = 3600.0  # between recordings of a site: each is a run of its own


class Site(NamedTuple):
    """The windows of a site, and how its gateway divides those it may learn from."""

    name: str
    windows: Windows  # `held`: not learnt from
    rows: NDArray[np.intp]  # which of the windows these are, oldest first
    chosen: units.Chosen  # of these

    def parts(self, ready: Windows) -> tuple[Data, Data]:
        """What is held back and what is learnt from, of the windows after standardisation."""
        return self._part(ready, units.HOLD), self._part(ready, units.LEARN)

    def _part(self, ready: Windows, purpose: int) -> Data:
        keep = (self.chosen.purposes == purpose) & (ready.y[self.rows] == 0)
        rows, assets = self.rows[keep], np.full(int(keep.sum()), self.name)
        return Data(ready.x[rows], ready.y[rows], assets, self.chosen.units[keep], self.chosen.shares[keep])


def divided(name: str, windows: Windows, tracks: Sequence[Track], card: Card, began_ns: int) -> Site:
    """Divide the windows that were cut from these recordings, which follow each other; normal ones are learnt from."""
    rows = np.flatnonzero(~windows.test)
    ends, length_ns = _ends(tracks, card, began_ns), round(card.window.length / tracks[0].rate_hz * 1e9)
    holdout, n = Training().holdout, len(rows)
    blocks = split(tracks[0].rate_hz, card.window.length, card.window.hop, holdout)
    purpose = {True: units.HOLD, False: units.LEARN, None: units.NEITHER}
    of_blocks = np.array([purpose[blocks.held(int(end) - length_ns, int(end))] for end in ends], np.int64)
    stored = units.Stored(
        np.arange(n), np.full(n, name), ends, np.full(n, length_ns), np.full(n, ""),
        np.where(windows.y[rows] == 0, 0, 1), of_blocks, np.full(n, -1),
    )  # fmt: skip
    chosen = units.choose(stored, holdout, units.Classes(by_asset=True))
    held = windows.held.copy()
    held[rows[chosen.purposes != units.LEARN]] = True
    return Site(name, replace(windows, held=held), rows, chosen)


def _ends(tracks: Sequence[Track], card: Card, began_ns: int) -> NDArray[np.int64]:
    """When each window of the training part ended, ns, in the order of `site_data.windows`."""
    found, at, spec = [], began_ns / 1e9, card.window
    for track in tracks:
        for k, (start, stop) in enumerate(track.segments):
            ends = range(start + spec.length, stop + 1, spec.hop)
            known = [end for end in ends if not (track.part[end - spec.length : end] != 0).any()]
            found += [round((at + track.seconds_at(end - 1, k)) * 1e9) for end in known]
        at += track.seconds + APART_S
    return np.array(found, np.int64)
