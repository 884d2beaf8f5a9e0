# SPDX-License-Identifier: Apache-2.0
"""An ONNX file as a trainable graph: its trainable initializers are views into one flat float32 vector.

`forward` computes what ONNX Runtime computes (up to rounding), `backward` fills the flat gradient. A file that cannot
be trained here, or states wrong sizes, is a ModelError naming node or tensor. Losses and optimisers, which work on
whole vectors, are in `training`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ..errors import ModelError
from ..ops.operator import Array, Node
from ..ops.registry import OPERATORS
from ..system.choices import hint
from ..system.malloc import LARGE_BYTES, give_back
from . import nodes, onnx_file
from .array_labels import unnamed
from .card import Card, read_card
from .dense_chain import Layer, dense_chain
from .execution import Execution, aim
from .fusion import fuse
from .layout import Tensor, layout, mask
from .notes import notes
from .probing import own_range
from .refusals import ONE_SAMPLE, refuse, variable_batch
from .trunk import Trunk, cut
from .untrained import is_untrained

if TYPE_CHECKING:
    import onnx


class TrainableGraph:
    """The graph of one ONNX file. Not thread-safe: one thread trains it."""

    def __init__(
        self, model: onnx.ModelProto, trainable: str | None, where: str, dtype: type[np.floating[Any]] = np.float32
    ) -> None:
        self.card: Card = read_card(model, where)
        self.notes: tuple[str, ...] = tuple(notes(model))  # what intake changed
        self.untrained = is_untrained(model)  # a starter whose weights were only drawn
        self._where, self._how = where, variable_batch(model.producer_name)
        stored = onnx_file.tensors(model)
        self.stored: frozenset[str] = frozenset(stored)  # names of all tensors of the file, frozen ones too
        nodes.check_order(model, stored, where)
        patterns, updated = trainable or self.card.trainable, self.card.batch_norm == "updated"
        names = nodes.chosen(model, patterns, updated, self.card.constants)
        if lost := nodes.without_gradient(model, patterns):
            why = "the output depends on it only by a shape, a size or steps"
            raise ModelError(f"{where}: initializer {lost[0]!r} cannot be trained: {why}; leave it out of trainable")
        if names and patterns == "*" and (layer := nodes.without_layers(model, names)) is not None:
            refuse("votes", where, name=layer.name or layer.op_type, op=layer.op_type)
        if model.producer_name == "skl2onnx" and patterns == "*" and not nodes.in_layers(model, names):
            refuse("fitted", where)
        if not names and (last := nodes.ending_in_steps(model)) is not None:
            refuse("steps", where, name=last.output[0], op=last.op_type)
        if not names:
            raise ModelError(
                f"{where}: no float initializer matches trainable {_unmatched(model, patterns, self.card)}"
            )
        self._take_ends(model, stored, where)
        slopes = nodes.sloped(model, names)
        if self._output not in slopes:
            raise ModelError(f"{where}: the output {self._output!r} does not depend on what is to be trained")
        parts = cut(model, nodes.led(model, names), OPERATORS, where)
        self.trunk = Trunk(parts, where) if parts is not None else None
        tail = nodes.build(model, names, slopes, parts.nodes if parts is not None else (), where)
        self.operators: tuple[str, ...] = tuple(n.op_type for n in tail)  # of the tail
        arrays = _arrays(stored, {n for node in tail for n in node.inputs}, set(names), dtype, where)
        self.layout: tuple[Tensor, ...] = layout(names, arrays)
        self.sizes: NDArray[np.int64] = np.array([t.stop - t.start for t in self.layout], np.int64)
        self.params: Array = np.empty(self.layout[-1].stop, dtype)
        for tensor in self.layout:  # each is freed at once: the weights of a large network fill much of a gateway
            tensor.of(self.params)[...] = arrays.pop(tensor.name)
        self.grad: Array = np.zeros_like(self.params)
        self.statistics = mask(self.layout, nodes.running_statistics(model)) if updated else None
        self._variances = nodes.running_statistics(model, nodes.VARIANCE)
        arrays |= {t.name: t.of(self.params) for t in self.layout}
        for node in tail:
            node.dtype, node.updates_statistics = dtype, updated
        tail = nodes.fold(tail, arrays, names, where)
        constants = nodes.constants_of(arrays, tail)
        tail = fuse(tail, constants, self._output)
        served = aim(tail, {t.name: t.of(self.grad) for t in self.layout})
        self._shared = [t for t in self.layout if t.name not in served]
        self.shared: tuple[str, ...] = nodes.shared(model, names)
        self._execution = Execution(tail, constants, self._output, where)
        self.chain: tuple[Layer, ...] = self._chain(tail)

    def _take_ends(self, model: onnx.ModelProto, stored: dict[str, onnx.TensorProto], where: str) -> None:
        """Read what goes in and comes out. Raises ModelError where that is not what the card promises."""
        self._input, self.input_shape = onnx_file.single(model.graph.input, stored, "input", where)
        self._output, self.output_shape = onnx_file.single(model.graph.output, {}, "output", where)
        if text := unnamed(self.card, self.output_shape):
            self.notes += (text,)
        self.range = own_range(model, self._input, self.input_shape)
        if self.card.task in ("classify", "multilabel") and self.output_shape != (len(self.card.labels),):
            wanted = f"one value for each of the {len(self.card.labels)} labels"
            raise ModelError(f"{where}: gives {self.output_shape} for a sample, the card promises {wanted}")

    @classmethod
    def load(
        cls,
        model: bytes,
        trainable: str | None = None,
        where: str = "model",
        *,
        schemas: bool = True,
        dtype: type[np.floating[Any]] = np.float32,
    ) -> TrainableGraph:
        """Parse an ONNX file; `trainable`: globs over initializer names, comma-separated (default: the card's).

        `schemas`: verify every node against the standard's schema, which takes 8 MiB of memory permanently. A gateway
        does without, because ONNX Runtime verifies what it serves; the graph must still be whole.
        `dtype`: float64 for checks of gradients.
        """
        proto = onnx_file.parse(model, where, schemas)
        try:
            graph = cls(proto, trainable, where, dtype)
        except (KeyError, IndexError, TypeError, ValueError) as e:
            raise ModelError(f"{where}: not a valid ONNX model: {type(e).__name__} {e}") from e
        del proto  # the file's weights were in memory twice
        if graph.trunk is not None or graph.params.nbytes >= LARGE_BYTES:
            give_back()
        return graph

    def _chain(self, tail: Sequence[Node]) -> tuple[Layer, ...]:
        """The layers, if from the input to the logits there is nothing but dense ones; else empty."""
        last, shapes = self._output, (self.input_shape, self.output_shape)
        if self.gives_probabilities:
            tail, last = tail[:-1], tail[-1].inputs[0]
        return () if self.trunk is not None else dense_chain(tail, self.layout, (self._input, last), shapes)

    def set_params(self, vector: Array) -> None:
        """Copy a flat vector (P,) into the parameters."""
        self.params[...] = vector

    @property
    def gives_probabilities(self) -> bool:
        """Whether a classifier's output is the result of a Softmax; training uses what goes into it."""
        return self.card.task == "classify" and self._execution.ends_in_softmax

    def forward(self, x: Array) -> Array:
        """Return the output for x (batch, *input_shape), valid until the next call; stores what `backward` needs."""
        return self._run(x, False)

    def logits(self, x: Array) -> Array:
        """As `forward`, but without a classifier's final Softmax: the input of cross entropy."""
        return self._run(x, self.gives_probabilities)

    def backward(self, dy: Array) -> None:
        """Fill `grad` (P,) with the gradient of a loss whose gradient by the last output is `dy`."""
        found = self._execution.backward(dy)
        for tensor in self._shared:
            part = self.grad[tensor.start : tensor.stop]
            part[...] = found[tensor.name].ravel() if tensor.name in found else 0

    def training(self, rng: np.random.Generator | None) -> None:
        """Switch to training, with the random generator of Dropout, or (None) back to inference."""
        self._execution.training(rng)

    def release(self) -> None:
        """Free the memory of activations and gradients until the next run."""
        self._execution.release()

    def _run(self, x: Array, logits: bool) -> Array:
        feeds = {self._input: x.astype(self.params.dtype, copy=False)}
        if self.trunk is not None:
            feeds.update(zip(self.trunk.outputs, self.trunk(x), strict=True))
        return self._execution.forward(feeds, logits)

    def initializers(self, params: Array) -> dict[str, Array]:
        """Return the trainable tensors by name, from a flat vector (P,), as initializers for ONNX Runtime.

        A running variance is raised to 0 where averaged 8-bit steps made it negative, which happens when channels
        differ much.
        """
        arrays = {t.name: t.of(params) for t in self.layout}
        return {n: np.maximum(a, 0) if n in self._variances else a for n, a in arrays.items()}

    def probe(self) -> None:
        """Run two samples forwards and backwards. Raises ModelError for a graph that cannot run as it claims."""
        try:
            y = self._tried(2)
        except (ModelError, *nodes.TROUBLE) as e:
            if self._runs_one():
                why = str(e).removeprefix(f"{self._where}: ")
                raise ModelError(f"{self._where}: {ONE_SAMPLE.format(why=why, how=self._how)}") from e
            if isinstance(e, ModelError):
                raise
            raise ModelError(f"{self._where}: cannot be trained here: {e}") from e
        if y.shape != (2, *self.output_shape):
            raise ModelError(f"{self._where}: gives {y.shape} for two samples, but claims (2, {self.output_shape})")

    def _tried(self, samples: int) -> Array:
        """Run zeros forwards and backwards and return the output."""
        with np.errstate(all="ignore"):
            y = self.forward(np.zeros((samples, *self.input_shape), self.params.dtype))
            self.backward(np.zeros_like(y))
        return y

    def _runs_one(self) -> bool:
        try:
            return len(self._tried(1)) == 1
        except (ModelError, *nodes.TROUBLE):
            return False


def _unmatched(model: onnx.ModelProto, patterns: str, card: Card) -> str:
    """Patterns that match nothing, with what they may mean."""
    fixed = f"; {', '.join(card.constants)}: only by exact name" if card.constants else ""
    every = nodes.chosen(model, "*", card.batch_norm == "updated", card.constants) if patterns != "*" else []
    return f"{patterns!r}{fixed}{f'; {hint(patterns, every)}' if every else ''}"


def _arrays(
    stored: dict[str, onnx.TensorProto], read: set[str], trained: set[str], dtype: type[np.floating[Any]], where: str
) -> dict[str, Any]:
    """Return the tensors that are read or trained, floats as `dtype`. The others (the trunk's) are only checked."""
    arrays = {}
    for name, tensor in stored.items():
        values = onnx_file.array(name, tensor, where, finite=name in trained)
        if name in read or name in trained:
            arrays[name] = values.astype(dtype) if values.dtype == np.float32 else values
    return arrays
