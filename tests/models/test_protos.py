# SPDX-License-Identifier: Apache-2.0
"""ONNX's messages without its package: the same classes, and the same values as its own helpers read and write."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from fedge_models import protos
from fedge_models.errors import ModelError
from fedge_models.graph import zoo
from fedge_models.graph.card import Card, Channel, WindowSpec
from fedge_models.graph.trainable import TrainableGraph
from hypothesis import given
from hypothesis import strategies as st
from onnx import helper, numpy_helper

KINDS = [1, 2, 3, 4, 5, 6, 7, 9, 10, 11, 12, 13]


@given(st.sampled_from(KINDS), st.booleans(), st.lists(st.integers(0, 3), max_size=3), st.integers(0, 2**32))
def test_values_are_those_of_the_package(kind: int, raw: bool, dims: list[int], seed: int) -> None:
    dtype = helper.tensor_dtype_to_np_dtype(kind)
    noise = np.random.default_rng(seed).integers(-100, 100, dims)
    array = np.asarray(np.abs(noise) if dtype.kind in "ub" else noise).astype(dtype)
    package = numpy_helper.from_array(array, "t") if raw else helper.make_tensor("t", kind, dims, array.ravel())
    got = protos.values(package)
    np.testing.assert_array_equal(got, numpy_helper.to_array(package))
    assert got.dtype == dtype and got.shape == tuple(dims)


@pytest.mark.parametrize("kind", [8, 14, 16], ids=["text", "complex", "bfloat16"])
def test_rare_values_are_read_by_the_package(kind: int) -> None:
    tensor = helper.make_tensor("t", kind, [2], [b"a", b"b"] if kind == 8 else [1, 2])
    assert protos.values(tensor).tolist() == numpy_helper.to_array(tensor).tolist()


@pytest.mark.parametrize("raw", [True, False])
def test_values_that_are_not_as_many_as_claimed_are_refused(raw: bool) -> None:
    tensor = helper.make_tensor("t", 1, [3], np.zeros(3, "<f4").tobytes() if raw else [0, 0, 0], raw)
    tensor.dims[0] = 4
    with pytest.raises(ValueError, match="reshape"):
        protos.values(tensor)


@pytest.mark.parametrize("array", [np.array(2, np.float32), np.zeros((2, 0), np.float32), np.arange(3)])
def test_tensor_is_what_the_package_writes(array: np.ndarray) -> None:
    assert protos.tensor("t", array) == numpy_helper.from_array(array, "t")


def test_attribute_is_read_as_by_the_package() -> None:
    graph = helper.make_graph([], "g", [], [])
    tensor = helper.make_tensor("t", 1, [1], [1.0])
    for value in (1, 0.5, "a", tensor, graph, [1, 2], [0.5, 1.0], ["a", "b"], [tensor], [graph]):
        made = helper.make_attribute("a", value)
        got = protos.attribute(made)
        assert got == helper.get_attribute_value(made) and type(got) is type(helper.get_attribute_value(made))


def test_attribute_of_another_kind_is_refused_by_name() -> None:
    card = Card("classify", (Channel("a"),), WindowSpec(1.0, 1, 1), ("mean",), ("x", "y"))
    model = zoo.mlp(card, 1, (3,))
    model.graph.node[0].attribute.add(name="odd", type=onnx.AttributeProto.TYPE_PROTO)
    with pytest.raises(ModelError, match=r"attribute 'odd' is of type 13"):
        TrainableGraph.load(model.SerializeToString(), schemas=False)


@pytest.mark.parametrize("dims", [None, (), ("n", 3)])
def test_value_info_is_that_of_the_package(dims: tuple[str | int, ...] | None) -> None:
    if dims == ():  # nothing said is nothing written
        assert not protos.value_info("v", dims).type.tensor_type.shape.dim
    else:
        assert protos.value_info("v", dims) == helper.make_tensor_value_info("v", 1, dims)


def test_newest_opset_is_one_that_the_package_knows() -> None:
    assert onnx.defs.onnx_opset_version() >= protos.NEWEST_OPSET


def test_messages_come_without_the_package_and_are_its_own() -> None:
    script = """
import sys
from fedge_models.protos import messages
model = messages().ModelProto(ir_version=8)
assert "onnx" not in sys.modules and "ml_dtypes" not in sys.modules
import onnx
assert onnx.ModelProto is messages().ModelProto and onnx.load_from_string(model.SerializeToString()).ir_version == 8
"""
    subprocess.run([sys.executable, "-c", script], check=True)


def test_a_gateway_reads_and_writes_its_model_without_the_package(tmp_path: Path) -> None:
    card = Card("classify", (Channel("a"),), WindowSpec(1.0, 1, 1), ("mean",), ("x", "y"))
    (tmp_path / "m.onnx").write_bytes(zoo.mlp(card, 1, (3,)).SerializeToString())
    script = """
import sys
from pathlib import Path
from fedge_agent import app
from fedge_agent.learning import serving
from fedge_models.graph.trainable import TrainableGraph
from fedge_models.graph.intake import read_model, with_weights
data = read_model(Path(sys.argv[1]))
graph = TrainableGraph.load(data, schemas=False)
weights = graph.initializers(graph.params)
serving.Session(with_weights(data, weights), weights)
assert "onnxruntime" in sys.modules and "onnx" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", script, str(tmp_path / "m.onnx")], check=True)


def test_threads_that_read_their_first_models_together_all_see_the_messages() -> None:
    together = """
import sys, threading
from fedge_models import protos
sys.setswitchinterval(1e-6)
begin, seen = threading.Barrier(8), []
def look():
    begin.wait()
    seen.append(protos.messages().ModelProto)
threads = [threading.Thread(target=look) for _ in range(8)]
for t in threads: t.start()
for t in threads: t.join()
assert len(seen) == 8 and len(set(seen)) == 1, seen
"""
    subprocess.run([sys.executable, "-W", "error", "-c", together], check=True)


@pytest.mark.parametrize("size", [1, 31, 5000, 70_000])
def test_initializer_that_follows_a_model_is_one_of_it(size: int) -> None:
    model = zoo.mlp(Card("classify", (Channel("a"),), WindowSpec(1.0, 1, 1), ("mean",), ("x", "y")), 1, (3,))
    tensor = numpy_helper.from_array(np.arange(size, dtype=np.float32), "more")
    data = model.SerializeToString() + protos.as_initializer(tensor.SerializeToString())
    model.graph.initializer.append(tensor)
    assert onnx.ModelProto.FromString(data) == model
