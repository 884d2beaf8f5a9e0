# SPDX-License-Identifier: Apache-2.0
"""ONNX's own test suite through the operators of this project: outputs, gradients, and what is refused.

The node cases are made in memory by the onnx package; graphs that PyTorch once exported lie in it as files. Each case
is run forwards against the suite's outputs. Where it passes and has float inputs, the gradient by each of them is held
against a central difference quotient in float64, along a random direction. `cases` needs no network.
"""

from __future__ import annotations

import math
import re
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import onnx
from fedge_models.errors import ModelError
from fedge_models.graph import nodes, onnx_file
from fedge_models.graph.execution import Execution
from fedge_models.ops.registry import OPERATORS
from onnx import TensorProto, numpy_helper

FOLDERS = ("pytorch-converted", "pytorch-operator", "simple")
PASSED, REFUSED, UNSUPPORTED, WRONG, OTHERWISE = "passed", "refused", "unsupported", "WRONG", "different on purpose"
TYPES = {"FLOAT", "DOUBLE", "BOOL", "INT8", "INT16", "INT32", "INT64", "UINT8", "UINT16", "UINT32", "UINT64"}
STEP, NOISE = 1e-6, 1e-3
NO_SLOPE = {
    ("Resize", 1),
    ("Resize", 2),
    ("Upsample", 1),
    ("Dropout", 1),
    ("CumSum", 1),
}  # sizes and rates, by (operator, input)


class Case(NamedTuple):
    """A graph, and its inputs and expected outputs by position."""

    suite: str
    name: str
    model: onnx.ModelProto
    inputs: tuple[Any, ...]
    outputs: tuple[Any, ...]
    rtol: float
    atol: float


class Outcome(NamedTuple):
    """What came of a case: a verdict, and why."""

    suite: str
    name: str
    operators: tuple[str, ...]
    verdict: str
    why: str
    slopes: int  # float inputs whose gradient equals the quotient


def cases(suites: Sequence[str] = ("node", *FOLDERS)) -> Iterator[Case]:
    """Yield every case of the suites, the node cases first."""
    if "node" in suites:
        yield from node_cases()
    for folder in FOLDERS:
        if folder in suites:
            yield from stored_cases(folder)


def node_cases() -> Iterator[Case]:
    """Yield the cases for single operators (and for the graphs that define some of them), made in memory."""
    from onnx.backend.test.case.node import collect_testcases

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # its casts overflow on purpose
        made = collect_testcases(None)
    for case in made:
        assert case.model is not None
        for inputs, outputs in case.data_sets or ():
            given, expected = (tuple(map(_array, of)) for of in (inputs, outputs))
            yield Case("node", case.name, case.model, given, expected, case.rtol, case.atol)


def _array(value: Any) -> Any:
    return numpy_helper.to_array(value) if isinstance(value, TensorProto) else value


def stored_cases(folder: str) -> Iterator[Case]:
    """Yield the cases of a folder of the onnx package."""
    data = Path(onnx.__file__).parent / "backend" / "test" / "data" / folder
    for path in sorted(data.glob("*/model.onnx")):
        model = onnx.load(path)
        for part in sorted(path.parent.glob("test_data_set_*")):
            inputs, outputs = (_stored(part, kind) for kind in ("input", "output"))
            yield Case(folder, path.parent.name, model, inputs, outputs, 1e-3, 1e-5)


def _stored(folder: Path, kind: str) -> tuple[Any, ...]:
    count = len([*folder.glob(f"{kind}_*.pb")])
    tensors = [TensorProto.FromString((folder / f"{kind}_{i}.pb").read_bytes()) for i in range(count)]
    return tuple(numpy_helper.to_array(t) for t in tensors)


