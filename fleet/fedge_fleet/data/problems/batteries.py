# SPDX-License-Identifier: Apache-2.0
"""Capacity of Li-ion cells from one discharge (NASA PCoE, Saha & Goebel 2007)."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from fedge_models.graph import zoo
from fedge_models.graph.card import Card, Channel, Target, WindowSpec

from .problem import Problem, plan, ready

LIION_BENCHES = ("room24C-2A", "room24C-4A", "hot43C-4A", "cold4C-1A", "cold4C-2A", "cold4C-mixed")


def liion(data: Path) -> Problem:
    """Six benches; one whole cell of each held out. Inputs are scaled the same everywhere: current and cold matter."""
    channels = (
        Channel("voltage", "V", 3.5, 0.3),
        Channel("current", "A", -2.5, 1.3),
        Channel("temperature", "degC", 25.0, 15.0),
    )
    target = Target("capacity", "Ah", low=0.0, high=2.2, centre=1.4, scale=0.4)
    features = ("mean", "slope", "std", "min", "max")
    card = Card("regress", channels, WindowSpec(0.1, 61, 61), features, targets=(target,))
    sites, validation = {}, {}
    for name in LIION_BENCHES:
        with np.load(data / f"liion/{name}.npz", allow_pickle=False) as file:
            x, y, test, cell = file["x"].swapaxes(1, 2), file["capacity_Ah"], file["test"] == 1, file["cell"]
        sites[name] = ready(np.ascontiguousarray(x), y, test, card)
        cells = np.unique(cell[~test])
        validation[name] = (cell == cells[-1]) & (len(cells) > 1)
    return Problem(
        "liion",
        sites,
        card,
        lambda seed: zoo.mlp(card, 15, (64, 32), seed).SerializeToString(),
        "rmse",
        plan(160, 5, 0.003, halving=40, max_samples=1, batch=16, clip=1.0, decay=0.1),  # every bench counts alike
        plan(150, 2, 0.002, halving=50),
        plan(36, 2, 0.0003, batch=16),  # more only overfits
        validation=validation,
    )
