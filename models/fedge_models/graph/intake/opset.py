# SPDX-License-Identifier: Apache-2.0
"""Convert a file of opset 7 to 12 to opset 13 with ONNX's version converter, and hold its results against the file's.

The converter forgets that Resize had other coordinates before opset 11; that is mended here.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from ...errors import ModelError, first_line
from ...protos import NEWEST_OPSET, messages
from ..card import Card
from ..notes import note
from ..onnx_file import MIN_OPSET
from ..refusals import refuse
from .compare import check_same, outcomes, real_inputs, trial

if TYPE_CHECKING:
    import onnx

OLDEST = 7  # the first with the broadcasting of today; ONNX Runtime serves no older one
PLACE = re.compile(r"^\S+\.(?:cc|h):\d+: [\w()]+: ")  # in the source of the converter
COORDINATES = 11  # from here on Resize says how it maps coordinates


def newer_opset(model: onnx.ModelProto, card: Card, where: str) -> bool:
    """Convert the graph in place. Return whether it was too old. Raises ModelError where that cannot be done."""
    opset = stated_opset(model)
    if opset > NEWEST_OPSET:
        expected = f"expected {OLDEST} to {NEWEST_OPSET}"
        raise ModelError(f"{where}: has opset {opset}, {expected}. Export it again with opset 17")
    if opset >= MIN_OPSET:
        _take_parameters(model)
        return False
    if opset < OLDEST:
        refuse("opset", where, opset=opset)
    feeds = trial(model, card)
    before = outcomes(model, feeds)
    _take_parameters(model)
    converted = _converted(model, opset, where)
    if opset < COORDINATES:
        _old_coordinates(converted.graph)
    check_same(before, outcomes(converted, feeds), f"the conversion of opset {opset} to {MIN_OPSET}", where)
    model.CopyFrom(converted)
    note(model, f"converted: opset {opset} to {MIN_OPSET}")
    return True


def stated_opset(model: onnx.ModelProto) -> int:
    """The version of the standard's operators that the file states; 0 when it states none."""
    return max([int(o.version) for o in model.opset_import if o.domain in ("", "ai.onnx")], default=0)


def _take_parameters(model: onnx.ModelProto) -> None:
    """Leave initializers out of the inputs, where files before IR version 4 list them."""
    real = real_inputs(model.graph)
    if len(real) < len(model.graph.input):
        kept = [messages().ValueInfoProto.FromString(v.SerializeToString()) for v in real]
        del model.graph.input[:]
        model.graph.input.extend(kept)


def _converted(model: onnx.ModelProto, opset: int, where: str) -> onnx.ModelProto:
    from onnx import shape_inference, version_converter

    model.ir_version = max(model.ir_version, 4)
    try:
        return version_converter.convert_version(shape_inference.infer_shapes(model), MIN_OPSET)
    except Exception as e:  # the converter raises RuntimeError and exceptions of its own
        why = re.search(r"No Adapter .*for (\w+)", str(e))
        what = f"its operator {why[1]}" if why is not None else f"it ({PLACE.sub('', first_line(e))})"
        raise ModelError(
            f"{where}: has opset {opset}, and the version converter of ONNX cannot bring {what} to {MIN_OPSET}. Export "
            "it again with opset 17"
        ) from e


def _old_coordinates(graph: onnx.GraphProto) -> None:
    """Let Resize map coordinates as Upsample and the first Resize did: x / scale, rounded down."""
    from onnx import helper

    for node in graph.node:
        if node.op_type == "Resize":
            rest = [a for a in node.attribute if a.name == "mode"]
            kept = [helper.make_attribute("mode", a.s) for a in rest]
            del node.attribute[:]
            node.attribute.extend(kept)
            node.attribute.append(helper.make_attribute("coordinate_transformation_mode", "asymmetric"))
            node.attribute.append(helper.make_attribute("nearest_mode", "floor"))
