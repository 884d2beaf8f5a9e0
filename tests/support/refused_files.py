# SPDX-License-Identifier: Apache-2.0
"""A small file of each kind that is refused, by its name in `graph.refusals.REFUSALS`."""

from __future__ import annotations

import msgspec
import onnx
from fedge_models.graph.card import Card, Channel, WindowSpec, write_card
from onnx import TensorProto, helper, numpy_helper

from .graphs import N, ints, normal, small

CARD = Card(
    "classify", tuple(Channel(c) for c in "abcd"), WindowSpec(1, 1, 1), features=("mean",), labels=("ok", "bad")
)
ML, MICROSOFT, ATEN = "ai.onnx.ml", "com.microsoft", "org.pytorch.aten"


def _file(*nodes: onnx.NodeProto, opset: int = 17, width: int = 2) -> onnx.ModelProto:
    model = small([*nodes], {"w": normal(4, width), "sizes": ints(-1, 2)}, (4,), (width,), opset)
    for domain in (ML, MICROSOFT, ATEN):
        model.opset_import.append(helper.make_opsetid(domain, 1))
    write_card(model, CARD)
    return model


def _trees() -> onnx.ModelProto:
    return _file(N("TreeEnsembleClassifier", ["x"], ["label", "y"], domain=ML, name="forest"))


def _kernel() -> onnx.ModelProto:
    return _file(N("SVMClassifier", ["x"], ["label", "y"], domain=ML, name="svm"))


def _text() -> onnx.ModelProto:
    model = _file(N("Gather", ["words", "input_ids"], ["e"]), N("ReduceMean", ["e"], ["y"], axes=[1], keepdims=0))
    model.graph.initializer.append(onnx.numpy_helper.from_array(normal(50, 2), "words"))
    model.graph.input[0].name = "input_ids"
    model.graph.input[0].type.tensor_type.elem_type = TensorProto.INT64
    return model


def _categories() -> onnx.ModelProto:
    encode = N("OneHotEncoder", ["x"], ["h"], domain=ML, cats_strings=["R1", "R2"], name="encode")
    return _file(encode, N("ReduceMean", ["h"], ["y"], axes=[2], keepdims=0))


def _control_flow() -> onnx.ModelProto:
    out = helper.make_tensor_value_info("inner", TensorProto.FLOAT, ["n", 2])
    weight = helper.make_tensor("v", TensorProto.FLOAT, [4, 2], normal(4, 2).ravel())
    body = helper.make_graph([N("MatMul", ["x", "v"], ["inner"])], "branch", [], [out], [weight])
    nodes = [N("ReduceMean", ["x"], ["mean"], keepdims=0), N("IsNaN", ["mean"], ["yes"])]
    return _file(*nodes, N("If", ["yes"], ["y"], then_branch=body, else_branch=body, name="choose"))


def _large_graphs() -> onnx.ModelProto:
    """Branches that hold more than the graph may have when they are put in their place."""
    out = helper.make_tensor_value_info("t4096", TensorProto.FLOAT, None)
    steps = [N("Identity", [f"t{i - 1}" if i else "x"], [f"t{i}"]) for i in range(4097)]
    body = helper.make_graph(steps, "branch", [], [out])
    nodes = [N("Shape", ["x"], ["s"]), N("Size", ["s"], ["rank"]), N("Cast", ["rank"], ["yes"], to=TensorProto.BOOL)]
    return _file(
        *nodes, N("If", ["yes"], ["z"], then_branch=body, else_branch=body, name="rank"), N("MatMul", ["z", "w"], ["y"])
    )


def _loop(condition: list[onnx.NodeProto], limit: int) -> onnx.ModelProto:
    """Halve what is measured, again and again."""
    values = [helper.make_tensor_value_info(n, t, s) for n, t, s in (("i", 7, []), ("go", 9, []), ("h", 1, None))]
    outputs = [helper.make_tensor_value_info(n, t, s) for n, t, s in (("on", 9, []), ("half", 1, None))]
    steps = [N("Mul", ["h", "less"], ["half"]), *condition]
    body = helper.make_graph(steps, "body", values, outputs, [helper.make_tensor("less", 1, [], [0.5])])
    model = _file(N("Loop", ["limit", "", "x"], ["z"], body=body, name="repeat"), N("MatMul", ["z", "w"], ["y"]))
    model.graph.initializer.append(helper.make_tensor("limit", TensorProto.INT64, [], [limit]))
    return model


