# SPDX-License-Identifier: Apache-2.0
"""Parameters in front of a straight-through estimator are named and not trained; others are trained as before."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from fedge_models.graph.card import Card, Channel, WindowSpec, write_card
from fedge_models.graph.intake import read_model
from fedge_models.graph.trainable import TrainableGraph
from support.graphs import N, normal, small

CARD = Card("regress", tuple(Channel(c) for c in "abcd"), WindowSpec(1, 1, 1), features=("mean",))
FRONT = N("Gemm", ["x", "l.weight", "l.bias"], ["h"])
HEAD = N("Gemm", ["s", "o.weight", "o.bias"], ["y"])
ROUND = N("Round", ["h"], ["r"])
CANCELLED: dict[str, list[Any]] = {
    "x + (round(x) - x)": [ROUND, N("Sub", ["r", "h"], ["d"]), N("Add", ["h", "d"], ["s"])],
    "(sign(x) - x) + x": [N("Sign", ["h"], ["r"]), N("Sub", ["r", "h"], ["d"]), N("Add", ["d", "h"], ["s"])],
    "x - (x - floor(x))": [N("Floor", ["h"], ["r"]), N("Sub", ["h", "r"], ["d"]), N("Sub", ["h", "d"], ["s"])],
}
REACHED: dict[str, list[Any]] = {
    "beside it": [*CANCELLED["x + (round(x) - x)"][:2], N("Add", ["h", "d"], ["e"]), N("Mul", ["e", "h"], ["s"])],
    "a layer between": [N("Tanh", ["h"], ["r"]), N("Sub", ["r", "h"], ["d"]), N("Add", ["h", "d"], ["s"])],
    "the difference is read": [
        *[ROUND, N("Sub", ["r", "h"], ["d"]), N("Add", ["h", "d"], ["e"]), N("Mul", ["e", "d"], ["s"])]
    ],
    "a step": [N("Relu", ["h"], ["s"])],
}


def taken(nodes: list[Any], folder: Path) -> TrainableGraph:
    tensors = {"l.weight": normal(4, 4), "l.bias": normal(4), "o.weight": normal(4, 4), "o.bias": normal(4)}
    model = small([FRONT, *nodes, HEAD], tensors, (4,), (4,))
    write_card(model, CARD)
    (folder / "m.onnx").write_bytes(model.SerializeToString())
    return TrainableGraph.load(read_model(folder / "m.onnx"))


@pytest.mark.parametrize("name", CANCELLED)
def test_what_no_gradient_reaches_is_said_and_not_trained(name: str, tmp_path: Path) -> None:
    graph = taken(CANCELLED[name], tmp_path)
    assert {t.name for t in graph.layout} == {"o.weight", "o.bias"}
    assert any("no gradient reaches l.weight, l.bias: " in n for n in graph.notes)


@pytest.mark.parametrize("name", REACHED)
def test_what_a_gradient_reaches_is_trained(name: str, tmp_path: Path) -> None:
    graph = taken(REACHED[name], tmp_path)
    assert {t.name for t in graph.layout} == {"l.weight", "l.bias", "o.weight", "o.bias"}
    assert not any("no gradient" in n for n in graph.notes)
