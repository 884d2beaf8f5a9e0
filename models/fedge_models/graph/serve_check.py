# SPDX-License-Identifier: Apache-2.0
"""Hold what NumPy trains against what ONNX Runtime serves: the same file, the same two samples, the same results.

A file that ONNX Runtime cannot run would train, and no gateway could decide with it. A difference between the two is a
fault of one of them, and training would work on another function than the one that decides.
"""

from __future__ import annotations

import numpy as np

from ..errors import ModelError
from .intake.runtime import close, run, samples, session
from .trainable import TrainableGraph

INPUT = "tensor(float)"


def check_served(data: bytes, graph: TrainableGraph, where: str) -> None:
    """Run two samples of the file in ONNX Runtime and in NumPy, together and alone.

    Raises ModelError when ONNX Runtime cannot run them, or when any results differ.
    """
    opened = session(data, where)
    given = opened.get_inputs()[0]
    if given.type != INPUT:
        raise ModelError(f"{where}: the input {given.name!r} is {given.type}, a gateway gives float32 ({INPUT})")
    x = samples(graph.input_shape, 2)
    both, one = (next(iter(run(opened, {given.name: part}, where).values())) for part in (x, x[:1]))
    with np.errstate(all="ignore"):
        trained = graph.forward(x).copy()
    graph.release()
    if not close(both[:1], one):
        raise ModelError(
            f"{where}: gives for two samples at once something else than for one of them alone: it mixes the samples "
            "of a batch, or is random. Export it for inference (net.eval()) and with a variable batch"
        )
    if not close(trained, both):
        apart = _apart(trained, both)
        raise ModelError(
            f"{where}: ONNX Runtime, which serves it, and NumPy, which trains it, differ for the same two samples: "
            f"{apart}. Please report it with the file; freeze the part of the graph that differs with --trainable"
        )


def _apart(one: np.ndarray, other: np.ndarray) -> str:
    if one.shape != other.shape:
        return f"shapes {other.shape} and {one.shape}"
    at = np.unravel_index(int(np.nanargmax(np.abs(one - other))), one.shape) if np.isfinite(one - other).any() else 0
    return f"{other[at]} and {one[at]}" if at else "values that are not finite"
