# SPDX-License-Identifier: Apache-2.0
"""Bearing faults of simulated machines: the set that needs no data."""

from __future__ import annotations

from functools import cache

from fedge_agent.windows.features import feature_count
from fedge_models.graph import zoo
from fedge_models.graph.card import Card, Channel, WindowSpec

from .. import bearing_physics, recordings
from ..site_data import windows
from .problem import Problem, plan

MACHINES = 16
FEATURES = ("std", "kurtosis", "crest", "bands:8")


@cache
def bearings() -> Problem:
    """Sixteen machines that differ in speed, bearing, resonance, load and noise; the last pieces are the test part."""
    channels = tuple(Channel(n, u) for n, u in bearing_physics.CHANNELS)
    card = Card(
        "classify",
        channels,
        WindowSpec(bearing_physics.RATE_HZ, 1024, 512),
        FEATURES,
        bearing_physics.STATES,
        bearing_physics.STATES[0],
    )
    tracks = recordings.simulated(speed=1.0, machines=bearing_physics.machines(MACHINES))
    inputs, how = feature_count(FEATURES, len(channels)), plan(12)
    return Problem(
        "bearings",
        {n: windows(t, card) for n, t in tracks.items()},
        card,
        lambda seed: zoo.mlp(card, inputs, (32, 16), seed).SerializeToString(),
        "macro_f1",
        how,
        how,
        how,
    )
