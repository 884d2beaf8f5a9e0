"""Optimisers over the flat parameter vector: one vectorised step, state and scratch allocated once."""

from __future__ import annotations

from typing import Protocol

import numpy as np

from .ops.operator import Array


class Optimizer(Protocol):
    """Changes parameters in place, given their gradient (which it may overwrite)."""

    def step(self, params: Array, grad: Array) -> None:
        """One step; params and grad (P,)."""


class SGD:
    """Stochastic gradient descent with classical momentum (Polyak 1964)."""

    def __init__(self, size: int, learning_rate: float, momentum: float = 0.9) -> None:
        self._rate, self._momentum = np.float32(learning_rate), np.float32(momentum)
        self._velocity = np.zeros(size, np.float32)

    def step(self, params: Array, grad: Array) -> None:
        """v = m v - r g; p += v."""
        grad *= self._rate
        self._velocity *= self._momentum
        self._velocity -= grad
        params += self._velocity


class Adam:
    """Adam (Kingma & Ba 2015), its bias corrections folded into the rate and epsilon of each step."""

    def __init__(
        self, size: int, learning_rate: float, beta1: float = 0.9, beta2: float = 0.999, epsilon: float = 1e-8
    ) -> None:
        self._rate, self._beta1, self._beta2, self._epsilon = learning_rate, beta1, beta2, epsilon
        self._mean, self._square = np.zeros(size, np.float32), np.zeros(size, np.float32)
        self._scratch = np.empty(size, np.float32)
        self._steps = 0

    def step(self, params: Array, grad: Array) -> None:
        """Algorithm 1 of the paper, in the order of its section 2."""
        self._steps += 1
        scratch = self._scratch
        self._mean *= np.float32(self._beta1)
        np.multiply(grad, np.float32(1 - self._beta1), out=scratch)
        self._mean += scratch
        self._square *= np.float32(self._beta2)
        np.multiply(grad, grad, out=scratch)
        scratch *= np.float32(1 - self._beta2)
        self._square += scratch
        root = (1 - self._beta2**self._steps) ** 0.5
        np.sqrt(self._square, out=scratch)
        scratch += np.float32(self._epsilon * root)
        np.divide(self._mean, scratch, out=scratch)
        scratch *= np.float32(self._rate * root / (1 - self._beta1**self._steps))
        params -= scratch


def build(name: str, size: int, learning_rate: float) -> Optimizer:
    """The optimiser by its configuration name. Raises ValueError for another name."""
    if name == "sgd":
        return SGD(size, learning_rate)
    if name == "adam":
        return Adam(size, learning_rate)
    raise ValueError(f"optimizer {name!r}: expected sgd or adam")


def clip(grad: Array, norm: float) -> None:
    """Scale a gradient down to at most `norm` (Euclidean; Pascanu et al. 2013); 0: leave it."""
    if norm > 0 and (length := float(np.sqrt(np.dot(grad, grad)))) > norm:
        grad *= np.float32(norm / length)
