# SPDX-License-Identifier: Apache-2.0
"""Failures of a milling machine: AI4I 2020 (Matzka 2020)."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from fedge_agent.windows.features import input_count
from fedge_models.graph import zoo
from fedge_models.graph.card import Card, Channel, Derived, WindowSpec

from ..table_file import TableFile
from .problem import Problem, plan, ready

AI4I_INPUTS = {
    "air_temperature_K": Channel("air_temperature", "K", 300, 2),
    "process_temperature_K": Channel("process_temperature", "K", 310, 2),
    "rotational_speed_rpm": Channel("rotational_speed", "rpm", 1500, 200),
    "torque_Nm": Channel("torque", "Nm", 40, 10),
    "tool_wear_min": Channel("tool_wear", "min", 110, 60),
}
# What any engineer would look at: power at the spindle, how far the process is above the air, load on a worn tool
AI4I_PHYSICS = {
    "power": Derived("torque * rotational_speed * 0.10472", "W", 6250, 1000),
    "warming": Derived("process_temperature - air_temperature", "K", 10, 1),
    "strain": Derived("tool_wear * torque", "Nm min", 4300, 2500),
}
FOLDS = 4  # of the training part's tool runs


def ai4i(data: Path, derive: Mapping[str, Derived] = AI4I_PHYSICS, fold: int = 1) -> Problem:
    """Three product variants; whole tool runs held out. fold: the quarter of the other tool runs for validation."""
    card = Card(
        "classify",
        tuple(AI4I_INPUTS.values()),
        WindowSpec(1, 1, 1),
        ("mean",),
        ("ok", "failure"),
        "ok",
        derive={**derive},
        local="dense2.*",  # what is overstrain depends on the variant
    )
    table, sites, validation = TableFile(data / "ai4i/ai4i.csv.gz"), {}, {}
    inputs = np.array([table.numbers(c) for c in AI4I_INPUTS], np.float32).T[:, :, None]
    failed, test, run = (table.numbers(c).astype(np.int64) for c in ("machine_failure", "test", "tool_run"))
    kinds = np.array(table.texts("type"))
    for kind in "LMH":
        own = kinds == kind
        sites[kind] = ready(inputs[own], failed[own], test[own] == 1, card)
        validation[kind] = run[own] % FOLDS == fold
    how = plan(48, 1, 0.01, halving=20, clip=1.0)
    return Problem(
        "ai4i",
        sites,
        card,
        lambda seed: zoo.table(card, input_count(card), seed=seed).SerializeToString(),
        "average_precision",
        how,
        how,
        how,
        pooled=True,
        validation=validation,
    )
