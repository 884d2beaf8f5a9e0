# SPDX-License-Identifier: Apache-2.0
"""Optimisers over the flat parameter vector: one vectorised step, with state and scratch allocated once.

On small models a step costs calls, not arithmetic, so scalar factors are multiplied together first. They are arrays
without dimensions, which NumPy takes 150 ns faster than its scalars.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

import numpy as np

from ..ops.operator import Array

BLOCK = 1 << 17  # parameters at a time: with gradient, state and scratch they stay in the cache


class Optimizer(Protocol):
    """Changes parameters in place, given their gradient (which it may overwrite)."""

    def step(self, params: Array, grad: Array, rate: float) -> None:
        """Take one step at a learning rate; params and grad (P,)."""


class SGD:
    """Stochastic gradient descent with classical momentum (Polyak 1964)."""

    def __init__(self, size: int, momentum: float = 0.9) -> None:
        self._momentum, self._rate = np.array(momentum, np.float32), np.ones((), np.float32)
        self._velocity = np.zeros(size, np.float32)

    def step(self, params: Array, grad: Array, rate: float) -> None:
        """v = m v - r g; p += v. A rate of 1 costs no call: the gradient may have been multiplied before."""
        velocity = self._velocity
        if rate != 1:
            self._rate[...] = rate
            np.multiply(grad, self._rate, grad)
        np.multiply(velocity, self._momentum, velocity)
        np.subtract(velocity, grad, velocity)
        np.add(params, velocity, params)


class Adam:
    """Adam (Kingma & Ba 2015); with `decay`, AdamW (Loshchilov & Hutter 2019).

    The moments are stored without their factors 1 - beta. These are combined with the bias corrections in the rate and
    the epsilon of each step.
    """

    def __init__(
        self,
        size: int,
        decay: float = 0.0,
        beta1: float = 0.9,
        beta2: float = 0.999,
        epsilon: float = 1e-8,
        *,
        scratch: Array | None = None,
    ) -> None:
        self._decay, self._epsilon = decay, epsilon
        self._beta1, self._beta2 = beta1, beta2
        self._first, self._second = np.array(beta1, np.float32), np.array(beta2, np.float32)
        self._added, self._factor = np.zeros((), np.float32), np.zeros((), np.float32)
        self._mean, self._square = np.zeros(size, np.float32), np.zeros(size, np.float32)
        self._scratch = np.empty(size, np.float32) if scratch is None else scratch[:size]
        self._steps = 0

    def step(self, params: Array, grad: Array, rate: float) -> None:
        """Algorithm 1 of the paper, in the order of its section 2; the decay shrinks by rate * decay, first."""
        self._steps += 1
        mean, square, scratch = self._mean, self._square, self._scratch
        np.multiply(mean, self._first, mean)
        np.add(mean, grad, mean)
        np.multiply(grad, grad, grad)
        np.multiply(square, self._second, square)
        np.add(square, grad, square)
        first, second = 1 - self._beta1**self._steps, 1 - self._beta2**self._steps
        root = (second / (1 - self._beta2)) ** 0.5
        self._added[...] = self._epsilon * root
        self._factor[...] = rate * root * (1 - self._beta1) / first
        np.sqrt(square, scratch)
        np.add(scratch, self._added, scratch)
        np.divide(mean, scratch, scratch)
        np.multiply(scratch, self._factor, scratch)
        if self._decay:
            np.multiply(params, np.float32(1 - rate * self._decay), params)
        np.subtract(params, scratch, params)


class Blocked:
    """An optimiser of many parameters, block by block: all passes of a step over a block find it in the cache."""

    def __init__(self, size: int, make: Callable[[int], Optimizer]) -> None:
        self._parts = [(part, make(part.stop - part.start)) for part in blocks(size)]

    def step(self, params: Array, grad: Array, rate: float) -> None:
        """Take one step of each block."""
        for part, optimizer in self._parts:
            optimizer.step(params[part], grad[part], rate)


def blocks(size: int) -> list[slice]:
    """Return slices of at most BLOCK parameters."""
    return [slice(start, min(start + BLOCK, size)) for start in range(0, size, BLOCK)]


def _adam(size: int, decay: float) -> Optimizer:
    if size <= BLOCK:
        return Adam(size, decay)
    scratch = np.empty(BLOCK, np.float32)
    return Blocked(size, lambda part: Adam(part, decay, scratch=scratch))


def _sgd(size: int, momentum: float) -> Optimizer:
    return SGD(size, momentum) if size <= BLOCK else Blocked(size, lambda part: SGD(part, momentum))


# By its name in a configuration: (parameters, momentum, weight_decay) -> optimiser.
OPTIMIZERS: dict[str, Callable[[int, float, float], Optimizer]] = {
    "sgd": lambda size, momentum, decay: _sgd(size, momentum),
    "adam": lambda size, momentum, decay: _adam(size, 0.0),
    "adamw": lambda size, momentum, decay: _adam(size, decay),
}
LINEAR = ("sgd",)  # whose step is proportional to the gradient


def clip(grad: Array, norm: float) -> None:
    """Scale a gradient (P,) down to at most `norm` (Euclidean; Pascanu et al. 2013); 0: leave it."""
    if norm > 0 and (length := float(np.sqrt(np.dot(grad, grad)))) > norm:
        np.multiply(grad, np.float32(norm / length), out=grad)
