"""An ONNX file as a trainable graph: its trainable initializers are views into one flat float32 vector.

Promises that `forward` computes what ONNX Runtime computes (to rounding), that `backward` fills the flat gradient, and
that a file which cannot be trained here, or lies about its sizes, is a ModelError naming node or tensor. Leaves the
loss to `losses.py` and the optimiser to `optimizers.py`, which both work on whole vectors.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from .card import Card, read_card
from .errors import ModelError, first_line
from .ops.operator import Array, Backprop, Node
from .ops.registry import OPERATORS

if TYPE_CHECKING:
    import onnx

MAX_MODEL_BYTES = 256 * 1024 * 1024
MIN_OPSET = 13  # from here on, axes and sizes are inputs


class Tensor(NamedTuple):
    """A trainable initializer and its place in the flat vector."""

    name: str
    shape: tuple[int, ...]
    start: int
    stop: int


class TrainableGraph:
    """The graph of one ONNX file. Not thread-safe: one thread trains it."""

    def __init__(
        self, model: onnx.ModelProto, trainable: str | None, where: str, dtype: type[np.floating[Any]] = np.float32
    ) -> None:
        self.card: Card = read_card(model, where)
        self._model = model
        arrays = _initializers(model, where)
        stored = [t.name for t in model.graph.initializer]
        chosen = [n for n in stored if _matches(n, arrays[n], trainable or self.card.trainable)]
        if not chosen:
            raise ModelError(f"{where}: no float initializer matches trainable {trainable or self.card.trainable!r}")
        self.layout = _layout(chosen, arrays)
        self.sizes: NDArray[np.int64] = np.array([t.stop - t.start for t in self.layout], np.int64)
        self.params: Array = np.concatenate([arrays[t.name].ravel() for t in self.layout]).astype(dtype)
        self.grad: Array = np.zeros_like(self.params)
        views = {t.name: self.params[t.start : t.stop].reshape(t.shape) for t in self.layout}
        others = {n: a.astype(dtype) if a.dtype == np.float32 else a for n, a in arrays.items() if n not in views}
        self._constants = {**others, **views}
        self._input, self.input_shape = _single(model.graph.input, arrays, "input", where)
        self._output, self.output_shape = _single(model.graph.output, {}, "output", where)
        self._nodes = _nodes(model, self._constants, set(views), where)
        if self._output not in {name for n in self._nodes for name in n.outputs}:
            raise ModelError(f"{where}: no node writes the output {self._output!r}")
        for node in self._nodes:
            node.dtype = dtype
        self._direct = self._aim()
        self._tape: list[tuple[Node, Backprop]] = []

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

        `schemas`: verify every node against the standard's schema, which costs 8 MiB of memory for good. Without it
        (on a gateway, where ONNX Runtime verifies once more what it serves) the graph must still be whole.
        `dtype`: float64 to check gradients by.
        """
        proto = parse(model, where, schemas)
        try:
            return cls(proto, trainable, where, dtype)
        except (KeyError, IndexError, TypeError, ValueError) as e:
            raise ModelError(f"{where}: not a valid ONNX model: {type(e).__name__} {e}") from e

    def set_params(self, vector: Array) -> None:
        """Copy a flat vector (P,) into the parameters."""
        self.params[...] = vector

    def forward(self, x: Array) -> Array:
        """Output for x (batch, *input_shape); remembers what `backward` needs. Valid until the next call."""
        values: dict[str, Any] = {**self._constants, self._input: x}
        tape = self._tape
        tape.clear()
        for node in self._nodes:
            y, backprop = OPERATORS[node.op_type](node, *[values[n] if n else None for n in node.inputs])
            if len(node.outputs) == 1:
                values[node.outputs[0]] = y
            else:
                values.update(zip(node.outputs, y, strict=True))
            if any(node.wanted):
                tape.append((node, backprop))
        return values[self._output]

    def backward(self, dy: Array) -> None:
        """Fill `grad` with the gradient of a loss whose gradient by the last output is `dy`."""
        grads: dict[str, Array] = {self._output: dy}
        for node, backprop in reversed(self._tape):
            upstream = [grads.pop(name, None) for name in node.outputs]
            if all(dy is None for dy in upstream):
                continue
            for position, grad in enumerate(backprop(upstream if len(upstream) > 1 else upstream[0])):
                if grad is None or not node.wanted[position] or grad is node.targets.get(position):
                    continue
                name = node.inputs[position]
                grads[name] = grads[name] + grad if name in grads else grad
        for tensor in self.layout:
            if tensor.name not in self._direct:
                part = self.grad[tensor.start : tensor.stop]
                part[...] = grads[tensor.name].ravel() if tensor.name in grads else 0

    def training(self, rng: np.random.Generator | None) -> None:
        """Whether what follows is training, with the generator that Dropout draws from, or (None) not."""
        for node in self._nodes:
            node.rng = rng

    def initializers(self, params: Array) -> dict[str, Array]:
        """The trainable tensors by name, from a flat vector: what ONNX Runtime gets as new initializers."""
        return {t.name: params[t.start : t.stop].reshape(t.shape) for t in self.layout}

    def model_bytes(self, params: Array) -> bytes:
        """A servable ONNX file with these weights."""
        from onnx import ModelProto, numpy_helper  # noqa: PLC0415

        copy = ModelProto()
        copy.CopyFrom(self._model)
        arrays = self.initializers(params)
        for initializer in copy.graph.initializer:
            if initializer.name in arrays:
                initializer.CopyFrom(numpy_helper.from_array(arrays[initializer.name], initializer.name))
        return copy.SerializeToString()

    def _aim(self) -> set[str]:
        """Let operators that can write gradients in place do so; returns the parameters so served."""
        users: dict[str, int] = {}
        for node in self._nodes:
            for name in node.inputs:
                users[name] = users.get(name, 0) + 1
        places = {t.name: self.grad[t.start : t.stop].reshape(t.shape) for t in self.layout}
        served = set()
        for node in self._nodes:
            for position, name in enumerate(node.inputs):
                in_place = position == 1 or (position == 2 and places.get(name, self.grad).ndim == 1)
                if name in places and users[name] == 1 and node.op_type in ("Gemm", "Conv") and in_place:
                    if position == 2 and node.attr("beta", 1.0) != 1.0:
                        continue
                    node.targets[position] = places[name]
                    served.add(name)
        return served


