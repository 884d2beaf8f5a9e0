# SPDX-License-Identifier: Apache-2.0
"""Write out the padding of dilated convolutions and pools whose `auto_pad` is SAME.

ONNX Runtime refuses such a convolution, and pads such a pool as if it were not dilated, which the standard does not.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ...protos import attribute
from ..card import Card
from ..notes import note
from ..skeleton import large, skeleton
from .runtime import dims

if TYPE_CHECKING:
    import onnx

KINDS = ("AveragePool", "Conv", "ConvTranspose", "LpPool", "MaxPool")
MODES = (b"SAME_UPPER", b"SAME_LOWER")
POOLS = "padding: SAME of dilated pools is written out as the standard says it; ONNX Runtime alone pads them otherwise"


def explicit_pads(model: onnx.ModelProto, card: Card, where: str) -> bool:
    """Replace `auto_pad` of dilated layers by its pads, in place. Return whether there was any.

    Where a stride makes the pads depend on a size that is not known, the check of what serves refuses the file.
    """
    kernels = {t.name: list(t.dims)[2:] for t in model.graph.initializer}
    sizes: dict[str, tuple[int, ...]] | None = None
    changed = False
    for node in model.graph.node:
        given = {a.name: attribute(a) for a in node.attribute if a.name in _READ}
        kernel = given.get("kernel_shape") or kernels.get(node.input[1] if len(node.input) > 1 else "")
        if node.op_type not in KINDS or given.get("auto_pad") not in MODES or not kernel:
            continue
        if all(d == 1 for d in given.get("dilations", [])):
            continue
        sizes = _sizes(model) if sizes is None else sizes
        total = _total(node.op_type, given, kernel, sizes.get(node.input[0], ())[2:])
        if total is None:
            continue
        less, more = [t // 2 for t in total], [t - t // 2 for t in total]
        _set_pads(node, [*less, *more] if given["auto_pad"] == b"SAME_UPPER" else [*more, *less])
        changed = True
        if node.op_type.endswith("Pool"):
            note(model, POOLS)
    return changed


def _total(op: str, given: dict[str, Any], kernel: list[int], sizes: tuple[int, ...]) -> list[int] | None:
    """The padding of each dimension of a window, both ends together; None where it cannot be known or written."""
    ones = [1] * len(kernel)
    reach = [d * (k - 1) + 1 for d, k in zip(given.get("dilations", ones), kernel, strict=True)]
    strides = given.get("strides", ones)
    if op == "ConvTranspose":
        if "output_shape" in given:
            return None
        extra = given.get("output_padding", [0] * len(kernel))
        made = [r + e - s for r, e, s in zip(reach, extra, strides, strict=True)]
        return made if min(made) >= 0 else None
    if all(s == 1 for s in strides):
        return [r - 1 for r in reach]
    if len(sizes) != len(kernel) or 0 in sizes:
        return None
    last = [(-(-n // s) - 1) * s for n, s in zip(sizes, strides, strict=True)]
    return [max(0, at + r - n) for at, r, n in zip(last, reach, sizes, strict=True)]


def _sizes(model: onnx.ModelProto) -> dict[str, tuple[int, ...]]:
    """The shapes of values as far as they can be inferred; 0 for a dimension that is open."""
    from onnx import shape_inference

    found = shape_inference.infer_shapes(skeleton(model, large(model)), data_prop=True).graph
    return {v.name: dims(v) for v in (*found.input, *found.value_info)}


def _set_pads(node: onnx.NodeProto, pads: list[int]) -> None:
    from onnx import helper  # only where there is such a node: a gateway reads its model without the package

    kept = [a for a in node.attribute if a.name not in ("auto_pad", "pads")]
    made = [*(type(a).FromString(a.SerializeToString()) for a in kept), helper.make_attribute("pads", pads)]
    del node.attribute[:]
    node.attribute.extend(made)


_READ = ("auto_pad", "dilations", "kernel_shape", "output_padding", "output_shape", "strides")
