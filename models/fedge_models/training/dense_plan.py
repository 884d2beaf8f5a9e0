# SPDX-License-Identifier: Apache-2.0
"""All NumPy calls of a step through a chain of dense layers, bound to their buffers once for a batch size.

On small layers a step costs calls, not arithmetic: what is left between two calls is one turn of a loop. Hidden values
are (features + 1, rows), the last of them ones, so that a product with a layer's matrix adds the bias.
"""

from __future__ import annotations

from functools import partial

import numpy as np

from ..ops.operator import Array
from .dense_activations import ACTIVATIONS, Call
from .dense_weights import DenseWeights


class DensePlan:
    """Forward and backward calls for batches of `rows`."""

    def __init__(self, weights: DenseWeights, rows: int) -> None:
        last = weights.matrices[-1]
        self.slope: Array = np.empty((rows, last.shape[1]), last.dtype)  # of the loss by the output, before `backward`
        self._forwards: list[Call] = []
        self._backwards: list[Call] = []
        self._deep = len(weights.layers) > 1
        behind = self._connect(weights, rows) if self._deep else self.slope.T
        self._first_slope, self._first_grad, self._last = behind.T, weights.slopes[0], last

    def forward(self, x: Array, out: Array) -> None:
        """Write the output for x (rows, inputs + 1; inputs where the first layer has no bias) into out."""
        if not self._deep:
            x.dot(self._last, out)
            return
        self._enter(x.T, self._entered)
        for call in self._forwards:
            call()
        self._leave(self._last, out)

    def backward(self, x: Array) -> None:
        """Fill the gradient from `slope`; x: that of the last `forward`."""
        for call in self._backwards:
            call()
        x.T.dot(self._first_slope, self._first_grad)

    def _connect(self, weights: DenseWeights, rows: int) -> Array:
        """Bind all calls but those with x or the output; return the gradient (features, rows) by the first product."""
        layers, matrices, dtype = weights.layers, weights.matrices, self.slope.dtype
        hidden = [np.ones((layer.outputs + 1, rows), dtype) for layer in layers[:-1]]
        values = [h[:-1] for h in hidden]
        read = [h[: len(m)] for h, m in zip(hidden, matrices[1:], strict=True)]  # with the ones where there is a bias
        behind = self.slope.T
        for k in reversed(range(len(values))):
            slope = np.empty_like(values[k])
            forwards, backwards = ACTIVATIONS[layers[k].activation](values[k], slope)
            product = [partial(matrices[k].T.dot, read[k - 1], values[k])] if k else []
            self._forwards = [*product, *forwards, *self._forwards]
            self._backwards += [
                partial(read[k].dot, behind.T, weights.slopes[k + 1]),
                partial(matrices[k + 1][: len(slope)].dot, behind, slope),
                *backwards,
            ]
            behind = slope
        self._enter, self._entered, self._leave = matrices[0].T.dot, values[0], read[-1].T.dot
        return behind