def parse(data: bytes, where: str, schemas: bool = True) -> onnx.ModelProto:
    """The checked ONNX model. Raises ModelError for anything that is not one, whole and self-contained."""
    import onnx  # noqa: PLC0415
    from google.protobuf.message import DecodeError  # noqa: PLC0415

    if len(data) > MAX_MODEL_BYTES:
        raise ModelError(f"{where}: has {len(data)} bytes, expected at most {MAX_MODEL_BYTES}")
    model = onnx.ModelProto()
    try:
        model.ParseFromString(data)
    except DecodeError as e:
        raise ModelError(f"{where}: not an ONNX file: {e}") from e
    for tensor in model.graph.initializer:
        if tensor.data_location == onnx.TensorProto.EXTERNAL:
            raise ModelError(
                f"{where}: tensor {tensor.name!r} is stored outside the file; save it with all data inside"
            )
        claimed = math.prod(tensor.dims) if all(d >= 0 for d in tensor.dims) else -1
        if not 0 <= claimed <= MAX_MODEL_BYTES:
            raise ModelError(f"{where}: tensor {tensor.name!r} claims the shape {list(tensor.dims)}")
    opset = max([o.version for o in model.opset_import if o.domain in ("", "ai.onnx")], default=0)
    if opset < MIN_OPSET:
        raise ModelError(f"{where}: has opset {opset}, expected {MIN_OPSET} or newer; export it again")
    if not schemas:
        return model
    try:
        onnx.checker.check_model(model)
    except (onnx.checker.ValidationError, ValueError) as e:
        raise ModelError(f"{where}: not a valid ONNX model: {first_line(e)}") from e
    return model


