# SPDX-License-Identifier: Apache-2.0
"""What a site carries over from one training to the next: stored with the update, never sent.

The residual is the error feedback of the update's coding (`quantize`). `own` are the tensors that stay at this site
(`personal`). `movement` is what the last training did by itself and `base` the weights it began with; together they
give the correction of the site's drift (`drift`).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import cbor2
import numpy as np
from fedge_models.errors import WireError
from fedge_models.graph.trainable import TrainableGraph
from fedge_models.messages.arrays import to_bytes, to_floats
from fedge_models.messages.cbor import decode_cbor
from fedge_models.messages.quantize import Floats
from fedge_models.messages.release import Release
from fedge_models.training import drift, personal


@dataclass(frozen=True, eq=False)
class CarryOver:
    """The carry-over of one federation and graph; before the first training everything in it is zero or None."""

    residual: Floats  # (P,)
    own: Floats | None = None  # (parameters that stay here,)
    movement: Floats | None = None  # (P,)
    base: Floats | None = None  # (P,)
    version: int = 0  # of the base

    def correction(self, release: Release, share: float, mask: personal.Mask) -> Floats | None:
        """What to add (P,) over a training on `release`; None before there is any drift to correct."""
        if not share or self.movement is None or self.base is None or release.header.version <= self.version:
            return None
        releases = release.header.version - self.version
        return drift.correction(self.movement, self.base, release.weights, releases, share, mask)

    def before_training_on(self, release: Release) -> CarryOver:
        """Return what holds for a training on `release`.

        A second training on the same release follows an update that was refused. Its residual is dropped: the new
        training learns again what that update did not deliver.
        """
        if self.version != release.header.version:
            return self
        return replace(self, residual=np.zeros_like(self.residual))

    def encode(self) -> bytes:
        """Encode for the spool."""
        arrays = [self.residual, self.own, self.movement, self.base]
        return cbor2.dumps([self.version, *(None if a is None else to_bytes(a) for a in arrays)])


def empty(graph: TrainableGraph) -> CarryOver:
    """The carry-over before the first training."""
    return CarryOver(np.zeros_like(graph.params))


def decode(data: bytes | None, graph: TrainableGraph, mask: personal.Mask) -> CarryOver:
    """Read what `CarryOver.encode` wrote; an empty one where there is none, or it is damaged or of another graph."""
    if data is None:
        return empty(graph)
    try:
        version, *parts = decode_cbor(data, "carry-over")
        residual, own, movement, base = (None if p is None else to_floats(p) for p in parts)
    except (WireError, ValueError, TypeError):
        return empty(graph)
    size = graph.params.size
    right = [a is None or len(a) == n for a, n in ((residual, size), (own, mask.sum()), (movement, size), (base, size))]
    if residual is None or not all(right) or not isinstance(version, int):
        return empty(graph)
    return CarryOver(residual, own, movement, base, version)
