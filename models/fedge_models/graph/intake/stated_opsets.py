# SPDX-License-Identifier: Apache-2.0
"""Let a file state an opset for each of ONNX's own domains that its operators are of.

A file of ai.onnx.ml alone states none of the standard, and needs one as soon as its operators become products; so does
a file in which only the bodies of functions have operators of the standard.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..card import Card
from ..onnx_file import MIN_OPSET
from ..refusals import refuse
from .float32 import graphs

if TYPE_CHECKING:
    import onnx

DOMAINS = (("", "ai.onnx"), ("ai.onnx.ml",))  # each with its names


def stated_opsets(model: onnx.ModelProto, card: Card, where: str) -> bool:
    """Add what is not stated, in place. Return whether anything was. Raises ModelError where nothing tells it."""
    changed = False
    for names in DOMAINS:
        if any(o.domain in names for o in model.opset_import):
            continue
        told = [o.version for f in model.functions for o in f.opset_import if o.domain in names]
        if node := next((n for g in graphs(model.graph) for n in g.node if n.domain in names), None):
            refuse("no opset", where, op=node.op_type, domain=names[-1])
        if told or "" in names:
            model.opset_import.add(domain=names[0], version=max(told, default=MIN_OPSET))
            changed = True
    return changed
