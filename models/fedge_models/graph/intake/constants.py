# SPDX-License-Identifier: Apache-2.0
"""Find initializers that no exporter would call a parameter, so that the pattern `*` leaves them as they are.

Exporters store everything that is constant in the same place: weights, but also the factors of a scaler, Fourier and
cosine matrices, filter banks, tables of positions and masks. They are told by where they are read and what they hold.
The names go onto the card (`constants`), so that both ends leave out the same; an exact name trains one all the same.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ...errors import ModelError
from ...protos import FLOAT
from ...system.choices import hint
from ..card import Card
from ..notes import note
from ..onnx_file import array

if TYPE_CHECKING:
    import onnx

MATRICES = {"MatMul": (0, 1), "Gemm": (1,), "Conv": (1,), "Einsum": (0, 1)}  # where a Fourier matrix may be read
ELEMENTWISE = ("Add", "Sub", "Mul", "Div")
LAYOUT = (
    *("Cast", "Concat", "Expand", "Flatten", "Gather", "Identity", "Reshape", "Slice", "Split", "Squeeze"),
    *("Transpose", "Unsqueeze"),
)
SCALER = "a factor of the input, as of a scaler"
FEWEST = 8  # samples of a wave: fewer could be weights by chance
EXACT = 1e-3  # relative error of a wave's recurrence, far below that of any weights
WITHIN = 0.9  # of a row's energy within two bins of its peak: a wave under a window
MASKED = -1e4


def constants(model: onnx.ModelProto, card: Card, where: str) -> tuple[str, ...]:
    """Return the names of initializers that are no parameters, with a note of each.

    Raises ModelError when the card lists one that is not there.
    """
    names = {t.name for t in model.graph.initializer}
    if missing := [n for n in card.constants if n not in names]:
        at = f"{where}: card: constants lists {missing[0]!r}, which is no tensor of the file"
        raise ModelError(f"{at}; {hint(missing[0], names)}")
    stored = {t.name: t for t in model.graph.initializer if t.data_type == FLOAT and len(t.dims)}
    found: dict[str, str] = {n: "listed on the card" for n in card.constants if n in stored}
    for name, what in _seen(model, stored, where):
        if name not in found:
            found[name] = what
            note(model, f"not a parameter: {name} is {what}; patterns leave it out, its exact name trains it")
    scalers = [n for n, what in found.items() if what == SCALER]
    if scalers and card.image is None and any(c.scale is None for c in card.input_channels):
        note(
            model,
            f"scaler: {', '.join(scalers)} scale the input, and each site standardises it before: the file sees other "
            "values than it was made with. Export the steps behind, and put its mean and scale on the card (centre, "
            "scale of each channel)",
        )
    return tuple(t.name for t in model.graph.initializer if t.name in found)


def _seen(model: onnx.ModelProto, stored: dict[str, onnx.TensorProto], where: str) -> Iterator[tuple[str, str]]:
    raw = {i.name for i in model.graph.input}  # the input, and what is only laid out or scaled of it
    reads: dict[str, list[onnx.NodeProto]] = {}
    for node in model.graph.node:
        for name in node.input:
            reads.setdefault(name, []).append(node)
        if node.op_type in ELEMENTWISE and raw.intersection(node.input):
            others = [n for n in node.input if n not in raw]
            if all(n in stored and sum(d > 1 for d in stored[n].dims) <= 1 for n in others):
                yield from ((n, SCALER) for n in others)
                raw.update(node.output)
        elif (
            node.op_type in LAYOUT and node.input[0] in raw and (node.op_type != "Concat" or raw.issuperset(node.input))
        ):
            raw.update(node.output)
    for name, tensor in stored.items():
        nodes = reads.get(name, [])
        if nodes and (what := _what(name, tensor, nodes, where)):
            yield name, what


def _what(name: str, tensor: onnx.TensorProto, nodes: list[onnx.NodeProto], where: str) -> str:
    """What a tensor is by its values; empty for a parameter."""
    try:
        values = array(name, tensor, where, finite=False)
    except ModelError:  # it is refused where it is trained
        return ""
    return next(_kinds(name, values, nodes), "")


def _kinds(name: str, values: NDArray[Any], nodes: list[onnx.NodeProto]) -> Iterator[str]:
    operators = {n.op_type for n in nodes}
    read_as = {(n.op_type, i) for n in nodes for i, given in enumerate(n.input) if given == name}
    if operators <= {"Add", "Mul", "Where"} and _is_mask(values):
        yield "a mask"
    if operators <= {"Add", "Concat"} and _are_positions(values):
        yield "a table of positions"
    if operators == {"InstanceNormalization"} and made_up(name) and np.ptp(values) == 0:
        yield "a scale or shift that an exporter made up for a GroupNorm"
    if values.ndim >= 2 and all(i in MATRICES.get(kind, ()) for kind, i in read_as):
        if _are_waves(values):
            yield "a Fourier or cosine matrix"
        if _is_filter_bank(values):
            yield "a filter bank or a selection"


def made_up(name: str) -> bool:
    """Whether an exporter made the name up, so that no user's own module has such a tensor."""
    return any(c in name for c in ":/") or name.startswith(("val_", "const", "_tensor", "lifted", "fedge."))