def _loop_by_values() -> onnx.ModelProto:
    mean = N("ReduceMean", ["half"], ["mean"], keepdims=0)
    return _loop([mean, N("IsNaN", ["mean"], ["yes"]), N("Not", ["yes"], ["on"])], 24)


def _long_loop() -> onnx.ModelProto:
    return _loop([N("Identity", ["go"], ["on"])], 1 << 40)


def _broken() -> onnx.ModelProto:
    return _file(
        N("Transpose", ["w"], ["turned"], perm=[1, 0]), N("MatMul", ["x", "turned"], ["y"], name="/embed/MatMul")
    )


def _projection() -> onnx.ModelProto:
    """A cell state of another width than the output."""
    nodes = [
        N("Reshape", ["x", "steps"], ["t"]),
        N("LSTM", ["t", "wi", "wr", "", "", "h0", "c0"], ["", "last"], hidden_size=2, name="lstm"),
        N("Reshape", ["last", "sizes"], ["y"]),
    ]
    model = _file(*nodes)
    more = {"wi": normal(1, 8, 4), "wr": normal(1, 8, 2), "h0": normal(1, 1, 2), "c0": normal(1, 1, 3)}
    tensors = {**more, "steps": ints(1, -1, 4)}
    model.graph.initializer.extend(onnx.numpy_helper.from_array(a, n) for n, a in tensors.items())
    return model


def _no_output() -> onnx.ModelProto:
    model = _file(N("MatMul", ["x", "w"], ["y"]))
    del model.graph.output[:]
    return model


def _constant() -> onnx.ModelProto:
    return _file(N("MatMul", ["x", "w"], ["m"]), N("Tanh", ["w"], ["y"]))


def _sizes() -> onnx.ModelProto:
    model = _file(N("MatMul", ["x", "w"], ["y"]))
    model.graph.initializer[0].dims[0] = 1 << 40
    return model


def _operator() -> onnx.ModelProto:
    return _file(N("MatMul", ["x", "w"], ["m"]), N("Erfc", ["m"], ["y"], name="gelu/Erfc"))


def _function() -> onnx.ModelProto:
    model = _file(N("MatMul", ["x", "w"], ["m"]), N("Relu", ["m"], ["y"]))
    opset = [helper.make_opsetid("", 17)]
    model.functions.append(helper.make_function("", "Relu", ["a"], ["o"], [N("Tanh", ["a"], ["o"])], opset))
    return model


def _fitted() -> onnx.ModelProto:
    model = _file(N("MatMul", ["x", "w"], ["y"]))
    model.producer_name = "skl2onnx"
    write_card(model, msgspec.structs.replace(CARD, constants=("w",)))
    return model


def _left_inputs() -> onnx.ModelProto:
    mean = "norm/Sub/y:0"
    model = _file(N("Sub", ["x", mean], ["d"]), N("MatMul", ["d", "w"], ["y"]))
    model.graph.input.append(helper.make_tensor_value_info(mean, TensorProto.FLOAT, [1, 4]))
    return model


def _label_order() -> onnx.ModelProto:
    """One score for two classes with names, as RidgeClassifier gives it."""
    above = [N("Cast", ["y"], ["above"], to=TensorProto.BOOL), N("Cast", ["above"], ["class"], to=TensorProto.INT64)]
    label = N("ArrayFeatureExtractor", ["classes", "class"], ["label"], domain=ML)
    model = _file(N("MatMul", ["x", "w"], ["y"]), *above, label, width=1)
    model.graph.initializer.append(helper.make_tensor("classes", TensorProto.STRING, [2], ["bad", "ok"]))
    model.graph.output.append(helper.make_tensor_value_info("label", TensorProto.STRING, None))
    return model


def _opset() -> onnx.ModelProto:
    return _file(N("MatMul", ["x", "w"], ["y"]), opset=6)


def _no_opset() -> onnx.ModelProto:
    model = _file(N("MatMul", ["x", "w"], ["y"]))
    del model.opset_import[0]
    return model


def _optimised() -> onnx.ModelProto:
    return _file(N("FusedMatMul", ["x", "w"], ["y"], domain=MICROSOFT, name="fused"))


def _quantised() -> onnx.ModelProto:
    model = _file(N("DynamicQuantizeMatMul", ["x", "q", "s"], ["y"], domain=MICROSOFT, name="dense_quant"))
    del model.graph.initializer[:]
    model.graph.initializer.append(helper.make_tensor("q", TensorProto.INT8, [4, 2], range(8)))
    model.graph.initializer.append(helper.make_tensor("s", TensorProto.FLOAT, [], [0.1]))
    return model


