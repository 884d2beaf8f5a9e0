# SPDX-License-Identifier: Apache-2.0
"""Defects seen by a camera: solar cells (ELPV: Buerhop-Lutz et al. 2018), rolled steel (X-SDD: Feng et al. 2021)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from fedge_agent.windows.features import Preparation
from fedge_aggregator.rounds.server_optimizers import FedAdam
from fedge_models.graph.card import Card, Channel, Objective, WindowSpec
from fedge_models.graph.texture import texture2d
from fedge_models.training.config import TrainingConfig
from numpy.typing import NDArray

from ..member import Plan
from ..site_data import Windows, pooled
from .problem import Bools, Problem, plan


def elpv(data: Path) -> Problem:
    """Five groups of solar modules; whole modules held out."""
    names = ("mono-A", "mono-B", "poly-A", "poly-B", "poly-C")
    sites, validation = {}, {}
    for name in names:
        with np.load(data / f"elpv/{name}.npz", allow_pickle=False) as file:
            sites[name] = _images(file["x"], file["y"], file["test"] == 1)
            module, test = file["module"], file["test"] == 1
        left = np.unique(module[~test])
        validation[name] = np.isin(module, left[len(left) // 2 : len(left) // 2 + max(1, len(left) // 4)]) & ~test
    plans = [plan(20, 2, 0.003, halving=10)] * 3
    return _inspection("elpv", sites, _images_card(("sound", "defective")), "auroc", validation, plans)


XSDD_CLASSES = ("finishing roll printing", "iron sheet ash", "oxide scale of plate system",
                "oxide scale of temperature system", "red iron", "slag inclusion", "surface scratch")  # fmt: skip


def xsdd(data: Path) -> Problem:
    """Four lines of a strip mill with different mixes of seven defects."""
    sites, validation = _lines(data)
    card = _xsdd_card(local="head.bias")  # how common each defect is differs from line to line
    plans = [plan(20, 2, 0.006, halving=10), *[plan(20, 2, 0.003, halving=10)] * 2]
    made = _inspection("xsdd", sites, card, "macro_f1", validation, plans)
    return replace(made, pooled=True)


def xsdd_by_class(data: Path) -> Problem:
    """The same images at seven sites with a single defect each: no site ever sees another defect to compare with.

    Training on such a site soon says its one class whatever it sees. So a site takes a single step on all that it has,
    which is a gradient, and the aggregator's Adam makes of the mean gradient what it would have made in one place.
    """
    lines, cuts = _lines(data)
    whole, cut = pooled(lines), np.concatenate(list(cuts.values()))
    each = {name: whole.y == k for k, name in enumerate(XSDD_CLASSES)}
    sites = {n: Windows(*(part[own] for part in (whole.x, whole.y, whole.test, whole.held))) for n, own in each.items()}
    step = TrainingConfig(batch=1 << 20, epochs=1, optimizer="sgd", learning_rate=1.0, momentum=0.0)
    plans = Plan(150, step, correction=0.0, server=FedAdam(0.01, tau=1e-8)), *[plan(20, 2, 0.003, halving=10)] * 2
    validation = {n: cut[own] for n, own in each.items()}
    made = _inspection("xsdd_by_class", sites, _xsdd_card(), "macro_f1", validation, plans)
    return replace(made, pooled=True)


def _lines(data: Path) -> tuple[dict[str, Windows], dict[str, Bools]]:
    sites, validation = {}, {}
    for name in ("line1", "line2", "line3", "line4"):
        with np.load(data / f"xsdd/{name}.npz", allow_pickle=False) as file:
            sites[name] = _images(file["x"], file["y"], file["test"] == 1)
            validation[name] = (file["number"] % 4 == 1) & (file["test"] != 1)
    return sites, validation


def _xsdd_card(local: str = "") -> Card:
    return _images_card(XSDD_CLASSES, objective=Objective(label_smoothing=0.1), local=local)


def _images(x: NDArray[np.uint8], y: NDArray[np.generic], test: Bools) -> Windows:
    n = len(y)
    return Windows(x[:, None].astype(np.float32), y.astype(np.int64), test, np.zeros(n, np.bool_))


def _images_card(labels: tuple[str, ...], **fields: Any) -> Card:
    return Card("classify", (Channel("image", "", 128.0, 40.0),), WindowSpec(1, 64, 64), (), labels, **fields)


def _inspection(
    name: str,
    sites: dict[str, Windows],
    card: Card,
    metric: str,
    validation: dict[str, Bools],
    plans: Sequence[Plan],
) -> Problem:
    federated, alone, together = plans
    return Problem(
        name,
        {n: replace(s, x=Preparation(card)(s.x)) for n, s in sites.items()},
        card,
        lambda seed: texture2d(card, (1, 64, 64), seed=seed).SerializeToString(),
        metric,
        federated,
        alone,
        together,
        validation=validation,
    )
