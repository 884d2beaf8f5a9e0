# SPDX-License-Identifier: Apache-2.0
"""Optimisers over the flat parameter vector: one vectorised step, with state and scratch allocated once.

On small models a step costs calls, not arithmetic, so scalar factors are multiplied together first.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import numpy as np

from ..ops.operator import Array


class Optimizer(Protocol):
    """Changes parameters in place, given their gradient (which it may overwrite)."""

    def step(self, params: Array, grad: Array, rate: float) -> None:
        """Take one step at a learning rate; params and grad (P,)."""


class SGD:
    """Stochastic gradient descent with classical momentum (Polyak 1964)."""

    def __init__(self, size: int, momentum: float = 0.9) -> None:
        self._momentum = np.float32(momentum)
        self._velocity = np.zeros(size, np.float32)

    def step(self, params: Array, grad: Array, rate: float) -> None:
        """v = m v - r g; p += v."""
        velocity = self._velocity
        np.multiply(grad, np.float32(rate), out=grad)
        np.multiply(velocity, self._momentum, out=velocity)
        np.subtract(velocity, grad, out=velocity)
        np.add(params, velocity, out=params)


class Adam:
    """Adam (Kingma & Ba 2015); with `decay`, AdamW (Loshchilov & Hutter 2019).

    The moments are stored without their factors 1 - beta. These are combined with the bias corrections in the rate and
    the epsilon of each step.
    """

    def __init__(
        self, size: int, decay: float = 0.0, beta1: float = 0.9, beta2: float = 0.999, epsilon: float = 1e-8
    ) -> None:
        self._decay, self._beta1, self._beta2, self._epsilon = decay, beta1, beta2, epsilon
        self._mean, self._square = np.zeros(size, np.float32), np.zeros(size, np.float32)
        self._scratch = np.empty(size, np.float32)
        self._steps = 0

    def step(self, params: Array, grad: Array, rate: float) -> None:
        """Algorithm 1 of the paper, in the order of its section 2; the decay shrinks by rate * decay, first."""
        self._steps += 1
        mean, square, scratch = self._mean, self._square, self._scratch
        np.multiply(mean, np.float32(self._beta1), out=mean)
        np.add(mean, grad, out=mean)
        np.multiply(grad, grad, out=grad)
        np.multiply(square, np.float32(self._beta2), out=square)
        np.add(square, grad, out=square)
        first, second = 1 - self._beta1**self._steps, 1 - self._beta2**self._steps
        root = (second / (1 - self._beta2)) ** 0.5
        np.sqrt(square, out=scratch)
        np.add(scratch, np.float32(self._epsilon * root), out=scratch)
        np.divide(mean, scratch, out=scratch)
        np.multiply(scratch, np.float32(rate * root * (1 - self._beta1) / first), out=scratch)
        if self._decay:
            np.multiply(params, np.float32(1 - rate * self._decay), out=params)
        np.subtract(params, scratch, out=params)


# By its name in a configuration: (parameters, momentum, weight_decay) -> optimiser.
OPTIMIZERS: dict[str, Callable[[int, float, float], Optimizer]] = {
    "sgd": lambda size, momentum, decay: SGD(size, momentum),
    "adam": lambda size, momentum, decay: Adam(size),
    "adamw": lambda size, momentum, decay: Adam(size, decay),
}


def clip(grad: Array, norm: float) -> None:
    """Scale a gradient (P,) down to at most `norm` (Euclidean; Pascanu et al. 2013); 0: leave it."""
    if norm > 0 and (length := float(np.sqrt(np.dot(grad, grad)))) > norm:
        np.multiply(grad, np.float32(norm / length), out=grad)