def _fallback() -> onnx.ModelProto:
    aten = N("ATen", ["m"], ["y"], domain=ATEN, operator="special", name="aten_3")
    return _file(N("MatMul", ["x", "w"], ["m"]), aten)


def _outputs() -> onnx.ModelProto:
    model = _file(N("MatMul", ["x", "w"], ["y"]), N("Tanh", ["y"], ["embedding"]))
    model.graph.output.append(helper.make_tensor_value_info("embedding", TensorProto.FLOAT, ["n", 2]))
    return model


def _inputs() -> onnx.ModelProto:
    model = _file(N("MatMul", ["x", "w"], ["m"]), N("Add", ["m", "vibration"], ["y"]))
    model.graph.input.append(helper.make_tensor_value_info("vibration", TensorProto.FLOAT, ["n", 2]))
    return model


def _one_value() -> onnx.ModelProto:
    return _file(N("MatMul", ["x", "w"], ["z"]), N("Tanh", ["z"], ["y"]), width=1)


def _sequence() -> onnx.ModelProto:
    """A place in a list that a value decides."""
    return _file(
        N("Neg", ["x"], ["less"]),
        N("SequenceConstruct", ["x", "less"], ["list"]),
        N("ReduceMax", ["x"], ["largest"], keepdims=0),
        N("Cast", ["largest"], ["at"], to=TensorProto.INT64),
        N("SequenceAt", ["list", "at"], ["chosen"], name="choose"),
        N("MatMul", ["chosen", "w"], ["y"]),
    )


def _list_input() -> onnx.ModelProto:
    model = _file(N("ConcatFromSequence", ["x"], ["whole"], axis=0), N("MatMul", ["whole", "w"], ["y"]))
    part = helper.make_tensor_type_proto(TensorProto.FLOAT, ["n", 4])
    model.graph.input[0].CopyFrom(helper.make_value_info("x", helper.make_sequence_type_proto(part)))
    return model


def _removed() -> onnx.ModelProto:
    """As PyTorch writes the first state of a recurrent layer with opset 7 and 8."""
    return _file(
        N("Shape", ["x"], ["sizes_of_x"]),
        N("ConstantFill", ["sizes_of_x"], ["zeros"], name="lstm/zeros", input_as_shape=1),
        N("Add", ["x", "zeros"], ["z"]),
        N("MatMul", ["z", "w"], ["y"]),
        opset=8,
    )


def _neighbours() -> onnx.ModelProto:
    """As skl2onnx writes the distances to stored samples."""
    row, column = (helper.make_tensor_value_info(n, TensorProto.FLOAT, [4]) for n in ("one", "other"))
    far = helper.make_tensor_value_info("far", TensorProto.FLOAT, [1])
    steps = [N("Sub", ["one", "other"], ["d"]), N("ReduceSumSquare", ["d"], ["far"], axes=[0])]
    body = helper.make_graph([N("Identity", ["one"], ["on"]), *steps], "body", [row, column], [row, far])
    body.output[0].name = "on"
    model = _file(N("Scan", ["x", "stored"], ["_", "y"], body=body, num_scan_inputs=1, name="Sc_Scan"))
    model.producer_name = "skl2onnx"
    return model


def _score() -> onnx.ModelProto:
    model = _file(N("MatMul", ["x", "w"], ["y"]))
    model.producer_name = "skl2onnx"
    write_card(model, msgspec.structs.replace(CARD, task="anomaly", labels=()))
    return model


def _label_list() -> onnx.ModelProto:
    model = _file(N("MatMul", ["x", "w"], ["one"]), N("Neg", ["one"], ["other"]))
    model.graph.node.append(N("SequenceConstruct", ["one", "other"], ["probabilities"]))
    model.producer_name = "skl2onnx"
    part = helper.make_tensor_type_proto(TensorProto.FLOAT, ["n", 2])
    model.graph.output[0].CopyFrom(helper.make_value_info("probabilities", helper.make_sequence_type_proto(part)))
    return model


def _random() -> onnx.ModelProto:
    noise = N("RandomNormalLike", ["m"], ["noise"], name="randn_like")
    return _file(N("MatMul", ["x", "w"], ["m"]), noise, N("Add", ["m", "noise"], ["y"]))


