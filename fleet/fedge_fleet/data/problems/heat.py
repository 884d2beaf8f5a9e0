# SPDX-License-Identifier: Apache-2.0
"""Anomalies of one machine's temperature: NAB (Lavin & Ahmad 2015)."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from fedge_models.graph.card import Card, Channel, WindowSpec

from .. import recordings
from ..site_data import Windows, windows
from ..table_file import TableFile
from .problem import Problem, anomalies

CARD = Card("anomaly", (Channel("temperature"),), WindowSpec(1 / 300, 48, 4), ("mean", "std", "slope", "min", "max"))
PROBATION = 0.6  # of the first stretch: 15 % of all rows


def nab(data: Path) -> Problem:
    """One machine, its time cut into four consecutive sites; the first 35 % of each is for fitting.

    Nothing before the end of the benchmark's probation (15 % of all rows) is judged. The second site has no failure:
    it only teaches.
    """
    sites = {}
    for name, track in nab_tracks(data).items():
        begin = PROBATION * track.values.shape[1] if name == "part1" else 0
        sites[name] = _judged_after(windows(track, CARD), begin, CARD)
    return anomalies("nab", sites, CARD, {}, hidden=2)  # of five features


def nab_tracks(data: Path) -> dict[str, recordings.Track]:
    """The four stretches of time; `part` is 1 in the test part, except for the probation in the first."""
    table = TableFile(data / "nab/machine_temperature_system_failure.csv.gz")
    values = table.numbers("value").astype(np.float32)[None]
    label = table.numbers("anomaly").astype(np.int64)
    quarter = len(label) // 4
    part = (np.arange(quarter) >= 0.35 * quarter).astype(np.int64)
    parts = {f"part{k + 1}": slice(k * quarter, (k + 1) * quarter) for k in range(4)}
    names = (("temperature", ""),)
    return {
        name: recordings.Track(names, "scalar", 1 / 300, 1, values[:, at], label[at], part, ((0, quarter),))
        for name, at in parts.items()
    }


def _judged_after(site: Windows, row: float, card: Card) -> Windows:
    """Remove the test windows that begin before a row (windows of one segment, in order)."""
    begins = np.arange(len(site.y)) * card.window.hop
    keep = ~site.test | (begins >= row)
    return Windows(site.x[keep], site.y[keep], site.test[keep], site.held[keep])
