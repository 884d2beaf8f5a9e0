# SPDX-License-Identifier: Apache-2.0
"""The contract of an operator, and the node it is called with.

An operator is a function ``(node, *inputs) -> (output, backprop)``; ``backprop(dy)`` returns one gradient (or None) per
input, in order (as in thinc). With several outputs it returns a tuple of them, and its ``backprop`` takes a list with
None for unused ones. Arrays are float32 except where ONNX requires integers. An output may be one of the node's
buffers: it is valid until the same node runs again. `backprop` is called once.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NoReturn

import numpy as np
from numpy.typing import NDArray

from ..errors import ModelError
from .workspace import Workspace

Array = NDArray[np.float32]
Grads = Sequence["Array | None"]
Backprop = Callable[[Any], Grads]
Operator = Callable[..., tuple[Any, Backprop]]

MAX_VALUES = 1 << 28  # of one output: a gibibyte


class Node:
    """One node of the graph with its attributes, its buffers, and the places of its parameters' gradients.

    Buffers and plans are stored for the last two shapes: full batches, and the smaller last one of an epoch.
    """

    def __init__(
        self, name: str, op_type: str, inputs: Sequence[str], outputs: Sequence[str], attributes: dict[str, Any]
    ) -> None:
        self.name, self.op_type, self.inputs, self.outputs = name, op_type, tuple(inputs), tuple(outputs)
        self.attributes = attributes
        self.then: tuple[Node, ...] = ()  # nodes that are fused into this one (fusion.py)
        self.dtype: Any = np.float32  # of activations and gradients
        self.rng: np.random.Generator | None = None  # set in training, for operators that differ then
        self.updates_statistics = False  # BatchNormalization: train with the batch's own statistics (card)
        self.wanted: tuple[bool, ...] = ()  # per input: whether its gradient leads to a parameter
        self.targets: dict[int, Array] = {}  # input position -> view of the flat gradient vector
        self.cached: dict[Any, Any] = {}  # what an operator computes once for each sample shape
        self.workspace = Workspace()  # memory of activations and gradients; the nodes of a graph share one
        self._buffers: dict[str, list[Array]] = {}
        self._plans: list[tuple[tuple[int, ...], Any]] = []

    def attr(self, name: str, default: Any) -> Any:
        """Return an attribute, or the default that ONNX gives it."""
        return self.attributes.get(name, default)

    def refuse(self, what: str) -> NoReturn:
        """Raise ModelError: this node cannot run, and `what` says why."""
        raise ModelError(f"node {self.name!r} ({self.op_type}): {what}")

    def bound(self, count: int) -> None:
        """Raise ModelError when an output would have more than MAX_VALUES: a small file may ask for terabytes."""
        if count > MAX_VALUES:
            self.refuse(f"would make {count} values, expected at most {MAX_VALUES}")

    def needs(self, position: int) -> bool:
        """Whether the gradient of this input is used."""
        return self.wanted[position]

    def follows(self, op_type: str) -> Node | None:
        """The node of this operator type that is fused into this one, or None."""
        return next((node for node in self.then if node.op_type == op_type), None)

    def buffer(self, key: str, shape: tuple[int, ...]) -> Any:
        """Return a reused array of this shape with undefined contents."""
        found = self._find(key, shape)
        return found if found is not None else self._add(key, np.empty(shape, self.dtype))

    def like(self, key: str, x: Array, dtype: Any = None) -> Any:
        """Return a reused array of the shape and memory layout of x: channels-last stays channels-last."""
        found = self._find(key, x.shape)
        return found if found is not None else self._add(key, np.empty_like(x, dtype))

    def _find(self, key: str, shape: tuple[int, ...]) -> Any:
        for array in self._buffers.get(key, ()):
            if array.shape == shape:
                return array
        return None

    def _add(self, key: str, array: Any) -> Any:
        self._buffers[key] = [array, *self._buffers.get(key, ())][:2]
        return array

    def plan(self, shape: tuple[int, ...]) -> Any:
        """Return the plan stored for an input of this shape, or None."""
        for known, plan in self._plans:
            if known == shape:
                return plan
        return None

    def store_plan(self, shape: tuple[int, ...], plan: Any) -> Any:
        """Store an operator's plan (buffers and views of them) for inputs of this shape, and return it."""
        self._plans = [(shape, plan), *(p for p in self._plans if p[0] != shape)][:2]
        return plan

    def release(self) -> None:
        """Free buffers and plans."""
        self._buffers.clear()
        self._plans.clear()
        self.workspace.release()

    def gradient(self, position: int, shape: tuple[int, ...]) -> Array:
        """Return where to write the gradient of a parameter: the flat vector itself when no other node reads it."""
        target = self.targets.get(position)
        return target if target is not None else self.buffer(f"grad{position}", shape)
