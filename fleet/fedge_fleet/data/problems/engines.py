# SPDX-License-Identifier: Apache-2.0
"""Remaining life of turbofan engines: C-MAPSS (Saxena et al. 2008)."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from fedge_agent.windows.features import bridge
from fedge_models.graph import zoo
from fedge_models.graph.card import Card, Channel, Target, WindowSpec

from ..site_data import Windows
from .problem import Array, Bools, Problem, plan

CMAPSS_SENSORS = (2, 3, 4, 7, 8, 9, 11, 12, 13, 14, 15, 17, 20, 21)  # the others hardly vary in two of the fleets


CMAPSS_WINDOW = 30


def cmapss(data: Path) -> Problem:
    """Four fleets of engines: every fourth cycle is training data, the last row of each test unit is the test part."""
    channels = (
        Channel("altitude", "kft", condition=2.0),
        Channel("mach", "", condition=0.05),
        Channel("throttle", "%", condition=2.0),
        *(Channel(f"sensor{k}") for k in CMAPSS_SENSORS),
    )
    target = Target("remaining life", "cycles", low=0.0, high=125.0)
    card = Card("regress", channels, WindowSpec(1, CMAPSS_WINDOW, 1), targets=(target,))
    sites, validation = {}, {}
    for name in ("FD001", "FD002", "FD003", "FD004"):
        sites[name], validation[name] = _fleet(data / f"cmapss/{name}.npz")
    return Problem(
        "cmapss",
        sites,
        card,
        lambda seed: zoo.mlp(card, (len(channels), CMAPSS_WINDOW), (64, 32), seed).SerializeToString(),
        "rmse",
        plan(20, 1, 0.003, halving=5),
        plan(20, 1, 0.002, halving=4),
        plan(5, 1, 0.003, halving=5),  # more only overfits
        validation=validation,
    )


def _fleet(path: Path) -> tuple[Windows, Bools]:
    """Every fourth cycle of the training units, the last of the test units; validation: as if every fifth unit had been
    cut off once at a third, a half, three quarters of its life."""
    x, y, test, validation = [], [], [], []
    columns = [k - 1 for k in CMAPSS_SENSORS]
    with np.load(path, allow_pickle=False) as file:
        for part in ("train", "test"):
            unit = file[f"{part}_unit"]
            values = np.concatenate([file[f"{part}_settings"], file[f"{part}_sensors"][:, columns]], axis=1).T
            for i, u in enumerate(np.unique(unit)):
                own = values[:, unit == u]
                n = own.shape[1]
                left = int(file["test_rul"][i]) if part == "test" else 0
                checked = part == "train" and i % 5 == 4
                ends = [n] if part == "test" else range(CMAPSS_WINDOW, n + 1, 4)
                if checked:
                    ends = [round(n * f) for f in (0.4, 0.55, 0.7, 0.85)]
                for end in ends:
                    x.append(_last(own[:, :end], CMAPSS_WINDOW))
                    y.append(n - end + left)
                    test.append(part == "test")
                    validation.append(checked)
    n = len(y)
    site = Windows(np.array(x, np.float32), np.array(y, np.float32), np.array(test), np.zeros(n, np.bool_))
    return site, np.array(validation)


def _last(values: Array, length: int) -> Array:
    """Return the last `length` samples; a shorter history is filled as the gateway fills gaps."""
    have = values[:, -length:]
    if have.shape[1] == length:
        return have
    padded = np.full((len(values), length), np.nan, np.float32)
    padded[:, -have.shape[1] :] = have
    return bridge(padded)
