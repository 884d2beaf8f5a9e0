# SPDX-License-Identifier: Apache-2.0
"""Refuse a file that draws random numbers where it decides: one window would be decided differently each time."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..card import Card
from ..nodes import alive
from ..refusals import refuse

if TYPE_CHECKING:
    import onnx

RANDOM = ("Bernoulli", "Multinomial", "RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike")


def check_random(model: onnx.ModelProto, card: Card, where: str) -> bool:
    """Raise ModelError for a node that draws what the output depends on. Returns False: it changes nothing."""
    for position in sorted(alive(model)):
        node = model.graph.node[position]
        if node.op_type in RANDOM and not node.domain:
            refuse("random", where, name=node.name or node.op_type, op=node.op_type)
    return False
