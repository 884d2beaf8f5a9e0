"""What a site remembers of its last training on a federation: kept durably with the update, sent to nobody.

The residual is the update's error feedback (`quantize`); `own` are the tensors that stay here (`personal`); `movement`
is what the training did by itself, and `base` the weights it began with, for taking back the drift (`drift`).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import cbor2
import numpy as np
from fedge_models.errors import WireError
from fedge_models.graph.trainable import TrainableGraph
from fedge_models.messages.cbor import decode_cbor
from fedge_models.messages.quantize import Floats
from fedge_models.messages.release import Release
from fedge_models.training import drift, personal


@dataclass(frozen=True)
class Memory:
    """Of one federation and graph; empty before the first training."""

    residual: Floats  # (P,)
    own: Floats | None = None  # (what is local,)
    movement: Floats | None = None  # (P,)
    base: Floats | None = None  # (P,)
    version: int = 0  # of the base

    def correction(self, head: Release, share: float, mask: personal.Mask) -> Floats | None:
        """What to add over a training on `head`; None before there is anything to take back."""
        if not share or self.movement is None or self.base is None or head.header.version <= self.version:
            return None
        releases = head.header.version - self.version
        return drift.correction(self.movement, self.base, head.weights, releases, share, mask)

    def on(self, head: Release) -> Memory:
        """What holds for a training on `head`. On the same release once more, after an update that was refused,
        nothing is owed: what that update did not bring is learnt anew."""
        return self if self.version != head.header.version else replace(self, residual=np.zeros_like(self.residual))

    def encode(self) -> bytes:
        """As bytes."""
        arrays = [self.residual, self.own, self.movement, self.base]
        return cbor2.dumps([self.version, *(None if a is None else a.astype("<f4").tobytes() for a in arrays)])


def empty(graph: TrainableGraph) -> Memory:
    """Nothing remembered."""
    return Memory(np.zeros_like(graph.params))


def decode(data: bytes | None, graph: TrainableGraph, mask: personal.Mask) -> Memory:
    """From `Memory.encode`; what is damaged or does not fit the graph is as good as forgotten."""
    if data is None:
        return empty(graph)
    try:
        version, *parts = decode_cbor(data, "memory")
        residual, own, movement, base = (
            None if p is None else np.frombuffer(p, "<f4").astype(np.float32) for p in parts
        )
    except (WireError, ValueError, TypeError):
        return empty(graph)
    size = graph.params.size
    right = [a is None or len(a) == n for a, n in ((residual, size), (own, mask.sum()), (movement, size), (base, size))]
    if residual is None or not all(right) or not isinstance(version, int):
        return empty(graph)
    return Memory(residual, own, movement, base, version)
