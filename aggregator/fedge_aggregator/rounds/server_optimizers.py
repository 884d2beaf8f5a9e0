# SPDX-License-Identifier: Apache-2.0
"""Server optimisers: the step that a round's aggregate leads to before it is released.

Pure: the state after the last round and the aggregate go in, the step and the next state come out. Both are in
parameter units; the aggregate is a difference of weights, so it points downhill. A state is a few float32 vectors (P,)
that start as zeros and can be stored as bytes. Reddi et al. 2021, algorithm 2; the adaptive ones have no bias
correction, as there.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Protocol

import msgspec
import numpy as np
from fedge_models.messages.quantize import Floats
from fedge_models.system import kinds
from msgspec import Meta

State = tuple[Floats, ...]
Rate = Annotated[float, Meta(gt=0, le=100)]
Decay = Annotated[float, Meta(ge=0, lt=1)]


class ServerOptimizer(Protocol):
    """A server optimiser with its parameters: a frozen struct, built from the configuration."""

    vectors: ClassVar[int]  # number of vectors in its state

    def step(self, state: State, aggregate: Floats) -> tuple[Floats, State]:
        """Return the step (P,) to add to the weights, and the next state; the arguments are not changed."""


def first_state(optimizer: ServerOptimizer, size: int) -> State:
    """Make the state before the first round, for `size` parameters."""
    return tuple(np.zeros(size, np.float32) for _ in range(optimizer.vectors))


class SGD(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The aggregate itself, times `rate`: FedAvg, McMahan et al. 2017."""

    vectors: ClassVar[int] = 0

    rate: Rate = 1.0

    def step(self, state: State, aggregate: Floats) -> tuple[Floats, State]:
        """rate * aggregate."""
        return np.float32(self.rate) * aggregate, ()


class FedAvgM(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Momentum at the server: Hsu, Qi & Brown 2019. A constant aggregate grows to 1 / (1 - momentum) times its size."""

    vectors: ClassVar[int] = 1

    rate: Rate = 1.0
    momentum: Decay = 0.9

    def step(self, state: State, aggregate: Floats) -> tuple[Floats, State]:
        """v = momentum * v + aggregate; rate * v."""
        velocity = np.float32(self.momentum) * state[0] + aggregate
        return np.float32(self.rate) * velocity, (velocity,)


class _Adaptive(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A step that each parameter scales by its past aggregates; `tau` bounds the scale where they are small."""

    vectors: ClassVar[int] = 2

    rate: Rate = 0.01
    beta1: Decay = 0.9
    tau: Annotated[float, Meta(gt=0, le=1)] = 1e-3

    def step(self, state: State, aggregate: Floats) -> tuple[Floats, State]:
        """m = beta1 * m + (1 - beta1) * aggregate; rate * m / (sqrt(v) + tau)."""
        beta1 = np.float32(self.beta1)
        mean = beta1 * state[0] + (1 - beta1) * aggregate
        square = self.second(state[1], aggregate * aggregate)
        return np.float32(self.rate) * mean / (np.sqrt(square) + np.float32(self.tau)), (mean, square)

    def second(self, before: Floats, squared: Floats) -> Floats:
        """v after an aggregate with the given squares."""
        raise NotImplementedError


class FedAdagrad(_Adaptive, frozen=True, forbid_unknown_fields=True):
    """FedAdagrad: Reddi et al. 2021. Its steps only shrink."""

    def second(self, before: Floats, squared: Floats) -> Floats:
        """v + aggregate²."""
        return before + squared


class FedAdam(_Adaptive, frozen=True, forbid_unknown_fields=True):
    """FedAdam: Reddi et al. 2021."""

    beta2: Decay = 0.99

    def second(self, before: Floats, squared: Floats) -> Floats:
        """beta2 * v + (1 - beta2) * aggregate²."""
        beta2 = np.float32(self.beta2)
        return beta2 * before + (1 - beta2) * squared


class FedYogi(_Adaptive, frozen=True, forbid_unknown_fields=True):
    """FedYogi: Reddi et al. 2021. Forgets a large aggregate more slowly than FedAdam."""

    beta2: Decay = 0.99

    def second(self, before: Floats, squared: Floats) -> Floats:
        """v - (1 - beta2) * aggregate² * sign(v - aggregate²)."""
        return before - np.float32(1 - self.beta2) * squared * np.sign(before - squared)


OPTIMIZERS: dict[str, type[Any]] = {
    "fedadagrad": FedAdagrad,
    "fedadam": FedAdam,
    "fedavgm": FedAvgM,
    "fedyogi": FedYogi,
    "sgd": SGD,
}


def build(table: Mapping[str, Any], where: str, key: str = "optimizer") -> ServerOptimizer:
    """Build an optimiser from its table, e.g. ``{name = "fedadam", rate = 0.01}``.

    Raises ConfigError for an unknown optimiser or parameter.
    """
    optimizer: ServerOptimizer = kinds.build(table, OPTIMIZERS, where, key)
    return optimizer
