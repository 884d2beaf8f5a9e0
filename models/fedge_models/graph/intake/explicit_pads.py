# SPDX-License-Identifier: Apache-2.0
"""Write out the padding of dilated convolutions: ONNX Runtime refuses `auto_pad` SAME together with dilations."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ...protos import attribute
from ..card import Card

if TYPE_CHECKING:
    import onnx


def explicit_pads(model: onnx.ModelProto, card: Card, where: str) -> bool:
    """Replace `auto_pad` of dilated convolutions with a stride of one by its pads, in place.

    Return whether there was any. With other strides the pads depend on the size; the check of what serves refuses them.
    """
    kernels = {t.name: list(t.dims)[2:] for t in model.graph.initializer}
    changed = False
    for node in model.graph.node:
        given = {a.name: attribute(a) for a in node.attribute if a.name in _READ}
        kernel = given.get("kernel_shape") or kernels.get(node.input[1] if len(node.input) > 1 else "")
        dilations = given.get("dilations", [])
        if node.op_type != "Conv" or given.get("auto_pad") not in (b"SAME_UPPER", b"SAME_LOWER") or not kernel:
            continue
        if all(d == 1 for d in dilations) or any(s != 1 for s in given.get("strides", [])):
            continue
        total = [d * (k - 1) for d, k in zip(dilations, kernel, strict=True)]
        less, more = [t // 2 for t in total], [t - t // 2 for t in total]
        pads = [*less, *more] if given["auto_pad"] == b"SAME_UPPER" else [*more, *less]
        _set_pads(node, pads)
        changed = True
    return changed


def _set_pads(node: onnx.NodeProto, pads: list[int]) -> None:
    from onnx import helper  # only where there is such a node: a gateway reads its model without the package

    kept = [a for a in node.attribute if a.name not in ("auto_pad", "pads")]
    made = [*(type(a).FromString(a.SerializeToString()) for a in kept), helper.make_attribute("pads", pads)]
    del node.attribute[:]
    node.attribute.extend(made)


_READ = ("auto_pad", "dilations", "kernel_shape", "strides")
