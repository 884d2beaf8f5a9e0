# SPDX-License-Identifier: Apache-2.0
"""The parameters of a chain of dense layers in an order that needs no separate bias.

Each layer is one matrix (inputs + 1, outputs), the bias as its last row, so that one product gives weights and bias at
once: forwards of rows that end in a 1, and backwards for the gradient of both. The order on the wire stays that of the
graph; vectors are rearranged before and after training.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np

from ..graph.dense_chain import Layer
from ..ops.operator import Array


class DenseWeights:
    """Parameters and gradient (P,) of a chain, with each layer's matrix as a view into both."""

    def __init__(self, layers: Sequence[Layer], vector: Array, grad: Array) -> None:
        """vector (P,): parameters in the graph's order; grad (P,): memory for the gradient in the order of this."""
        self.layers = tuple(layers)
        self.params, self.grad = self.packed(vector), grad
        self.matrices, self.slopes = self._matrices(self.params), self._matrices(grad)

    def packed(self, vector: Array) -> Array:
        """Return a vector (P,) of the graph's order in the order of this."""
        own = np.empty_like(vector)
        for mine, theirs in self._pairs(own, vector):
            mine[...] = theirs
        return own

    def store(self, vector: Array) -> None:
        """Write the parameters into a vector (P,) of the graph's order."""
        for mine, theirs in self._pairs(self.params, vector):
            theirs[...] = mine

    def _pairs(self, own: Array, vector: Array) -> Iterator[tuple[Array, Array]]:
        """Views of the same tensor in both orders."""
        for layer, matrix in zip(self.layers, self._matrices(own), strict=True):
            weight = layer.weight.of(vector)
            yield matrix[: layer.inputs], weight.T if layer.swapped else weight
            if layer.bias is not None:
                yield matrix[layer.inputs], layer.bias.of(vector)

    def _matrices(self, own: Array) -> list[Array]:
        """Views (inputs, or inputs + 1 with a bias, outputs), one after the other."""
        views, start = [], 0
        for layer in self.layers:
            shape = (layer.inputs + (layer.bias is not None), layer.outputs)
            views.append(own[start : start + shape[0] * shape[1]].reshape(shape))
            start += shape[0] * shape[1]
        return views
