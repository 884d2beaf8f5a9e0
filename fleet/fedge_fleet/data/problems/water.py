# SPDX-License-Identifier: Apache-2.0
"""Anomalies of a loop of pumps and valves: SKAB (Katser & Kozitsin 2020)."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
from fedge_models.graph.card import Card, Channel, WindowSpec

from .. import recordings
from ..site_data import Windows, windows
from .problem import Bools, Problem, anomalies, joined


def skab(data: Path) -> Problem:
    """Three plants, whole experiments held out."""
    experiments = recordings.skab_experiments(data / "skab")
    cut = {"valve1-01", "valve1-05", "valve1-09", "valve2-01", "other-05", "other-11"}
    tracks: dict[str, Windows] = {}
    validation: dict[str, Bools] = {}
    card = _skab_card()
    for plant in ("valve1", "valve2", "other"):
        own = {n: t for n, t in experiments.items() if n.startswith(plant)}
        parts = [windows(t, card) for t in own.values()]
        tracks[plant] = joined(parts)
        validation[plant] = np.concatenate([np.full(len(p.y), n in cut) for n, p in zip(own, parts, strict=True)])
    return anomalies("skab", tracks, card, validation)


def skab_experiments(data: Path) -> Problem:
    """Every experiment a site; its first 400 rows are for fitting, the rest is the test part."""
    card = _skab_card()
    sites: dict[str, Windows] = {}
    for name, track in recordings.skab_experiments(data / "skab").items():
        part = (np.arange(track.values.shape[1]) >= 400).astype(np.int64)
        sites[name] = windows(replace(track, part=part), card)
    return anomalies("skab_experiments", sites, card, {})


def _skab_card() -> Card:
    channels = tuple(Channel(n, u) for n, u in recordings.SKAB_UNITS.items())
    return Card("anomaly", channels, WindowSpec(1, 60, 5), ("mean", "std", "slope"))