class Graph:
    """A graph with its inputs as constants, the float ones trainable, and every output to be looked at."""

    def __init__(self, model: onnx.ModelProto, feeds: dict[str, Any], dtype: Any) -> None:
        self.feeds = {n: _as(a, dtype) for n, a in feeds.items()}
        self.floats = [n for n, a in self.feeds.items() if a.dtype == dtype and a.size]
        stored = {n: onnx_file.array(n, t, "case", finite=False) for n, t in onnx_file.tensors(model).items()}
        constants = {n: _as(a, dtype) for n, a in stored.items()} | self.feeds
        slopes = nodes.sloped(model, self.floats)
        built = nodes.build(model, self.floats, slopes, (), "case")
        for node in built:
            node.dtype = dtype
        tail = nodes.fold(built, constants, self.floats, "case")
        self._known = {o.name: constants[o.name] for o in model.graph.output if o.name in constants}
        read = nodes.constants_of(constants, tail)
        self._runs = {
            o.name: Execution(tail, read, o.name, "case") for o in model.graph.output if o.name not in self._known
        }
        self._order = [o.name for o in model.graph.output]

    def forward(self, feeds: dict[str, Any] | None = None) -> list[Any]:
        """Return every output."""
        given = feeds or self.feeds
        made = {n: np.array(run.forward(given)) for n, run in self._runs.items()}
        return [made[n] if n in made else self._known[n] for n in self._order]

    def gradient(self, weights: Sequence[Any]) -> dict[str, Any]:
        """Return the gradient of the weighted sum of the outputs by each float input; 0 where none comes."""
        total = {n: np.zeros_like(self.feeds[n]) for n in self.floats}
        for name, weight in zip(self._order, weights, strict=True):
            if weight is None or name not in self._runs:
                continue
            self._runs[name].forward(self.feeds)
            for n, grad in self._runs[name].backward(weight).items():
                if n in total:
                    assert grad.shape == total[n].shape, f"gradient by {n}: {grad.shape}, not {total[n].shape}"
                    total[n] = total[n] + grad
        return total


def _as(array: Any, dtype: Any) -> Any:
    return array.astype(dtype) if array.dtype == np.float32 else array


def outcome(case: Case, rng: np.random.Generator, gradients: bool = True) -> Outcome:
    """Run a case and classify it."""
    lacking = sorted({n.op_type for n in case.model.graph.node if not _supported(n)})
    operators = tuple(sorted({n.op_type for n in case.model.graph.node if n.op_type != "Constant"}))

    def judged(verdict: str, why: str = "", slopes: int = 0) -> Outcome:
        return Outcome(case.suite, case.name, operators, verdict, why, slopes)

    if lacking:
        return judged(UNSUPPORTED, ", ".join(lacking))
    if types := sorted(_types(case.model) - TYPES):
        return judged(REFUSED, f"type {types[0].lower()}")
    try:
        model = converted(case.model)
        feeds = dict(zip([i.name for i in model.graph.input if i.name], case.inputs, strict=False))
        with np.errstate(all="ignore"):
            graph = Graph(model, feeds, np.float32)
            found = graph.forward()
    except ModelError as e:
        return judged(REFUSED, reason(str(e)))
    if wrong := difference(case, found):
        return judged(OTHERWISE if case.name in ON_PURPOSE else WRONG, ON_PURPOSE.get(case.name, wrong))
    if not gradients or not graph.floats or not any(_is_float(y) for y in found):
        return judged(PASSED)
    wrong, count = slopes(model, feeds, rng)
    return judged(WRONG, wrong) if wrong else judged(PASSED, slopes=count)


RANDOM = "drops values only in training, by the generator of this project"
BY_SIZES = "align_corners counts whole values, as ONNX Runtime does"
ON_PURPOSE = {
    "test_training_dropout_default": RANDOM,
    "test_training_dropout": RANDOM,
    "test_training_dropout_default_mask": RANDOM,
    "test_training_dropout_mask": RANDOM,
    "test_resize_downsample_scales_linear_align_corners": BY_SIZES,
    "test_resize_downsample_scales_cubic_align_corners": BY_SIZES,
}


def _supported(node: onnx.NodeProto) -> bool:
    return node.op_type == "Constant" or (node.op_type in OPERATORS and node.domain in ("", "ai.onnx"))


