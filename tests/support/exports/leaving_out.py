# SPDX-License-Identifier: Apache-2.0
"""How many parameters an exporter has left in a file: all of them are to be trained.

Exporters fold normalisations into the layer before, and leave out the addition of a bias that is zero, as it is in many
layers of a fresh network.
"""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import onnx
from onnx import numpy_helper

FOLDED = ("BatchNorm", "InstanceNorm", "_WeightNorm")


def kept(net: Any, exact: Any, path: Path) -> int:
    """How many must be trained. `exact`: the same network, with gradients; what has none is not used."""
    folded = {id(p) for m in net.modules() if any(k in type(m).__name__ for k in FOLDED) for p in m.parameters()}
    folded |= {id(p) for n, p in net.named_parameters() if n.endswith("original0")}  # of weight normalisation
    both = zip(net.parameters(), exact.parameters(), strict=True)
    return sum(p.numel() for p, q in both if id(p) not in folded and q.grad is not None) - dropped(net, path)


def dropped(net: Any, path: Path) -> int:
    """How many zeros of the network no node of the file reads."""
    there, sizes = Counter[int](), _zeros(path)
    for tensor in (*net.parameters(), *net.buffers()):
        if tensor.is_floating_point() and not tensor.detach().any():
            there[tensor.numel()] += 1
    return sum(size * max(0, count - sizes[size]) for size, count in there.items())


def _zeros(path: Path) -> Counter[int]:
    """How often a tensor of zeros is read, by its size."""
    graph = onnx.load(path).graph
    arrays = {t.name: numpy_helper.to_array(t) for t in graph.initializer}
    zeros = {name: a.size for name, a in arrays.items() if a.dtype.kind == "f" and not a.any()}
    return Counter(zeros[n] for node in graph.node for n in node.input if n in zeros)
