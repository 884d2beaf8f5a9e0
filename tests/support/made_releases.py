# SPDX-License-Identifier: Apache-2.0
"""Releases for tests, made without an aggregator."""

from __future__ import annotations

import numpy as np
from fedge_models.messages.release import GENESIS, Header, Release, header_hash, weights_hash


def make_release(weights: np.ndarray, steps: np.ndarray, version: int, graph: bytes = bytes(32)) -> Release:
    """A release of federation `m` with weights (P,) float32 and a grid of steps (T,)."""
    header = Header(
        federation="m",
        version=version,
        previous=GENESIS,
        graph=graph,
        weights=weights_hash(weights),
        created=0,
        expires=1,
        steps=steps,
        rule="r",
        figures={},
    )
    return Release(header, header_hash(header), weights)
