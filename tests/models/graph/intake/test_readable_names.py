# SPDX-License-Identifier: Apache-2.0
"""Names that are no UTF-8 become text, by which tensors are chosen and files are refused."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from fedge_models.errors import ModelError
from fedge_models.graph.card import write_card
from fedge_models.graph.intake import read_model
from fedge_models.graph.trainable import TrainableGraph
from support.graphs import N, normal, run_ort, small
from support.refused_files import CARD


def file() -> bytes:
    nodes = [N("MatMul", ["x", "kernel"], ["hidden"], name="layer"), N("Relu", ["hidden"], ["y"], name="relu")]
    model = small(nodes, {"kernel": normal(4, 2)}, (4,), (2,))
    write_card(model, CARD)
    return model.SerializeToString()


def damaged(name: str, times: int) -> bytes:
    """The file with another byte in a name, the first `times` that it is there."""
    return file().replace(name.encode(), name[:2].encode() + b"\xfc" + name[3:].encode(), times)


@pytest.mark.parametrize("name", ["kernel", "hidden", "layer"])
def test_name_of_another_encoding_becomes_text(name: str, tmp_path: Path) -> None:
    given = damaged(name, -1)
    (tmp_path / "m.onnx").write_bytes(given)
    data, x = read_model(tmp_path / "m.onnx"), normal(5, 4)
    graph = TrainableGraph.load(data)
    made = f"{name[:2]}\\xfc{name[3:]}"
    assert [t.name for t in graph.layout] == [made if name == "kernel" else "kernel"]
    assert f"names: {made}: they were no UTF-8 in the file" in graph.notes
    np.testing.assert_allclose(graph.forward(x), run_ort(given, x), atol=1e-6)
    assert all(isinstance(n, str) for node in onnx.ModelProto.FromString(data).graph.node for n in node.input)
    (tmp_path / "m.onnx").write_bytes(data)
    assert read_model(tmp_path / "m.onnx") == data


@pytest.mark.parametrize(("name", "said"), [("kernel", "node 'layer' reads 'ke"), ("MatMul", r"(Ma\xfcMul)")])
def test_refusal_of_a_damaged_name_shows_text(name: str, said: str, tmp_path: Path) -> None:
    (tmp_path / "m.onnx").write_bytes(damaged(name, 1))
    with pytest.raises(ModelError) as refused:
        read_model(tmp_path / "m.onnx")
    assert said in str(refused.value) and "b'" not in str(refused.value)
