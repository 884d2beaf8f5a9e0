"""Failures of a milling machine: AI4I 2020 (Matzka 2020)."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from fedge_models.graph import zoo
from fedge_models.graph.card import Card, Channel, WindowSpec

from .problem import Problem, plan, ready, rows_of

AI4I_INPUTS = {
    "air_temperature_K": Channel("air_temperature", "K", 300, 2),
    "process_temperature_K": Channel("process_temperature", "K", 310, 2),
    "rotational_speed_rpm": Channel("rotational_speed", "rpm", 1500, 200),
    "torque_Nm": Channel("torque", "Nm", 40, 10),
    "tool_wear_min": Channel("tool_wear", "min", 110, 60),
}


def ai4i(data: Path) -> Problem:
    """Three product variants; whole tool runs held out."""
    card = Card(
        "classify",
        tuple(AI4I_INPUTS.values()),
        WindowSpec(1, 1, 1),
        ("mean",),
        ("ok", "failure"),
        "ok",
        local="dense2.*",  # what is overstrain depends on the variant
    )
    rows, sites, validation = rows_of(data / "ai4i/ai4i.csv.gz"), {}, {}
    for kind in "LMH":
        own = [r for r in rows if r["type"] == kind]
        x = np.array([[[float(r[c])] for c in AI4I_INPUTS] for r in own], np.float32)
        y = np.array([int(r["machine_failure"]) for r in own])
        sites[kind] = ready(x, y, np.array([r["test"] == "1" for r in own]), card)
        validation[kind] = np.array([int(r["tool_run"]) % 4 == 1 for r in own])
    return Problem(
        "ai4i",
        sites,
        card,
        lambda seed: zoo.mlp(card, 5, (64, 32), seed).SerializeToString(),
        "average_precision",
        plan(48, 1, 0.01, halving=20),
        plan(48, 1, 0.01, halving=20),
        plan(48, 1, 0.01, halving=20),
        pooled=True,
        validation=validation,
    )
