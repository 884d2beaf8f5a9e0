# SPDX-License-Identifier: Apache-2.0
"""Hold what NumPy trains against what ONNX Runtime serves: the same file, the same samples, the same results.

A file that ONNX Runtime cannot run would train, and no gateway could decide with it. A difference between the two is a
fault of one of them, and training would work on another function than the one that decides.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import ModelError
from .closeness import OTHER_RUNTIME, apart, close, differ
from .intake.runtime import run, session
from .probing import tries
from .trainable import TrainableGraph

INPUT = "tensor(float)"


def check_served(data: bytes, graph: TrainableGraph, where: str) -> None:
    """Run two samples of the file in ONNX Runtime and in NumPy, together and alone; others where these give the same.

    Raises ModelError when ONNX Runtime cannot run them, or when any results differ.
    """
    opened = session(data, where)
    given = opened.get_inputs()[0]
    if given.type != INPUT:
        raise ModelError(f"{where}: the input {given.name!r} is {given.type}, a gateway gives float32 ({INPUT})")
    every = (x for (x,) in tries(graph.input_shape, 2, (0,), graph.range))
    x = next(every)
    results = _results(opened, given.name, x, where)
    _check(*results, x, graph, where)
    for x in every if not differ(results[0]) else ():
        try:
            results = _results(opened, given.name, x, where)
        except ModelError:  # it takes no such values
            continue
        _check(*results, x, graph, where)


def _results(opened: Any, name: str, x: NDArray[np.float32], where: str) -> tuple[NDArray[Any], NDArray[Any]]:
    """What ONNX Runtime gives for two samples at once, and for the first of them alone."""
    both, one = (next(iter(run(opened, {name: part}, where).values())) for part in (x, x[:1]))
    return both, one


def _check(both: NDArray[Any], one: NDArray[Any], x: NDArray[np.float32], graph: TrainableGraph, where: str) -> None:
    """Hold these results against each other, and against those of NumPy. Raises ModelError."""
    with np.errstate(all="ignore"):
        trained = graph.forward(x).copy()
    graph.release()
    if not close(one, both[:1], apart(both)):
        raise ModelError(
            f"{where}: gives for two samples at once something else than for one of them alone: it mixes the samples "
            "of a batch, or is random. Export it for inference (net.eval()) and with a variable batch"
        )
    if not close(trained, both, within=OTHER_RUNTIME):
        differing = _differing(trained, both)
        raise ModelError(
            f"{where}: ONNX Runtime, which serves it, and NumPy, which trains it, differ for the same two samples: "
            f"{differing}. Please report it with the file; freeze the part of the graph that differs with --trainable"
        )


def _differing(one: np.ndarray, other: np.ndarray) -> str:
    if one.shape != other.shape:
        return f"shapes {other.shape} and {one.shape}"
    at = np.unravel_index(int(np.nanargmax(np.abs(one - other))), one.shape) if np.isfinite(one - other).any() else 0
    return f"{other[at]} and {one[at]}" if at else "values that are not finite"
