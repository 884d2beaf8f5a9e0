# SPDX-License-Identifier: Apache-2.0
"""Weights that an exporter wrote as Constant nodes, sparse, or beside the file in either, are tensors that train."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from fedge_models.errors import ModelError
from fedge_models.graph.intake import read_model
from fedge_models.graph.trainable import TrainableGraph
from onnx import helper, numpy_helper
from support.graphs import N, check_gradient, normal, run_ort, small

WEIGHTS = {"body": normal(4, 5), "bias": normal(5), "head": normal(5, 2)}
NODES = [N("Gemm", ["x", "body", "bias"], ["h"]), N("Tanh", ["h"], ["t"]), N("MatMul", ["t", "head"], ["y"])]


def constant(name: str, value: np.ndarray) -> onnx.NodeProto:
    return N("Constant", [], [name], value=numpy_helper.from_array(value))


def taken(model: onnx.ModelProto, folder: Path) -> TrainableGraph:
    (folder / "m.onnx").write_bytes(model.SerializeToString())
    data, x = read_model(folder / "m.onnx"), normal(3, 4)
    (folder / "again.onnx").write_bytes(data)
    assert read_model(folder / "again.onnx") == data  # both ends hash it
    if not any(t.data_location for t in model.graph.initializer):
        np.testing.assert_allclose(run_ort(data, x), run_ort(model.SerializeToString(), x), rtol=1e-6)
    check_gradient(onnx.ModelProto.FromString(data), x)
    return TrainableGraph.load(data)


def test_constant_nodes_are_the_weights_of_a_file_without_any_other(tmp_path: Path) -> None:
    model = small([*(constant(k, v) for k, v in WEIGHTS.items()), *NODES], {}, (4,), (2,))
    graph = taken(model, tmp_path)
    assert {t.name for t in graph.layout} == set(WEIGHTS)
    assert graph.notes == ("stored: 3 Constant nodes, which hold all weights of the file, are tensors now",)


def test_constant_nodes_beside_weights_are_no_weights(tmp_path: Path) -> None:
    table = constant("table", normal(4))
    nodes = [table, N("Add", ["x", "table"], ["s"]), N("Gemm", ["s", "body", "bias"], ["h"]), *NODES[1:]]
    assert {t.name for t in taken(small(nodes, WEIGHTS, (4,), (2,)), tmp_path).layout} == set(WEIGHTS)


@pytest.mark.parametrize("coordinates", [False, True])
def test_sparse_tensor_is_written_out(coordinates: bool, tmp_path: Path) -> None:
    value = np.where(np.arange(20).reshape(4, 5) % 3, 0, WEIGHTS["body"])
    at = np.argwhere(value) if coordinates else np.flatnonzero(value)
    model = small(NODES, {k: v for k, v in WEIGHTS.items() if k != "body"}, (4,), (2,))
    found = numpy_helper.from_array(value[value != 0], "body")
    model.graph.sparse_initializer.append(helper.make_sparse_tensor(found, numpy_helper.from_array(at), value.shape))
    graph = taken(model, tmp_path)
    assert {t.name for t in graph.layout} == set(WEIGHTS) and graph.notes == ("sparse: body written out",)


@pytest.mark.parametrize(("dims", "words"), [([4, 4], "does not hold"), ([1 << 20, 1 << 20], "claims the shape")])
def test_sparse_tensor_that_is_not_what_it_claims_is_refused(dims: list[int], words: str, tmp_path: Path) -> None:
    model = small(NODES, {k: v for k, v in WEIGHTS.items() if k != "body"}, (4,), (2,))
    found = numpy_helper.from_array(normal(2), "body")
    sparse = helper.make_sparse_tensor(found, numpy_helper.from_array(np.array([1, 19])), [4, 5])
    sparse.dims[:] = dims
    model.graph.sparse_initializer.append(sparse)
    (tmp_path / "m.onnx").write_bytes(model.SerializeToString())
    with pytest.raises(ModelError, match=rf"sparse tensor 'body' {words}"):
        read_model(tmp_path / "m.onnx")


def test_constant_nodes_whose_values_lie_beside_the_file(tmp_path: Path) -> None:
    model = small([*(constant(k, v) for k, v in WEIGHTS.items()), *NODES], {}, (4,), (2,))
    (tmp_path / "inside.onnx").write_bytes(model.SerializeToString())
    where = str(tmp_path / "m.onnx")
    onnx.save_model(
        model, where, save_as_external_data=True, location="m.data", size_threshold=0, convert_attribute=True
    )
    assert (tmp_path / "m.data").stat().st_size > 0
    one, other = (TrainableGraph.load(read_model(tmp_path / n)) for n in ("m.onnx", "inside.onnx"))
    np.testing.assert_array_equal(one.params, other.params)
