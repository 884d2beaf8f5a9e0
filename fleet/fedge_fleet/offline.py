"""What the sites' data allows, worked out by hand with the very code that gateways run: windows, features,
standardisation, training, and the int8 coding in between.

The demo draws its comparison lines from here (each site alone, everything pooled), and `benchmarks/accuracy.py` its
tables. Labels: class index, or 0/1 for anomaly; -1 where a window has none of its own.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from fedge_agent.features import extract_many
from fedge_models.card import Card
from numpy.typing import NDArray

from .recordings import Track

Floats = NDArray[np.float32]
Ints = NDArray[np.int64]


@dataclass(frozen=True)
class Windows:
    """Windows of one site: features before standardisation, labels, and which belong to the test part."""

    x: Floats  # (n, features) or, for raw windows, (n, channels, length)
    y: Ints  # (n,)
    test: NDArray[np.bool_]  # (n,)

    def part(self, test: bool) -> tuple[Floats, Ints]:
        """Inputs and labels of the test part, or of the training part."""
        chosen = self.test == test
        return self.x[chosen], self.y[chosen]


def windows(track: Track, card: Card) -> Windows:
    """All windows of a track that lie within one segment and one part."""
    values, labels, tests = [], [], []
    for start, stop in track.segments:
        for end in range(start + card.window.length, stop + 1, card.window.hop):
            piece = slice(end - card.window.length, end)
            parts, states = np.unique(track.part[piece]), np.unique(track.label[piece])
            if len(parts) > 1:
                continue
            values.append(track.values[:, piece])
            labels.append(states[0] if len(states) == 1 else -1)
            tests.append(parts[0] == 1)
    x = extract_many(np.stack(values), card.features)
    return Windows(x, np.array(labels, np.int64), np.array(tests, np.bool_))


@dataclass(frozen=True)
class Scale:
    """Site-wise standardisation, as `fedge_agent.samples` fits it."""

    mean: Floats
    scale: Floats

    def __call__(self, x: Floats) -> Floats:
        """Standardised inputs, same shape."""
        return ((x - self.mean) / self.scale).astype(np.float32)


def pooled(sites: Mapping[str, Windows]) -> Windows:
    """All sites as one."""
    return Windows(
        np.concatenate([s.x for s in sites.values()]),
        np.concatenate([s.y for s in sites.values()]),
        np.concatenate([s.test for s in sites.values()]),
    )
