# SPDX-License-Identifier: Apache-2.0
"""Find which element of a graph's flat vector is which element of which parameter of PyTorch."""

from __future__ import annotations

from collections.abc import Container
from typing import Any

import numpy as np
from fedge_models.graph.layout import Tensor
from fedge_models.graph.trainable import TrainableGraph
from numpy.typing import NDArray

from .by_value import by_value

MOST = 0.9  # of a tensor's values that must be found: folded ones hit others by chance
Rows = NDArray[Any]


def matched(graph: TrainableGraph, net: Any, exact: Any) -> tuple[NDArray[np.bool_], Rows]:
    """Return which elements (P,) are found, and the gradient of `exact`, the same network in float64, for them.

    By name where values and order agree; else by the value itself, where it occurs once on each side: exporters
    transpose weights, and join and reorder gates. What a weight is computed from is left out: it may have its values.
    """
    both = zip(net.named_parameters(), exact.parameters(), strict=True)
    pairs = {n: (p.detach().numpy().ravel(), _grad(q)) for (n, p), q in both if "parametrizations" not in n}
    values, grads = (np.concatenate(part) for part in zip(*pairs.values(), strict=True))
    ours = graph.params.astype(np.float32)
    place, known = by_value(values, ours)
    expected = np.where(known, grads[place], 0.0)
    for t in graph.layout:
        part = slice(t.start, t.stop)
        if t.name in pairs and np.array_equal(pairs[t.name][0], ours[part]):
            known[part], expected[part] = not _folded(graph, ours, t, pairs), pairs[t.name][1]
        elif known[part].mean() < MOST:
            known[part] = False
    return known, expected


def _folded(graph: TrainableGraph, ours: Rows, tensor: Tensor, named: Container[str]) -> bool:
    """Whether the exporter has made another tensor of its values: the first step of a loop whose state is zero."""
    others = [t for t in graph.layout if t.stop - t.start == tensor.stop - tensor.start and t.name not in named]
    return any(np.array_equal(ours[t.start : t.stop], ours[tensor.start : tensor.stop]) for t in others)


def _grad(parameter: Any) -> Rows:
    return np.zeros(parameter.numel()) if parameter.grad is None else parameter.grad.numpy().ravel()
