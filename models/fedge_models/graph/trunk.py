# SPDX-License-Identifier: Apache-2.0
"""Run the frozen trunk of a graph, everything before the first trainable node, in ONNX Runtime, and cache its output.

Each sample passes the trunk once as long as its activations fit the cache, for epochs, evaluations and canaries alike.
The cache stays within its bytes; the oldest samples leave first. A sample is identified by the hash of its values, so
after a new standardisation it is a new sample. Features from a frozen trunk: Donahue et al. 2014 (DeCAF).
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Collection, Mapping
from hashlib import blake2b
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from ..errors import ModelError
from ..ops.operator import Array
from ..protos import DOUBLE, FLOAT, FLOAT16, as_initializer, messages, value_info
from ..system.malloc import give_back
from .nodes import alive
from .onnx_file import tensors
from .refusals import ONE_SAMPLE, variable_batch
from .served_errors import Fault, explained, fault

if TYPE_CHECKING:
    import onnx

CACHE_BYTES = 32 * 1024 * 1024
HEAVY = ("Attention", "Conv", "ConvTranspose", "Einsum", "GRU", "Gemm", "LSTM", "MatMul", "RNN")
CHUNK = 4  # samples per run of the session, to bound its memory; more are no faster
CONTROL_FLOW = ("If", "Loop", "Scan")  # might never end
MAKES_INTEGERS = ("Shape", "Size", "ArgMax", "ArgMin", "NonZero")
MAKES_TRUTH = ("Equal", "Greater", "GreaterOrEqual", "Less", "LessOrEqual", "IsNaN", "IsInf", "And", "Or", "Xor", "Not")
LIKE = {"Where": 1, "CastLike": 1, "OneHot": 2}  # the input whose type the output has; others: the first
POSITIONS = ("TopK", "MaxPool")  # that the second output gives


class Cut(NamedTuple):
    """Where a graph is split: its trunk as a model of its own, and the activations that the tail reads."""

    model: bytes | bytearray
    nodes: frozenset[int]  # positions in the graph of the trunk's nodes
    operators: tuple[str, ...]
    parameters: int
    input: str
    outputs: tuple[str, ...]
    producer: str  # who wrote the file


def cut(model: onnx.ModelProto, led: set[str], trainable_ops: Collection[str], where: str) -> Cut | None:
    """Split a model before the first trainable node; None when no trunk deserves a session of its own.

    led: every name through which a gradient reaches a parameter. A trunk deserves it when it has a layer, or an
    operator that is not among the `trainable_ops`; a factor or a shape does not. Raises ModelError for control flow.
    """
    graph = model.graph
    living = {i: graph.node[i] for i in sorted(alive(model))}
    frozen = {i: n for i, n in living.items() if not led & {*n.output}}
    if not any(n.op_type not in trainable_ops or n.op_type in HEAVY for n in frozen.values()):
        return None
    if loops := [n for n in frozen.values() if n.op_type in CONTROL_FLOW]:
        raise ModelError(f"{where}: node {loops[0].name!r} ({loops[0].op_type}): control flow is not supported")
    given = next(v.name for v in graph.input if v.name not in {t.name for t in graph.initializer})
    _leave_integers(graph, frozen, tensors(model))
    made = {o for n in frozen.values() for o in n.output}
    rest = [n for i, n in living.items() if i not in frozen]
    outputs = tuple(dict.fromkeys(name for n in rest for name in n.input if name in made))
    operators = tuple(n.op_type for n in frozen.values())
    part, parameters = _extract(model, frozen, given, outputs)
    return Cut(part, frozenset(frozen), operators, parameters, given, outputs, model.producer_name)


def _leave_integers(graph: onnx.GraphProto, frozen: dict[int, Any], constants: Mapping[str, onnx.TensorProto]) -> None:
    """Move the nodes that compute shapes, positions and conditions for the tail into it: only floats are cached."""
    integers = {name for name, t in constants.items() if t.data_type not in (FLOAT, FLOAT16, DOUBLE)}
    for node in graph.node:
        first = node.input[LIKE.get(node.op_type, 0)] if node.input else ""
        if node.op_type in (*MAKES_INTEGERS, *MAKES_TRUTH) or (
            first in integers and node.op_type not in ("Cast", "ConstantOfShape")
        ):
            integers.update(node.output)
        if node.op_type in POSITIONS:
            integers.update(node.output[1:])
    wanted = {name for i, n in enumerate(graph.node) if i not in frozen for name in n.input}
    for i in sorted(frozen, reverse=True):
        if integers & wanted & {*frozen[i].output}:
            wanted.update(frozen.pop(i).input)


def _extract(
    model: onnx.ModelProto, nodes: Mapping[int, Any], given: str, outputs: tuple[str, ...]
) -> tuple[bytearray, int]:
    """Return the trunk as an ONNX file for any batch size with the tensors it reads, and how many weights it has."""
    part: onnx.ModelProto = messages().ModelProto(ir_version=model.ir_version)
    part.opset_import.extend(model.opset_import)
    part.graph.name = "trunk"
    part.graph.node.extend(n for i, n in enumerate(model.graph.node) if i in nodes or n.op_type == "Constant")
    read = {name for n in nodes.values() for name in n.input}
    part.graph.input.extend(v for v in model.graph.input if v.name == given)
    part.graph.input[0].type.tensor_type.shape.dim[0].dim_param = "batch"
    part.graph.output.extend(value_info(name, None) for name in outputs)
    stored = [t for t in model.graph.initializer if t.name in read]
    made = bytearray(part.SerializeToString())
    for tensor in stored:  # one after the other, so that the weights are not in memory once more
        made += as_initializer(tensor.SerializeToString())
    return made, sum(prod(t.dims) for t in stored if len(t.dims))


class Trunk:
    """Run a trunk and cache its activations. Not thread-safe: it belongs to its graph's thread."""

    def __init__(self, parts: Cut, where: str, cache_bytes: int = CACHE_BYTES) -> None:
        self._parts, self._where, self._cache_bytes = parts, where, cache_bytes
        self._session: Any = None
        self._shapes: list[tuple[int, ...]] = []
        self._widths: list[int] = []
        self._cached: Array = np.empty((0, 0), np.float32)
        self._places: dict[bytes, int] = {}  # hash of a sample -> its row in `_cached`, oldest first
        self.runs = 0  # samples that went through the session

    @property
    def operators(self) -> tuple[str, ...]:
        """Operator types in the trunk."""
        return self._parts.operators

    @property
    def parameters(self) -> int:
        """Number of its weights, all frozen."""
        return self._parts.parameters

    @property
    def outputs(self) -> tuple[str, ...]:
        """Names of the activations that the tail reads."""
        return self._parts.outputs

    def __call__(self, x: Array) -> list[Array]:
        """Return activations, each (batch, ...), in the order of `outputs`, for x (batch, *input_shape)."""
        x = np.ascontiguousarray(x, np.float32)
        if self._session is None:
            self._open(x.shape[1:])
        keys = [blake2b(row.data, digest_size=16).digest() for row in x.reshape(len(x), -1)]
        flat = np.empty((len(x), sum(self._widths)), np.float32)
        there = [(i, p) for i, p in enumerate(map(self._places.get, keys)) if p is not None]
        if there:
            rows, places = zip(*there, strict=True)
            flat[list(rows)] = self._cached[list(places)]
        missing = np.array([i for i, key in enumerate(keys) if key not in self._places], np.int64)
        for start in range(0, len(missing), CHUNK):
            rows_ = missing[start : start + CHUNK]
            flat[rows_] = self._run(x[rows_])
            self._store([keys[i] for i in rows_], flat[rows_])
        parts = np.split(flat, np.cumsum(self._widths)[:-1], axis=1)
        return [part.reshape(len(x), *shape) for part, shape in zip(parts, self._shapes, strict=True)]

    def _open(self, shape: tuple[int, ...]) -> None:
        """Make the session, and find the shapes of its activations with two batch sizes."""
        os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")  # on by default from 1.29
        import onnxruntime as ort

        options = ort.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.log_severity_level = 4  # what fails is raised; its own line on stderr says it twice
        options.enable_cpu_mem_arena = False  # the arena would hold the largest batch's memory permanently
        known = ort.get_available_providers()
        chosen = [p for p in ("TensorrtExecutionProvider", "CUDAExecutionProvider") if p in known]
        try:
            self._session = self._load(ort, options, [*chosen, "CPUExecutionProvider"])
            tried = [self._outputs(np.zeros((n, *shape), np.float32)) for n in (2, 3)]
        except Exception as e:  # onnxruntime's own exceptions have no common base
            self._check_batch(shape, fault(e))
            raise ModelError(f"{self._where}: the frozen trunk: {explained(e)}") from e
        for name, two, three in zip(self.outputs, *tried, strict=True):
            if two.shape != (2, *three.shape[1:]) or len(three) != 3:
                raise ModelError(
                    f"{self._where}: the frozen trunk ends in {name!r} of shape {two.shape} for two samples and "
                    f"{three.shape} for three; freeze up to a node whose output has the batch first"
                )
        self._shapes = [a.shape[1:] for a in tried[0]]
        self._widths = [int(np.prod(s)) for s in self._shapes]
        rows = max(1, self._cache_bytes // (4 * max(1, sum(self._widths))))
        self._cached = np.empty((rows, sum(self._widths)), np.float32)  # a page takes memory only once it is written
        give_back()

    def _check_batch(self, shape: tuple[int, ...], found: Fault) -> None:
        """Raise ModelError where the trunk runs for one sample, and so only for one."""
        if self._session is None or not self._runs(np.zeros((1, *shape), np.float32)):
            return
        why = f"node {found.name!r} ({found.op}) of the frozen trunk" if found.op else found.why
        raise ModelError(f"{self._where}: {ONE_SAMPLE.format(why=why, how=variable_batch(self._parts.producer))}")

    def _runs(self, x: Array) -> bool:
        try:
            self._outputs(x)
        except Exception:  # as above
            return False
        return True

    def _load(self, ort: Any, options: Any, providers: list[str]) -> Any:
        """Open a session, from a temporary file where one can be written: from bytes it takes a third more memory."""
        with tempfile.TemporaryDirectory(prefix="fedge-", ignore_cleanup_errors=True) as folder:
            path = Path(folder, "trunk.onnx")
            source: Any = str(path)
            try:
                path.write_bytes(self._parts.model)
            except OSError:
                source = bytes(self._parts.model)
            self._parts = self._parts._replace(model=b"")
            give_back()
            return ort.InferenceSession(source, options, providers=providers)

    def _outputs(self, x: Array) -> list[Array]:
        return self._session.run(list(self.outputs), {self._parts.input: x})

    def _run(self, x: Array) -> Array:
        self.runs += len(x)
        return np.concatenate([a.reshape(len(x), -1) for a in self._outputs(x)], axis=1)

    def _store(self, keys: list[bytes], rows: Array) -> None:
        for key, row in zip(keys, rows, strict=True):
            if key in self._places:  # the same sample twice in one batch
                continue
            place = len(self._places)
            if place == len(self._cached):
                place = self._places.pop(next(iter(self._places)))
            self._cached[place] = row
            self._places[key] = place
