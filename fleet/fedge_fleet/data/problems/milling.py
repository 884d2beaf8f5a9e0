# SPDX-License-Identifier: Apache-2.0
"""Failures of a milling machine: AI4I 2020 (Matzka 2020)."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from fedge_models.graph import zoo
from fedge_models.graph.card import Card, Channel, WindowSpec

from ..table_file import TableFile
from .problem import Problem, plan, ready

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
    table, sites, validation = TableFile(data / "ai4i/ai4i.csv.gz"), {}, {}
    inputs = np.array([table.numbers(c) for c in AI4I_INPUTS], np.float32).T[:, :, None]
    failed, test, run = (table.numbers(c).astype(np.int64) for c in ("machine_failure", "test", "tool_run"))
    kinds = np.array(table.texts("type"))
    for kind in "LMH":
        own = kinds == kind
        sites[kind] = ready(inputs[own], failed[own], test[own] == 1, card)
        validation[kind] = run[own] % 4 == 1
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