def _types(model: onnx.ModelProto) -> set[str]:
    found = set()
    for value in (*model.graph.input, *model.graph.output):
        kind = value.type.WhichOneof("value")
        tensor = kind == "tensor_type"
        found.add(TensorProto.DataType.Name(value.type.tensor_type.elem_type) if tensor else kind.replace("_type", ""))
    return found


def converted(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return the graph in an opset that is trained; what is older goes through ONNX's version converter."""
    opset = max(o.version for o in model.opset_import if o.domain in ("", "ai.onnx"))
    if opset >= onnx_file.MIN_OPSET:
        return model
    from onnx import version_converter

    try:
        return version_converter.convert_version(model, onnx_file.MIN_OPSET)
    except Exception as e:
        raise ModelError(f"case: opset {opset} cannot be converted") from e


def reason(message: str) -> str:
    """Return a refusal without what is only about this case."""
    text = re.sub(r"^case: (node '[^']*' )?", "", message)
    return re.sub(r"\s+", " ", text)


def difference(case: Case, found: Sequence[Any]) -> str:
    """Say how the outputs differ from the expected ones; empty where they do not."""
    for wanted, y in zip(map(np.asarray, case.outputs), found, strict=True):
        if wanted.shape != y.shape:
            return f"shape {y.shape}, not {wanted.shape}"
        if wanted.dtype != y.dtype:
            return f"type {y.dtype}, not {wanted.dtype}"
        if not np.allclose(y, wanted, case.rtol, case.atol, equal_nan=True):
            return f"values off by {np.max(np.abs(y.astype(np.float64) - wanted)):.3g}"
    return ""


def slopes(model: onnx.ModelProto, feeds: dict[str, Any], rng: np.random.Generator) -> tuple[str, int]:
    """Hold gradients against difference quotients. Return what is wrong (empty: nothing), and how many were held.

    A step may cross a kink or a tie, so only what is wrong at three points is wrong.
    """
    wrong, held = "", 0
    for _ in range(3):
        with np.errstate(all="ignore"):
            wrong, held = _slopes(model, {n: _moved(a, rng) for n, a in feeds.items()}, rng)
        if not wrong:
            break
    return wrong, held


def _slopes(model: onnx.ModelProto, feeds: dict[str, Any], rng: np.random.Generator) -> tuple[str, int]:
    graph = Graph(model, feeds, np.float64)
    weights = [rng.normal(size=y.shape) if _is_float(y) else None for y in graph.forward()]
    grads = graph.gradient(weights)
    passive = {n.input[i] for n in model.graph.node for op, i in NO_SLOPE if n.op_type == op and len(n.input) > i}
    held = 0
    for name in graph.floats:
        if name in passive:
            continue
        way = rng.normal(size=graph.feeds[name].shape)
        found, wanted = float(np.sum(way * grads[name])), quotient(graph, name, way, weights)
        if not math.isfinite(wanted):
            continue
        scale = abs(wanted) + float(np.sqrt(np.mean(np.square(grads[name])))) + 1e-2
        if not abs(found - wanted) < 1e-5 * scale:
            return f"gradient by {name} is {found:.6g} along a direction, not {wanted:.6g}", held
        held += 1
    return "", held


def quotient(graph: Graph, name: str, way: Any, weights: Sequence[Any]) -> float:
    """Central difference quotient of the weighted sum of outputs along a direction of one input."""
    sums = []
    for sign in (1, -1):
        feeds = graph.feeds | {name: graph.feeds[name] + sign * STEP * way}
        sums.append(
            sum(float(np.sum(w * y)) for w, y in zip(weights, graph.forward(feeds), strict=True) if w is not None)
        )
    return (sums[0] - sums[1]) / (2 * STEP)


def _moved(array: Any, rng: np.random.Generator) -> Any:
    """Move floats a little, away from kinks and ties; whole numbers that are sizes stay."""
    if array.dtype != np.float32 or not array.size:
        return array
    return array.astype(np.float64) + NOISE * rng.uniform(0.2, 1, array.shape) * rng.choice([-1, 1], array.shape)


def _is_float(array: Any) -> bool:
    return bool(array.dtype.kind == "f" and array.size)
