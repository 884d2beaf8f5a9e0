# SPDX-License-Identifier: Apache-2.0
"""Say where the patterns of `trainable` do not do what they look like: they miss a layer's weight, or match nothing."""

from __future__ import annotations

from collections.abc import Iterator
from fnmatch import fnmatchcase
from math import prod
from typing import TYPE_CHECKING

from ...protos import FLOAT
from ...system.choices import hint
from ..card import Card
from ..nodes import alive, chosen
from ..notes import replace_notes

if TYPE_CHECKING:
    import onnx

BEGIN = "trainable: "  # how these notes begin
WITH_BIAS = ("Conv", "ConvTranspose", "Gemm")
EVERYTHING = "*"


def note_patterns(model: onnx.ModelProto, card: Card) -> bool:
    """Note them in the file, in place of notes about other patterns. Return whether there are others than before."""
    return replace_notes(model, BEGIN, [*_said(model, card)] if card.trainable != EVERYTHING else [])


def _said(model: onnx.ModelProto, card: Card) -> Iterator[str]:
    trained = {*chosen(model, card.trainable, card.batch_norm == "updated", card.constants)}
    if not trained:
        return  # it is refused
    globs = [g.strip() for g in card.trainable.split(",")]
    sizes = {t.name: prod(t.dims) for t in model.graph.initializer if t.data_type == FLOAT}
    for glob in globs:
        if glob not in sizes and not any(fnmatchcase(n, glob) for n in sizes):
            yield f"{BEGIN}{glob!r} matches no tensor of the file; {hint(glob, sizes)}"
    for bias, weight in _layers(model):
        meant = any(fnmatchcase(bias, g) and not g.endswith("bias") for g in globs)
        if bias in trained and weight in sizes and meant and weight not in trained and weight not in card.constants:
            yield (
                f"{BEGIN}{card.trainable!r} trains {bias} ({sizes[bias]} values), but not the weight of that layer, "
                f"{weight} ({sizes[weight]} values); add its name to train it, too"
            )


def _layers(model: onnx.ModelProto) -> Iterator[tuple[str, str]]:
    """The names of what is added in each layer, and of what is multiplied there."""
    living = [model.graph.node[i] for i in sorted(alive(model))]
    products = {n.output[0]: n.input for n in living if n.op_type == "MatMul"}
    for node in living:
        if node.op_type in WITH_BIAS and len(node.input) > 2:
            yield node.input[2], node.input[1]
        if node.op_type == "Add":
            for bias, made in (node.input[:2], node.input[1::-1]):
                yield from ((bias, weight) for weight in products.get(made, ()))
