# SPDX-License-Identifier: Apache-2.0
"""PyTorch as a peer of benchmarks/training.py."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from _training import BATCH, RATE, SIZES, Epochs


def epoch(name: str, optimizer: str, variant: str, x_rows: np.ndarray, y_rows: np.ndarray) -> Epochs:
    """Return one epoch; variant: threads, and how the optimiser steps."""
    net, fused = _net(name), variant.endswith("fused")
    if optimizer == "adam":
        step: Any = torch.optim.Adam(net.parameters(), lr=RATE, fused=fused)
    else:
        step = torch.optim.SGD(net.parameters(), lr=RATE, momentum=0.9, fused=fused)
    x, y = torch.from_numpy(x_rows), torch.from_numpy(y_rows)

    def run() -> None:
        torch.set_num_threads(int(variant[0]))
        order = torch.randperm(len(x))
        sx, sy = x[order], y[order]
        for i in range(0, len(sx), BATCH):
            step.zero_grad(set_to_none=True)
            torch.nn.functional.cross_entropy(net(sx[i : i + BATCH]), sy[i : i + BATCH]).backward()
            step.step()

    return run


def _net(name: str) -> Any:
    n = torch.nn
    if name == "cnn1d":
        return n.Sequential(
            n.Conv1d(3, 16, 7), n.ReLU(), n.MaxPool1d(2), n.Conv1d(16, 32, 5), n.ReLU(),
            n.AdaptiveAvgPool1d(1), n.Flatten(), n.Linear(32, 4),
        )  # fmt: skip
    if name == "cnn2d":
        return n.Sequential(
            n.Conv2d(1, 8, 3, padding=1), n.ReLU(), n.MaxPool2d(2), n.Conv2d(8, 16, 3, padding=1), n.ReLU(),
            n.MaxPool2d(2), n.Conv2d(16, 32, 3, padding=1), n.ReLU(), n.AdaptiveAvgPool2d(1), n.Flatten(),
            n.Linear(32, 7),
        )  # fmt: skip
    a, b, c, d = SIZES[name]
    return n.Sequential(n.Linear(a, b), n.ReLU(), n.Linear(b, c), n.ReLU(), n.Linear(c, d))
