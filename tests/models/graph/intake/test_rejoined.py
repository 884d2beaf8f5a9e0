# SPDX-License-Identifier: Apache-2.0
"""A weight that PyTorch's exporter folded for every call of a layer is one tensor, which is shared or untied as any."""

from __future__ import annotations

from pathlib import Path

import msgspec
import numpy as np
import onnx
import pytest
from fedge_models.graph.card import Card, Channel, WindowSpec, write_card
from fedge_models.graph.intake import read_model
from fedge_models.graph.trainable import TrainableGraph
from onnx import TensorProto, helper
from support.graphs import N, check_gradient, normal, run_ort, small

CARD = Card(
    "classify", tuple(Channel(c) for c in "abcdef"), WindowSpec(1, 1, 1), features=("mean",), labels=("x", "y", "z")
)
SIGNATURE, SCOPES = "pkg.torch.export.ExportedProgram.graph_signature", "pkg.torch.onnx.name_scopes"
FOLDED = "pkg.onnxscript.optimizer.folded_from"


def calls(count: int, of: tuple[str, ...] = ()) -> onnx.ModelProto:
    """A layer that is called so often, with a transposed copy of its weight for each; of: other origins of these."""
    nodes, given, weight = [], "x", (0.4 * normal(6, 6))
    for i in range(count):
        nodes += [
            N("MatMul", [given, f"val_{i}"], [f"m{i}"], name=f"node_{i}"),
            N("Tanh", [f"m{i}"], [given := f"h{i}"]),
        ]
        nodes[-2].metadata_props.add(key=SCOPES, value=str(["", "cell", f"linear_{i}"]))
    nodes.append(N("Gemm", [given, "out.weight"], ["y"], transB=1))
    tensors = {f"val_{i}": weight for i in range(count)} | {"out.weight": normal(3, 6)}
    model = small(nodes, tensors, (6,), (3,))
    origins = (of or ("cell.weight",) * count)[:count]
    for i, name in enumerate(origins):
        value = helper.make_tensor_value_info(f"val_{i}", TensorProto.FLOAT, (6, 6))
        value.metadata_props.add(key=FOLDED, value=str([name]))
        model.graph.value_info.append(value)
    lines = [f"p: PARAMETER target='{n}'" for n in dict.fromkeys((*origins, "out.weight"))]
    model.graph.metadata_props.add(key=SIGNATURE, value="\n# inputs\n" + "\n".join(lines))
    return model


def taken(model: onnx.ModelProto, folder: Path, shared: tuple[str, ...] = ()) -> bytes:
    write_card(model, msgspec.structs.replace(CARD, shared=shared))
    (folder / "m.onnx").write_bytes(model.SerializeToString())
    data = read_model(folder / "m.onnx")
    (folder / "again.onnx").write_bytes(data)
    assert read_model(folder / "again.onnx") == data  # both ends hash it
    return data


@pytest.mark.parametrize(("shared", "count"), [((), 3), (("cell.weight",), 1)])
def test_weight_folded_for_each_of_three_calls_is_shared_if_the_card_lists_it(
    shared: tuple[str, ...], count: int, tmp_path: Path
) -> None:
    model = calls(3)
    data = taken(model, tmp_path, shared)
    graph = TrainableGraph.load(data)
    assert len([t for t in graph.layout if t.name.startswith("cell.weight")]) == count
    assert any('shared = ["cell.weight"]' in n for n in graph.notes) is (count == 3)
    check_gradient(onnx.ModelProto.FromString(data), normal(5, 6))
    x = normal(4, 6)
    np.testing.assert_allclose(run_ort(data, x), run_ort(model.SerializeToString(), x), rtol=1e-4, atol=1e-5)


def test_weight_folded_for_each_step_of_a_loop_stays_one(tmp_path: Path) -> None:
    graph = TrainableGraph.load(taken(calls(5), tmp_path))
    assert [t.name for t in graph.layout] == ["cell.weight", "out.weight"]


def test_equal_weights_of_two_parameters_stay_two_though_the_card_lists_them(tmp_path: Path) -> None:
    graph = TrainableGraph.load(taken(calls(2, ("cell.weight", "other.weight")), tmp_path, ("*",)))
    assert [t.name for t in graph.layout] == ["cell.weight", "other.weight", "out.weight"]
