# SPDX-License-Identifier: Apache-2.0
"""A session serves the weights that it is given, not those of the file, whatever ONNX Runtime makes of the graph."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
import pytest
from fedge_agent.learning.serving import Session
from fedge_models.errors import ModelError
from fedge_models.graph import zoo
from fedge_models.graph.card import Card, Channel, ImageSpec, WindowSpec, write_card
from fedge_models.graph.intake import with_weights
from fedge_models.graph.trainable import TrainableGraph
from support.graphs import N, normal, small

PLAIN = Card("classify", (Channel("a"), Channel("b")), WindowSpec(1, 8, 8), labels=("ok", "worn", "blocked"))
PICTURE = Card("classify", (Channel("c"),), WindowSpec(1, 1, 1), labels=PLAIN.labels, image=ImageSpec(16, 16, "rgb"))


def of(nodes: list[Any], weights: dict[str, Any], shape: tuple[int, ...], card: Card) -> onnx.ModelProto:
    model = small(nodes, {name: np.asarray(value, np.float32) for name, value in weights.items()}, shape, (3,))
    write_card(model, card)
    return model


def convolution(channels: int) -> onnx.ModelProto:
    """Packed into blocks of 8 or 16 channels (NCHWc)."""
    nodes = [
        N("Conv", ["x", "w", "b"], ["c"], pads=[1, 1, 1, 1]),
        N("Relu", ["c"], ["r"]),
        N("GlobalAveragePool", ["r"], ["p"]),
        N("Flatten", ["p"], ["f"]),
        N("Gemm", ["f", "v"], ["y"]),
    ]
    weights = {"w": normal(channels, 3, 3, 3), "b": normal(channels), "v": normal(channels, 3)}
    return of(nodes, weights, (3, 16, 16), PICTURE)


def normalised() -> onnx.ModelProto:
    """A BatchNormalization, which is fused into the convolution before it."""
    nodes = [
        N("Conv", ["x", "w"], ["c"], pads=[1, 1, 1, 1]),
        N("BatchNormalization", ["c", "s", "b", "m", "v"], ["n"]),
        N("GlobalAveragePool", ["n"], ["p"]),
        N("Flatten", ["p"], ["y"]),
    ]
    weights = {"w": normal(3, 3, 3, 3), "s": np.ones(3), "b": np.zeros(3), "m": normal(3), "v": np.ones(3)}
    return of(nodes, weights, (3, 16, 16), PICTURE)


def transposed() -> onnx.ModelProto:
    """A weight that is transposed in the graph, which is folded."""
    nodes = [
        N("Flatten", ["x"], ["f"]),
        N("Transpose", ["w"], ["t"], perm=[1, 0]),
        N("MatMul", ["f", "t"], ["y"]),
    ]
    return of(nodes, {"w": normal(3, 16)}, (2, 8), PLAIN)


def scaled() -> onnx.ModelProto:
    """A weight made of a direction and a length, as weight norm exports it: folded, too."""
    nodes = [
        N("Flatten", ["x"], ["f"]),
        N("Mul", ["w", "g"], ["t"]),
        N("MatMul", ["f", "t"], ["y"]),
    ]
    return of(nodes, {"w": normal(16, 3), "g": normal(1, 3)}, (2, 8), PLAIN)


@pytest.mark.parametrize(
    "make",
    [lambda: convolution(8), lambda: convolution(16), lambda: convolution(5), normalised, transposed, scaled,
     lambda: zoo.cnn2d(PICTURE, (3, 16, 16), (8, 16)), lambda: zoo.mlp(PLAIN, 16, (8,))],
    ids=["8 channels", "16 channels", "5 channels", "BatchNorm", "transposed", "scaled", "starter", "dense"],
)  # fmt: skip
def test_session_serves_the_weights_it_is_given(make: Callable[[], onnx.ModelProto]) -> None:
    file = make().SerializeToString()
    graph, rng = TrainableGraph.load(file), np.random.default_rng(7)
    x = rng.normal(size=(1, *graph.input_shape)).astype(np.float32)
    before = graph.forward(x).copy()
    for _ in range(2):  # releases, each made of the same file
        graph.set_params(graph.params + 0.3 * rng.normal(size=graph.params.size).astype(np.float32))
        session = Session(file, graph.initializers(graph.params.copy()))
        session.input[...] = x[0]
        expected = graph.forward(x)[0].copy()
        assert np.abs(expected - before[0]).max() > 0.01
        np.testing.assert_allclose(session.run(), expected, rtol=1e-3, atol=1e-4)


def test_weights_that_the_file_does_not_have_are_refused() -> None:
    file = zoo.mlp(PLAIN, 16, (8,)).SerializeToString()
    with pytest.raises(ModelError, match="the file has no tensor 'elsewhere', whose values are to be written into it"):
        with_weights(file, {"elsewhere": np.zeros(3, np.float32)})
