# SPDX-License-Identifier: Apache-2.0
"""Find the node at which the samples of a batch meet: what it gives for two is not what it gives for each, together."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ...errors import ModelError
from ..closeness import apart, close
from .runtime import trace

if TYPE_CHECKING:
    import onnx


def first_mixing(
    model: onnx.ModelProto, name: str, parts: list[NDArray[np.float32]], where: str
) -> onnx.NodeProto | None:
    """The first node whose result is not made of the results for the parts; None where none can be told."""
    try:
        joint = trace(model, {name: np.concatenate(parts)}, where)
        alone = [trace(model, {name: part}, where) for part in parts]
    except ModelError:
        return None
    for node in model.graph.node:
        if any(n and _mixes(joint[n], [a[n] for a in alone]) for n in node.output):
            return node
    return None


def _mixes(joint: NDArray[np.generic], alone: list[NDArray[np.generic]]) -> bool:
    """Whether floats are neither the same for all samples nor those of each, in whatever order."""
    if joint.dtype.kind != "f":
        return False
    same = all(a.shape == alone[0].shape for a in alone)
    between = apart(np.stack(alone)).max(initial=0, keepdims=True).ravel() if same else np.zeros(1)
    if all(close(a, joint, between) for a in alone):
        return False
    return not close(np.sort(joint, axis=None), np.sort(np.concatenate([a.ravel() for a in alone])), between)
