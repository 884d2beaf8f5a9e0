# SPDX-License-Identifier: Apache-2.0
"""Hold what a pass made against the original, on samples that are the same every time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ...errors import ModelError
from ..card import Card
from .runtime import Opened

if TYPE_CHECKING:
    import onnx

Values = Mapping[str, NDArray[Any]]
NUMBERS = {1: "<f4", 6: "<i4", 7: "<i8", 9: "?", 10: "<f2", 11: "<f8"}  # input types that samples are made for
SAMPLES = 2  # where the batch is variable


def real_inputs(graph: onnx.GraphProto) -> list[onnx.ValueInfoProto]:
    """Return the inputs that are no initializers: old files list those too."""
    stored = {t.name for t in graph.initializer}
    return [v for v in graph.input if v.name not in stored]


def samples(model: onnx.ModelProto, card: Card, count: int = SAMPLES) -> dict[str, NDArray[Any]] | None:
    """Return normal values for each input; a dimension that is open is the window's length. None for other types.

    count: of samples, where the batch is variable.
    """
    rng, made = np.random.default_rng(16), {}
    for value in real_inputs(model.graph):
        dtype = NUMBERS.get(value.type.tensor_type.elem_type)
        if dtype is None:
            return None
        dims = [d.dim_value for d in value.type.tensor_type.shape.dim]
        shape = [d or (count if i == 0 else card.window.length) for i, d in enumerate(dims)]
        if np.prod(shape, dtype=float) > 1e7:
            return None
        made[value.name] = rng.normal(size=shape).astype(dtype)
    return made


def results(model: onnx.ModelProto, feeds: Values | None, names: Sequence[str] = ()) -> dict[str, NDArray[Any]] | None:
    """Return the outputs (or the values of these `names`) by name; None when ONNX Runtime cannot run the graph."""
    if feeds is None:
        return None
    try:
        return Opened(model, "", None, names).run(feeds)
    except ModelError:  # who serves the file says why
        return None


def check_same(before: Values | None, after: Values | None, what: str, where: str, tolerance: float = 1e-4) -> None:
    """Raise ModelError where outputs differ; nothing can be said where the original could not be run."""
    if before is not None and after is None:
        raise ModelError(f"{where}: {what} gives a graph that ONNX Runtime cannot run. Please report it with the file")
    for name in {*(before or {})} & {*(after or {})}:
        old, new = np.asarray((before or {})[name]), np.asarray((after or {})[name])
        if old.dtype.kind != "f":
            continue
        finite = old[np.isfinite(old)]
        size = tolerance * max(1.0, float(np.abs(finite).max(initial=0)))
        if old.shape != new.shape or not np.allclose(old, new, rtol=0, atol=size, equal_nan=True):
            raise ModelError(f"{where}: {what} changes what it computes ({name!r}); export it again with opset 17")


def copied(message: Any) -> Any:
    """A copy of a message: lists that are emptied and filled again must not hold the old ones."""
    made = type(message)()
    made.CopyFrom(message)
    return made