def _votes() -> onnx.ModelProto:
    nodes = [
        N("MatMul", ["x", "w"], ["m"], name="linear"),
        N("ArgMax", ["m"], ["best"], axis=1),
        N("Equal", ["best", "classes"], ["chosen"]),
        N("Where", ["chosen", "one", "other"], ["y"]),
    ]
    model = _file(*nodes)
    tensors = {"classes": ints(0, 1), "one": normal(1), "other": normal(1)}
    model.graph.initializer.extend(onnx.numpy_helper.from_array(a, n) for n, a in tensors.items())
    return model


def _steps() -> onnx.ModelProto:
    """Yes or no in place of a probability."""
    model = _file(N("MatMul", ["x", "w"], ["m"]), N("Greater", ["m", "half"], ["g"]), N("Cast", ["g"], ["y"], to=1))
    model.graph.initializer.append(helper.make_tensor("half", TensorProto.FLOAT, [], [0.5]))
    return model


def _mixed() -> onnx.ModelProto:
    """Less the mean of the batch."""
    mean = N("ReduceMean", ["m"], ["mean"], axes=[0], keepdims=1, name="mean")
    return _file(N("MatMul", ["x", "w"], ["m"]), mean, N("Sub", ["m", "mean"], ["y"]))


def _larger_batch() -> onnx.ModelProto:
    """Exported for a batch of four, each of which it scales in its own way."""
    model = _file(N("MatMul", ["x", "w"], ["m"]), N("Mul", ["m", "each"], ["y"]))
    model.graph.initializer.append(numpy_helper.from_array(normal(4, 1), "each"))
    for value in (model.graph.input[0], model.graph.output[0]):
        value.type.tensor_type.shape.dim[0].dim_value = 4
    return model


def _fixed_batch() -> onnx.ModelProto:
    """Exported for a batch of one, over which it takes a mean."""
    mean = N("ReduceMean", ["m"], ["mean"], axes=[0], keepdims=1, name="mean")
    model = _file(N("MatMul", ["x", "w"], ["m"]), mean, N("Add", ["m", "mean"], ["y"]))
    for value in (model.graph.input[0], model.graph.output[0]):
        value.type.tensor_type.shape.dim[0].dim_value = 1
    return model


def _integers() -> onnx.ModelProto:
    model = _file(N("Gather", ["w", "x"], ["h"]), N("ReduceMean", ["h"], ["y"], axes=[1], keepdims=0))
    model.graph.input[0].type.tensor_type.elem_type = TensorProto.INT64
    return model


def _beyond() -> onnx.ModelProto:
    wide = helper.make_tensor("double", TensorProto.DOUBLE, [4, 2], [1e40] * 8)
    model = _file(N("Cast", ["double"], ["f"], to=TensorProto.FLOAT), N("MatMul", ["x", "f"], ["y"]))
    model.graph.initializer.append(wide)
    return model


def refused_by_passes() -> dict[str, bytes]:
    """Files that a single pass of intake refuses in words of its own."""
    made = {"integers": _integers(), "beyond float32": _beyond()}
    return {k: m.SerializeToString() for k, m in made.items()}


def refused() -> dict[str, bytes]:
    """The bytes of each file."""
    made = {
        "trees": _trees(),
        "kernel": _kernel(),
        "text": _text(),
        "categories": _categories(),
        "control flow": _control_flow(),
        "loop": _loop_by_values(),
        "long loop": _long_loop(),
        "large graphs": _large_graphs(),
        "projection": _projection(),
        "no output": _no_output(),
        "constant": _constant(),
        "sizes": _sizes(),
        "operator": _operator(),
        "function": _function(),
        "fitted": _fitted(),
        "left inputs": _left_inputs(),
        "opset": _opset(),
        "no opset": _no_opset(),
        "optimised": _optimised(),
        "quantised": _quantised(),
        "fallback": _fallback(),
        "outputs": _outputs(),
        "inputs": _inputs(),
        "label order": _label_order(),
        "one value": _one_value(),
        "broken": _broken(),
        "sequence": _sequence(),
        "list input": _list_input(),
        "removed": _removed(),
        "neighbours": _neighbours(),
        "score": _score(),
        "label list": _label_list(),
        "random": _random(),
        "votes": _votes(),
        "steps": _steps(),
        "mixed": _mixed(),
        "fixed batch": _fixed_batch(),
        "larger batch": _larger_batch(),
    }
    return {**{k: m.SerializeToString() for k, m in made.items()}, "format": b"\x00\x00\x00\x00ORTM" + bytes(64)}
