# SPDX-License-Identifier: Apache-2.0
"""Hostile and broken ONNX files: a clear error within bounded memory and time, whatever they claim."""

from __future__ import annotations

import resource
from collections.abc import Callable

import numpy as np
import onnx
import pytest
from fedge_models.errors import ModelError
from fedge_models.graph import zoo
from fedge_models.graph.intake import bounded_memory
from fedge_models.graph.trainable import TrainableGraph
from support.graphs import RAW, N, ints, normal, small

HUGE = 1 << 40
BOUND = 512 << 20


def dense(*nodes: object, **tensors: np.ndarray) -> onnx.ModelProto:
    """x (n, 4) through a trainable product as h, then the given nodes to y (n, 4)."""
    return small([N("Gemm", ["x", "w"], ["h"]), *nodes], {"w": normal(4, 4), **tensors}, (4,), (4,))


def huge_input() -> onnx.ModelProto:
    model = dense(N("Relu", ["h"], ["y"]))
    model.graph.input[0].type.tensor_type.shape.dim[1].dim_value = HUGE
    return model


def cycle() -> onnx.ModelProto:
    return dense(N("Add", ["h", "b"], ["a"]), N("Relu", ["a"], ["b"]), N("Identity", ["b"], ["y"]))


def missing_initializer() -> onnx.ModelProto:
    model = dense(N("Relu", ["h"], ["y"]))
    del model.graph.initializer[:]
    return model


def constant_outside() -> onnx.ModelProto:
    tensor = onnx.TensorProto(name="c", data_type=1, dims=[4], data_location=onnx.TensorProto.EXTERNAL)
    tensor.external_data.add(key="location", value="/etc/passwd")
    return dense(N("Constant", [], ["c"], value=tensor), N("Add", ["h", "c"], ["y"]))


def false_claim() -> onnx.ModelProto:
    model = dense(N("Relu", ["h"], ["y"]))
    model.graph.initializer[0].dims[0] = 1 << 29  # 2 GiB of float32 rows
    return model


def constant_bomb() -> onnx.ModelProto:
    return dense(
        N("ConstantOfShape", ["s"], ["c"]), N("ReduceSum", ["c"], ["r"], keepdims=0), N("Add", ["h", "r"], ["y"]),
        s=ints(HUGE),
    )  # fmt: skip


def expand_bomb() -> onnx.ModelProto:
    return dense(
        N("Reshape", ["h", "r"], ["a"]), N("Expand", ["a", "s"], ["e"]), N("Exp", ["e"], ["p"]),
        N("ReduceSum", ["p", "over"], ["y"], keepdims=0),
        r=ints(0, 1, 4), s=ints(1, 1 << 30, 1), over=ints(1),
    )  # fmt: skip


def pad_bomb() -> onnx.ModelProto:
    return dense(
        N("Pad", ["h", "p"], ["q"]), N("Slice", ["q", "a", "b"], ["y"]), p=ints(0, 0, 0, HUGE), a=ints(0), b=ints(4)
    )


def zero_stride() -> onnx.ModelProto:
    nodes = [N("Conv", ["x", "w"], ["y"], strides=[0])]
    return small(nodes, {"w": normal(2, 2, 3)}, (2, 6), (2, 4))


def kernel_beyond_input() -> onnx.ModelProto:
    return small([N("Conv", ["x", "w"], ["y"])], {"w": normal(2, 2, 9)}, (2, 6), (2, 1))


def wrong_product() -> onnx.ModelProto:
    return small([N("MatMul", ["x", "w"], ["y"])], {"w": normal(5, 4)}, (4,), (4,))


def output_of_another_shape() -> onnx.ModelProto:
    return small([N("MatMul", ["x", "w"], ["y"])], {"w": normal(4, 3)}, (4,), (7,))


def gather_outside() -> onnx.ModelProto:
    return dense(N("Gather", ["h", "i"], ["y"], axis=1), i=ints(0, 1, 2, 99))


def repeated_output() -> onnx.ModelProto:
    return dense(N("Relu", ["h"], ["h"]), N("Identity", ["h"], ["y"]))


@pytest.mark.parametrize("schemas", [True, False])
@pytest.mark.parametrize(
    "make",
    [
        huge_input, cycle, missing_initializer, constant_outside, false_claim, constant_bomb, expand_bomb, pad_bomb,
        zero_stride, kernel_beyond_input, wrong_product, output_of_another_shape, gather_outside, repeated_output,
    ],
)  # fmt: skip
def test_hostile_file_is_refused_within_bounded_memory(make: Callable[[], onnx.ModelProto], schemas: bool) -> None:
    data = make().SerializeToString()
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(ModelError) as found, bounded_memory(BOUND, "m.onnx"):
        TrainableGraph.load(data, where="m.onnx", schemas=schemas).probe()
    assert "m.onnx" in str(found.value)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < BOUND // 1024


def test_every_truncation_is_refused() -> None:
    data = zoo.mlp(RAW, 10, (4,)).SerializeToString()
    for length in range(0, len(data), 7):
        with pytest.raises(ModelError):
            TrainableGraph.load(data[:length]).probe()
