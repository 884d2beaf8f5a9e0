# SPDX-License-Identifier: Apache-2.0
"""Windows of cosines that exporters compute for spectra (Harris 1978): constants, without a gradient."""

from __future__ import annotations

from typing import Any

import numpy as np

from ..protos import DOUBLE, FLOAT
from .arithmetic import no_gradient
from .operator import Array, Backprop, Node, Operator


def cosines(*weights: float) -> Operator:
    """Make the operator for a sum of cosines of rising frequency, periodic or symmetric."""

    def run(node: Node, size: Any) -> tuple[Array, Backprop]:
        count = int(np.asarray(size).reshape(()))
        node.bound(count)
        wanted = node.attr("output_datatype", FLOAT)
        if wanted not in (FLOAT, DOUBLE):
            node.refuse(f"type {wanted} is not supported; expected float or double")
        span = count if node.attr("periodic", 1) else max(1, count - 1)
        angle = 2 * np.pi * np.arange(count) / span
        y = np.add.reduce([w * np.cos(k * angle) for k, w in enumerate(weights)])
        return y.astype(node.dtype if wanted == FLOAT else np.float64), no_gradient

    return run
