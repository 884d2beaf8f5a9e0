# SPDX-License-Identifier: Apache-2.0
"""Faults seen in vibration: NXP's fans, bearings of the MFPT society."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from fedge_agent.windows.features import feature_count
from fedge_models.graph import zoo
from fedge_models.graph.card import Card, Channel, WindowSpec

from .. import recordings
from ..site_data import windows
from .problem import Problem, plan, ready


def fan(data: Path) -> Problem:
    """Five recordings of fans, the last 30 % of each held out."""
    tracks = recordings.fan(data / "fan", 1.0, (*recordings.FAN_SITES, "fan1-s3"))
    channels = tuple(Channel(n, u) for n, u in next(iter(tracks.values())).channels)
    features = ("mean", "std", "kurtosis", "bands:6")
    card = Card("classify", channels, WindowSpec(200, 200, 100), features, recordings.FAN_STATES, "on")
    inputs = feature_count(features, len(channels))
    return Problem(
        "fan",
        {n: windows(t, card) for n, t in tracks.items()},
        card,
        lambda seed: zoo.mlp(card, inputs, (32, 16), seed).SerializeToString(),
        "macro_f1",
        plan(12),
        plan(12),
        plan(12),
    )


def mfpt(data: Path) -> Problem:
    """Five loads; each in turn is left out and becomes the test part for a model trained on the others."""
    channels = (Channel("acceleration", "g"),)
    card = Card(
        "classify",
        channels,
        WindowSpec(48828, 4096, 2048),
        ("envelope:64",),
        ("inner race", "outer race"),
        "inner race",
    )
    sites = {}
    for k in range(1, 6):
        with np.load(data / f"mfpt/load{k}.npz", allow_pickle=False) as file:
            signal, y = file["x"] * np.float32(file["scale"]), file["y"]
        x, labels = [], []
        for row, label in zip(signal, y, strict=True):
            starts = range(0, len(row) - 4095, 2048)
            x += [row[None, s : s + 4096] for s in starts]
            labels += [int(label)] * len(starts)
        sites[f"load{k}"] = ready(np.array(x, np.float32), np.array(labels), np.zeros(len(x), np.bool_), card)
    return Problem(
        "mfpt",
        sites,
        card,
        lambda seed: zoo.mlp(card, 64, (16,), seed).SerializeToString(),
        "macro_f1",
        plan(12),
        plan(12),
        plan(12),
        unseen=True,
    )
