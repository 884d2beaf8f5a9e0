# SPDX-License-Identifier: Apache-2.0
"""The windows of a site's recordings: cut, standardised and excluded as a gateway does it.

Labels: class index, 0/1 for anomaly, -1 where a window has none of its own; targets for regress.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from fedge_agent.config.schema import Training
from fedge_agent.learning.training import Data, usable
from fedge_agent.samples.split import split
from fedge_agent.windows.features import Preparation
from fedge_models.graph.card import Card
from fedge_models.training import standardise
from numpy.typing import NDArray

from .recordings import Track

Floats = NDArray[np.float32]
Labels = NDArray[Any]  # int64, or float for regress


@dataclass(frozen=True)
class Windows:
    """Windows of one site: inputs, labels, the test part, and those that a gateway does not train on."""

    x: Floats  # (n, features) or, for raw windows, (n, channels, length)
    y: Labels  # (n,)
    test: NDArray[np.bool_]  # (n,)
    held: NDArray[np.bool_]  # (n,) held back to judge releases by, or straddling what is

    def part(self, test: bool) -> tuple[Floats, Labels]:
        """Inputs and labels of the test part, or of the training part."""
        chosen = self.test == test
        return self.x[chosen], self.y[chosen]


def windows(track: Track, card: Card, began_ns: int | None = None) -> Windows:
    """All windows of a track that lie within one segment and one part; features before standardisation.

    With the Unix time at which its replay began, those are held back which a gateway holds back by their time.
    """
    blocks = split(track.rate_hz, card.window.length, card.window.hop, Training().holdout)
    length_ns = round(card.window.length / track.rate_hz * 1e9)
    values, labels, tests, held = [], [], [], []
    for k, (start, stop) in enumerate(track.segments):
        for end in range(start + card.window.length, stop + 1, card.window.hop):
            piece = slice(end - card.window.length, end)
            parts, states = np.unique(track.part[piece]), np.unique(track.label[piece])
            if len(parts) > 1:
                continue
            values.append(track.values[:, piece])
            labels.append(states[0] if len(states) == 1 else -1)
            tests.append(parts[0] == 1)
            end_ns = (began_ns or 0) + round(track.seconds_at(end - 1, k) * 1e9)
            held.append(began_ns is not None and blocks.held(end_ns - length_ns, end_ns) is not False)
    x = Preparation(card)(np.stack(values))
    return Windows(x, np.array(labels, np.int64), np.array(tests, np.bool_), np.array(held, np.bool_))


def standardised(site: Windows, card: Card) -> Windows:
    """Standardise with the statistics of the site's own samples, held back or not (anomaly: the normal ones)."""
    keep = ~site.test & (site.y == 0 if card.task == "anomaly" else True)
    return replace(site, x=standardise.fit(site.x[keep], card)(site.x))


def trainable(site: Windows, card: Card) -> tuple[Floats, Labels]:
    """Return the windows that a gateway may train on."""
    keep = ~site.test & ~site.held
    data = usable(card.task, Data(site.x[keep], site.y[keep]), labelled=True)
    return data.x, data.y


def held_back(site: Windows, card: Card) -> Data:
    """Return the windows that a gateway holds back."""
    keep = ~site.test & site.held
    return usable(card.task, Data(site.x[keep], site.y[keep]), labelled=True)


def pooled(sites: Mapping[str, Windows]) -> Windows:
    """Pool all sites into one."""
    return Windows(
        np.concatenate([s.x for s in sites.values()]),
        np.concatenate([s.y for s in sites.values()]),
        np.concatenate([s.test for s in sites.values()]),
        np.concatenate([s.held for s in sites.values()]),
    )
