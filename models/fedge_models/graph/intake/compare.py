# SPDX-License-Identifier: Apache-2.0
"""Hold what a pass made against the original, on samples that are the same every time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ...errors import ModelError
from ..card import Card
from ..closeness import CONVERTED, close
from ..probing import own_range
from ..probing import samples as normal
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


def samples(model: onnx.ModelProto, card: Card, count: int = SAMPLES, seed: int = 16) -> dict[str, NDArray[Any]] | None:
    """Return values for each input, in the file's own range; a dimension that is open is the window's length.

    count: of samples, where the batch is variable. None for inputs of other types.
    """
    made = {}
    for position, value in enumerate(real_inputs(model.graph)):
        dtype = NUMBERS.get(value.type.tensor_type.elem_type)
        if dtype is None:
            return None
        dims = [d.dim_value for d in value.type.tensor_type.shape.dim]
        shape = [d or (count if i == 0 else card.window.length) for i, d in enumerate(dims)]
        if np.prod(shape, dtype=float) > 1e7:
            return None
        first = shape[0] if shape else 1
        within = own_range(model, value.name, shape[1:], first) if shape else None
        given = normal(shape[1:], first, seed + 1000 * position, within)
        made[value.name] = given.reshape(shape).astype(dtype)
    return made


def trial(model: onnx.ModelProto, card: Card) -> list[dict[str, NDArray[Any]]] | None:
    """Return samples to compare two graphs by: two of them, one after the other where the batch is fixed."""
    two = any(len(d := v.type.tensor_type.shape.dim) and not d[0].dim_value for v in real_inputs(model.graph))
    made = [samples(model, card, seed=seed) for seed in ((16,) if two else (16, 17))]
    whole = [m for m in made if m is not None]
    return whole if len(whole) == len(made) else None


def results(model: onnx.ModelProto, feeds: Values | None, names: Sequence[str] = ()) -> dict[str, NDArray[Any]] | None:
    """Return the outputs (or the values of these `names`) by name; None when ONNX Runtime cannot run the graph."""
    if feeds is None:
        return None
    try:
        return Opened(model, "", None, names).run(feeds)
    except ModelError:  # who serves the file says why
        return None


def outcomes(model: onnx.ModelProto, tried: Sequence[Values] | None) -> dict[str, NDArray[Any]] | None:
    """Return the outputs for the samples of `trial`, the samples first; None when ONNX Runtime cannot run the graph."""
    found = [results(model, feeds) for feeds in tried or ()]
    whole = [f for f in found if f is not None]
    if not whole or len(whole) < len(found):
        return None
    return whole[0] if len(whole) == 1 else {n: np.stack([np.asarray(f[n]) for f in whole]) for n in whole[0]}


def check_same(before: Values | None, after: Values | None, what: str, where: str) -> None:
    """Raise ModelError where outputs differ; nothing can be said where the original could not be run."""
    if before is not None and after is None:
        raise ModelError(f"{where}: {what} gives a graph that ONNX Runtime cannot run. Please report it with the file")
    if (name := differing(before, after)) is not None:
        raise ModelError(f"{where}: {what} changes what it computes ({name!r}); export it again with opset 17")


def differing(before: Values | None, after: Values | None) -> str | None:
    """The first output of floats that is not the same in both, of those that both have."""
    for name in sorted({*(before or {})} & {*(after or {})}):
        old, new = np.asarray((before or {})[name]), np.asarray((after or {})[name])
        if old.dtype.kind == "f" and not close(new, old, within=CONVERTED):
            return name
    return None


def copied(message: Any) -> Any:
    """A copy of a message: lists that are emptied and filled again must not hold the old ones."""
    made = type(message)()
    made.CopyFrom(message)
    return made