def _is_mask(values: NDArray[Any]) -> bool:
    """Zero or (nearly) minus infinity, and both."""
    low = values <= MASKED
    return bool(low.any() and (values[~low] == 0).all() and not low.all())


def _are_positions(values: NDArray[Any]) -> bool:
    """Whether rows are sines and cosines of one angle each, side by side or in two halves (Vaswani et al. 2017)."""
    width = values.shape[-1]
    rows = values.reshape(-1, width)
    if width % 2 or len(rows) < FEWEST or rows.std() == 0:
        return False
    pairs = ((rows[:, ::2], rows[:, 1::2]), (rows[:, : width // 2], rows[:, width // 2 :]))
    return any(bool(np.allclose(a * a + b * b, 1, atol=EXACT)) for a, b in pairs)


def _are_waves(values: NDArray[Any]) -> bool:
    """Whether the rows or the columns of a matrix, or the kernels of a convolution, are waves, whole or windowed."""
    if values.ndim > 2:
        return values.ndim == 3 and values.shape[1] == 1 and _waves(values[:, 0].astype(np.float64))
    matrix = values.astype(np.float64)
    return _waves(matrix) or _waves(matrix.T)


def _waves(rows: NDArray[np.float64]) -> bool:
    varied = rows[np.ptp(rows, axis=1) > EXACT * (np.abs(rows).max() + 1e-30)]
    if rows.shape[1] < FEWEST or len(rows) < 2 or len(varied) < max(2, len(rows) // 3):
        return False
    inner = varied[:, 1:-1]
    around = varied[:, 2:] + varied[:, :-2]  # v[n+1] + v[n-1] = 2 cos(w) v[n]
    turn = (around * inner).sum(axis=1) / np.maximum((inner * inner).sum(axis=1), 1e-30)
    error = np.abs(around - turn[:, None] * inner).max(axis=1) / np.abs(varied).max(axis=1)
    if (error < EXACT).all():
        return True
    power = np.abs(np.fft.rfft(varied, axis=1)) ** 2
    if power.shape[1] < 2 * FEWEST:
        return False
    peak = power.argmax(axis=1)
    near = np.abs(np.arange(power.shape[1]) - peak[:, None]) <= 2
    within = (power * near).sum(axis=1) / np.maximum(power.sum(axis=1), 1e-30)
    return bool((within > WITHIN).all() and len(set(peak.tolist())) > len(peak) // 4)


def _is_filter_bank(values: NDArray[Any]) -> bool:
    """Nowhere negative, with many exact zeros in a band: triangles of a mel scale, an identity, a running mean."""
    if values.ndim != 2 or min(values.shape) < 4:
        return False
    zeros = values == 0
    return bool((values >= 0).all() and 0.25 <= zeros.mean() < 1 and (~zeros).any(axis=0).mean() > 0.5)
