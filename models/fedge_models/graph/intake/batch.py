# SPDX-License-Identifier: Apache-2.0
"""Make the batch of a graph variable: exporters fix it to the batch of their example."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..card import Card

if TYPE_CHECKING:
    import onnx


def any_batch(model: onnx.ModelProto, card: Card, where: str) -> bool:
    """Make the first dimension of inputs and outputs variable, in place. Return whether one was fixed.

    A graph that needs it fixed fails when another batch is tried.
    """
    stored = {t.name for t in model.graph.initializer}
    values = [v for v in (*model.graph.input, *model.graph.output) if v.name not in stored]
    fixed = [v for v in values if len(d := v.type.tensor_type.shape.dim) and d[0].dim_value]
    for value in fixed:
        value.type.tensor_type.shape.dim[0].dim_param = "n"
    if fixed:  # shapes of inner values, inferred for the fixed batch
        del model.graph.value_info[:]
    return bool(fixed)
