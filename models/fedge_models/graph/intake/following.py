# SPDX-License-Identifier: Apache-2.0
"""Follow the samples through a graph: which rule says where they lie after each operator."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from . import place_shapes as shapes
from . import place_values as values
from .places import Places

if TYPE_CHECKING:
    import onnx

Rule = Callable[[Places, "onnx.NodeProto"], None]
FIRST = {
    *("AveragePool", "BatchNormalization", "Conv", "ConvTranspose", "DepthToSpace", "GlobalAveragePool", "LpPool"),
    *("GlobalLpPool", "GlobalMaxPool", "GroupNormalization", "InstanceNormalization", "LRN", "MaxPool", "STFT"),
    "SpaceToDepth",
}  # need the samples in dimension 0
KNOW_NO_SAMPLES = ("Shape", "Size")
RULES: dict[str, Rule] = {
    **dict.fromkeys(FIRST, values.first),
    **dict.fromkeys(("GRU", "LSTM", "RNN"), values.recurrent),
    "AffineGrid": shapes.affine_grid,
    "CastLike": shapes.castlike,
    "Concat": shapes.concat,
    "DFT": values.dft,
    "Einsum": values.einsum,
    "Expand": shapes.expand,
    "Flatten": shapes.flatten,
    "Gather": shapes.gather,
    "GatherElements": shapes.gatherelements,
    "GatherND": shapes.gathernd,
    "Gemm": values.gemm,
    "GridSample": shapes.together,
    "MatMul": values.matmul,
    "OneHot": shapes.one_hot,
    "Pad": shapes.pad,
    "Reshape": shapes.reshape,
    "Resize": shapes.resize,
    "ScatterElements": shapes.gatherelements,
    "ScatterND": shapes.scatter_nd,
    "Slice": shapes.slice,
    "Split": shapes.split,
    "Squeeze": shapes.squeeze,
    "Tile": shapes.tile,
    "TopK": shapes.topk,
    "Transpose": shapes.transpose,
    "Unsqueeze": shapes.unsqueeze,
}


def follow(places: Places) -> None:
    """Follow the samples through all nodes. Raises MismatchError."""
    for position, node in enumerate(places.graph.node):
        places.at = position
        if node.op_type in KNOW_NO_SAMPLES or not any(name in places.found for name in node.input):
            continue
        is_along = node.op_type.startswith(("Reduce", "Arg"))
        RULES.get(node.op_type, values.reduce if is_along else values.elementwise)(places, node)
