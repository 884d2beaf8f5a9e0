"""The contract of an operator, and the node it is called with.

An operator is a function ``(node, *inputs) -> (output, backprop)``; ``backprop(dy)`` gives one gradient (or None) per
input, in order (the idea is thinc's). One with several outputs gives a tuple of them, and its ``backprop`` takes a list
with None for those that nobody used. Arrays are float32 except where ONNX wants integers. An output may live in one
of the node's buffers: it is valid until the same node runs again.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NoReturn

import numpy as np
from numpy.typing import NDArray

from ..errors import ModelError

Array = NDArray[np.float32]
Grads = Sequence["Array | None"]
Backprop = Callable[[Any], Grads]
Operator = Callable[..., tuple[Any, Backprop]]

MAX_VALUES = 1 << 28  # of one output: a gibibyte


class Node:
    """One node of the graph with its attributes, its buffers, and where its parameters' gradients belong.

    What it keeps for a shape it keeps for the last two shapes met: full batches and the smaller last one of an epoch.
    """

    def __init__(
        self, name: str, op_type: str, inputs: Sequence[str], outputs: Sequence[str], attributes: dict[str, Any]
    ) -> None:
        self.name, self.op_type, self.inputs, self.outputs = name, op_type, tuple(inputs), tuple(outputs)
        self.attributes = attributes
        self.then: tuple[Node, ...] = ()  # what followed in the graph and is done in the same go (fusion.py)
        self.dtype: Any = np.float32  # of activations and gradients
        self.rng: np.random.Generator | None = None  # for operators that behave otherwise in training
        self.updates_statistics = False  # BatchNormalization: in training by the batch's own statistics (card)
        self.wanted: tuple[bool, ...] = ()  # per input: does a gradient of it lead to a parameter?
        self.targets: dict[int, Array] = {}  # input position -> view of the flat gradient vector
        self.kept: dict[Any, Any] = {}  # what an operator works out once for each sample shape
        self._buffers: dict[str, list[Array]] = {}
        self._plans: list[tuple[tuple[int, ...], Any]] = []

    def attr(self, name: str, default: Any) -> Any:
        """An attribute, or ONNX's default for it."""
        return self.attributes.get(name, default)

    def refuse(self, what: str) -> NoReturn:
        """Raise ModelError: this node cannot be done."""
        raise ModelError(f"node {self.name!r} ({self.op_type}): {what}")

    def bound(self, count: int) -> None:
        """Raise ModelError when an output would have absurdly many values: a small file may ask for terabytes."""
        if count > MAX_VALUES:
            self.refuse(f"would make {count} values, expected at most {MAX_VALUES}")

    def needs(self, position: int) -> bool:
        """Whether the gradient of this input is used by anyone."""
        return self.wanted[position]

    def follows(self, op_type: str) -> Node | None:
        """The node of this kind that is done in the same go."""
        return next((node for node in self.then if node.op_type == op_type), None)

    def buffer(self, key: str, shape: tuple[int, ...]) -> Any:
        """A kept array of this shape with undefined contents."""
        found = self._find(key, shape)
        return found if found is not None else self._add(key, np.empty(shape, self.dtype))

    def like(self, key: str, x: Array, dtype: Any = None) -> Any:
        """A kept array of the shape of x that lies in memory as x does: channels-last stays channels-last."""
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
        """What `keep` was given for an input of this shape, or None."""
        for known, plan in self._plans:
            if known == shape:
                return plan
        return None

    def keep(self, shape: tuple[int, ...], plan: Any) -> Any:
        """Keep an operator's plan (buffers and views of them) for inputs of this shape."""
        self._plans = [(shape, plan), *(p for p in self._plans if p[0] != shape)][:2]
        return plan

    def release(self) -> None:
        """Give the memory of buffers and plans back."""
        self._buffers.clear()
        self._plans.clear()

    def gradient(self, position: int, shape: tuple[int, ...]) -> Array:
        """Where to write the gradient of a parameter: straight into the flat vector when nobody shares it."""
        target = self.targets.get(position)
        return target if target is not None else self.buffer(f"grad{position}", shape)
