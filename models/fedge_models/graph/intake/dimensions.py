# SPDX-License-Identifier: Apache-2.0
"""Look at the dimensions that a file declares, before samples of its inputs are made.

Some exporters write an open dimension as -1, as ONNX Runtime takes it. A small file may declare terabytes.
"""

from __future__ import annotations

from math import prod
from typing import TYPE_CHECKING

from ...errors import ModelError
from ..card import Card

if TYPE_CHECKING:
    import onnx

MOST_VALUES = 1 << 24  # of all inputs: 16 channels of a million samples


def known_dimensions(model: onnx.ModelProto, card: Card, where: str) -> bool:
    """Declare negative dimensions as open, in place. Return whether there were any.

    Raises ModelError for inputs that are too large to be tried.
    """
    graph, changed = model.graph, False
    for value in (*graph.input, *graph.output, *graph.value_info):
        for position, dim in enumerate(value.type.tensor_type.shape.dim):
            if dim.dim_value < 0:
                dim.dim_param, changed = f"open_{position}", True
    stored, whole = {t.name for t in graph.initializer}, 0
    for value in graph.input:
        dims = value.type.tensor_type.shape.dim
        whole += 0 if value.name in stored else prod(d.dim_value or 1 for d in dims)
        if whole > MOST_VALUES:
            declared = ", ".join(str(d.dim_value or d.dim_param or "?") for d in dims)
            raise ModelError(
                f"{where}: input {value.name!r} declares ({declared}), which makes {whole:,} values of all inputs, "
                f"expected at most {MOST_VALUES:,}; export it for fewer samples, with a batch of one or a variable one"
            )
    return changed