def _initializers(model: onnx.ModelProto, where: str) -> dict[str, NDArray[Any]]:
    """Every constant of the graph: initializers and Constant nodes."""
    from onnx import numpy_helper  # noqa: PLC0415

    found = {}
    constants = [(n.output[0], a.t) for n in model.graph.node if n.op_type == "Constant" for a in n.attribute]
    for name, tensor in [*((t.name, t) for t in model.graph.initializer), *constants]:
        try:
            array = numpy_helper.to_array(tensor)
        except (ValueError, TypeError) as e:
            raise ModelError(f"{where}: tensor {name!r} does not hold what its shape claims: {e}") from e
        if array.dtype.kind == "f" and not np.isfinite(array).all():
            raise ModelError(f"{where}: tensor {name!r} has a value that is not finite")
        found[name] = array
    return found


def _matches(name: str, array: NDArray[Any], patterns: str) -> bool:
    """Whether a tensor is to be trained. Exporters keep bounds and exponents as scalars: no glob means those."""
    globs = [p.strip() for p in patterns.split(",")]
    meant = name in globs or (array.ndim > 0 and any(fnmatchcase(name, glob) for glob in globs))
    return array.dtype == np.float32 and meant


def _layout(names: Sequence[str], arrays: dict[str, NDArray[Any]]) -> tuple[Tensor, ...]:
    stops = np.cumsum([arrays[n].size for n in names]).tolist()
    return tuple(Tensor(n, arrays[n].shape, stop - arrays[n].size, stop) for n, stop in zip(names, stops, strict=True))


def _single(values: Any, constants: dict[str, Any], kind: str, where: str) -> tuple[str, tuple[int, ...]]:
    """Name and shape (without batch) of the graph's only input or output."""
    real = [v for v in values if v.name not in constants]
    if len(real) != 1:
        raise ModelError(f"{where}: has {len(real)} {kind}s ({', '.join(v.name for v in real)}), expected exactly one")
    dims = real[0].type.tensor_type.shape.dim
    shape = tuple(int(d.dim_value) for d in dims[1:])
    if not shape or 0 in shape:
        raise ModelError(f"{where}: {kind} {real[0].name!r} needs fixed dimensions after the batch, got {shape}")
    return real[0].name, shape


def _nodes(model: onnx.ModelProto, constants: dict[str, Any], trainable: set[str], where: str) -> list[Node]:
    from onnx import helper  # noqa: PLC0415

    ready = {*constants, *(i.name for i in model.graph.input), ""}
    read = {n for proto in model.graph.node for n in proto.input} | {o.name for o in model.graph.output}
    nodes, led = [], set(trainable)  # `led`: names through which a gradient reaches a parameter
    for i, proto in enumerate(model.graph.node):
        if proto.op_type == "Constant":
            continue
        name = proto.name or f"{proto.op_type}_{i}"
        outputs = [o for k, o in enumerate(proto.output) if k == 0 or o in read or proto.op_type == "Split"]
        several = len(outputs) > 1 and proto.op_type != "Split"
        if proto.op_type not in OPERATORS or several or proto.domain not in ("", "ai.onnx"):
            raise ModelError(_refusal(name, proto, trainable, where))
        if missing := [n for n in proto.input if n not in ready]:
            raise ModelError(f"{where}: node {name!r} reads {missing[0]!r}, which nothing before it writes")
        ready.update(outputs)
        attributes = {a.name: helper.get_attribute_value(a) for a in proto.attribute}
        node = Node(name, proto.op_type, proto.input, outputs, attributes)
        node.wanted = tuple(n in led for n in node.inputs)
        if any(node.wanted):
            led.update(outputs)
        nodes.append(node)
    return nodes


def _refusal(name: str, proto: Any, trainable: set[str], where: str) -> str:
    own = sorted(set(proto.input) & trainable)
    hint = f"freeze its parameters ({', '.join(own)}) and everything before it" if own else "train only what follows it"
    return f"{where}: node {name!r} ({proto.op_type}) has no gradient here; {hint}, or export without it"
