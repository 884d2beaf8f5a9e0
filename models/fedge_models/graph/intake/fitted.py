# SPDX-License-Identifier: Apache-2.0
"""Refuse models of scikit-learn that compare with the samples that they were fitted to: neighbours, Gaussian processes.

Those samples are in the file. skl2onnx writes the distances to them as a Scan, which would unroll to a node for each.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..card import Card
from ..refusals import refuse

if TYPE_CHECKING:
    import onnx

SKLEARN = "skl2onnx"  # who wrote the file
DISTANCES = ("CDist", "Scan")


def check_fitted(model: onnx.ModelProto, card: Card, where: str) -> bool:
    """Raise ModelError for such a file. Returns False: it changes nothing."""
    for node in model.graph.node if model.producer_name == SKLEARN else ():
        if node.op_type in DISTANCES:
            refuse("neighbours", where, name=node.name or node.op_type, op=node.op_type)
    return False
