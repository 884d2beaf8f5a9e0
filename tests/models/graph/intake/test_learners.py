# SPDX-License-Identifier: Apache-2.0
"""The operators of ai.onnx.ml give what they gave, as products and arithmetic that are trained."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import onnx
import onnxruntime
import pytest
from fedge_models.errors import ModelError
from fedge_models.graph.card import Card, Channel, WindowSpec, write_card
from fedge_models.graph.intake import read_model
from fedge_models.graph.trainable import TrainableGraph
from fedge_models.training.config import TrainingConfig
from fedge_models.training.evaluation import evaluate
from fedge_models.training.loop import fit
from onnx import TensorProto, helper
from support.counterparts import counterpart
from support.graphs import N, check_gradient, normal, run_ort

CARD = Card("regress", tuple(Channel(c) for c in "abc"), WindowSpec(1, 1, 1), features=("mean",))
NAMES = ("ok", "bad", "worse")
ML = "ai.onnx.ml"
W3, B3 = normal(9).tolist(), normal(3).tolist()
W1 = normal(3).tolist()
OPPOSITE = [-w for w in W1] + W1


def graph(*nodes: onnx.NodeProto, labels: int = 0, zipmap: bool = False, opset: int = 17) -> onnx.ModelProto:
    """A graph as skl2onnx writes it: the label first where there are labels, then the scores y."""
    nodes_, outputs = list(nodes), []
    if labels:
        outputs.append(helper.make_tensor_value_info("label", TensorProto.INT64, ["n"]))
    if zipmap:
        nodes_.append(N("ZipMap", ["y"], ["maps"], domain=ML, classlabels_int64s=list(range(labels))))
        key = helper.make_map_type_proto(TensorProto.INT64, helper.make_tensor_type_proto(TensorProto.FLOAT, []))
        outputs.append(helper.make_value_info("maps", helper.make_sequence_type_proto(key)))
    else:
        outputs.append(helper.make_tensor_value_info("y", TensorProto.FLOAT, ["n", None]))
    given = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 3])
    made = helper.make_graph(nodes_, "g", [given], outputs)
    domains = [helper.make_opsetid("", opset), helper.make_opsetid(ML, 3)]
    return helper.make_model(made, opset_imports=domains, ir_version=8)


def taken(model: onnx.ModelProto, labels: int, folder: Path) -> bytes:
    card = msgspec.structs.replace(CARD, task="classify", labels=NAMES[:labels]) if labels else CARD
    write_card(model, card)
    (folder / "m.onnx").write_bytes(model.SerializeToString())
    data = read_model(folder / "m.onnx")
    (folder / "again.onnx").write_bytes(data)
    assert read_model(folder / "again.onnx") == data  # both ends hash it
    return data


def classifier(weights: list[float], biases: list[float], labels: int, post: str) -> onnx.NodeProto:
    return N(
        "LinearClassifier", ["x"], ["label", "z"], domain=ML, coefficients=weights, intercepts=biases,
        classlabels_ints=list(range(labels)), post_transform=post,
    )  # fmt: skip


def scores(model: onnx.ModelProto, x: np.ndarray) -> np.ndarray:
    """What ONNX Runtime gives for the scores of the file as it came."""
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    found = session.run([session.get_outputs()[-1].name], {"x": x})[0]
    return np.array([list(m.values()) for m in found], np.float32) if isinstance(found, list) else found


L1 = N("Normalizer", ["z"], ["y"], domain=ML, norm="L1")
SAME = N("Identity", ["z"], ["y"])
CLASSIFIERS = {
    "logistic regression of two": ([classifier(OPPOSITE, [-0.3, 0.3], 2, "LOGISTIC"), SAME], 2, True),
    "logistic regression in one row": ([classifier(W1, [0.3], 2, "LOGISTIC"), SAME], 2, True),
    "logistic regression of three": ([classifier(W3, B3, 3, "SOFTMAX"), SAME], 3, True),
    "one against the rest": ([classifier(W3, B3, 3, "LOGISTIC"), L1], 3, True),
    "linear support vectors": ([classifier(W3, B3, 3, "NONE"), SAME], 3, False),
}


@pytest.mark.parametrize("zipmap", [False, True], ids=["tensor", "map"])
@pytest.mark.parametrize("how", CLASSIFIERS)
def test_linear_classifier_gives_the_same_and_trains(how: str, zipmap: bool, tmp_path: Path) -> None:
    nodes, labels, probabilities = CLASSIFIERS[how]
    model, x = graph(*nodes, labels=labels, zipmap=zipmap), normal(6, 3)
    expected = scores(model, x)
    data = taken(model, labels, tmp_path)
    np.testing.assert_allclose(run_ort(data, x), expected, atol=1e-5)
    graph_ = TrainableGraph.load(data)
    np.testing.assert_allclose(graph_.forward(x), expected, atol=1e-5)
    assert graph_.gives_probabilities == probabilities
    assert [t.name for t in graph_.layout] == ["LinearClassifier.weight", "LinearClassifier.bias"]
    check_gradient(onnx.ModelProto.FromString(data), x)


@pytest.mark.parametrize("ir", [3, 8])
@pytest.mark.parametrize("batch", [None, 3])
def test_file_that_states_no_opset_of_the_standard_trains(batch: int | None, ir: int, tmp_path: Path) -> None:
    """As the first converters wrote it: every operator is of ai.onnx.ml."""
    alone = classifier(W3, B3, 3, "SOFTMAX")
    alone.output[1] = "y"
    model, x = graph(alone, labels=3, zipmap=True), normal(6, 3)
    del model.opset_import[0]
    model.ir_version = ir
    if batch:
        model.graph.input[0].type.tensor_type.shape.dim[0].dim_value = batch
    expected = np.concatenate([scores(model, x[i : i + 3]) for i in (0, 3)])
    data = taken(model, 3, tmp_path)
    np.testing.assert_allclose(run_ort(data, x), expected, atol=1e-5)
    check_gradient(onnx.ModelProto.FromString(data), x)


SCALING = N("Scaler", ["a"], ["b"], domain=ML, offset=[1.0, 2.0, 3.0], scale=[0.5, 2.0, 1.0])
SQUASHING = N("Tanh", ["a"], ["b"])


@pytest.mark.parametrize("bodies", [(SCALING,), (SQUASHING,), (SCALING, SQUASHING)], ids=["ml", "standard", "both"])
def test_functions_state_the_opset_that_the_file_does_not(bodies: tuple[onnx.NodeProto, ...], tmp_path: Path) -> None:
    names = ["x", *(f"f{i}" for i in range(len(bodies)))]
    calls = [N(f"F{i}", [names[i]], [names[i + 1]], domain="own") for i in range(len(bodies))]
    model = graph(*calls, N("LinearRegressor", [names[-1]], ["y"], domain=ML, coefficients=W1, intercepts=[0.5]))
    stated = [helper.make_opsetid("", 14), helper.make_opsetid(ML, 3)]
    model.functions.extend(
        helper.make_function("own", f"F{i}", ["a"], ["b"], [n], stated) for i, n in enumerate(bodies)
    )
    model.opset_import[0].CopyFrom(helper.make_opsetid("own", 1))
    x = normal(6, 3)
    expected = scores(model, x)
    data = taken(model, 0, tmp_path)
    np.testing.assert_allclose(run_ort(data, x), expected, atol=1e-5)
    check_gradient(onnx.ModelProto.FromString(data), x)


@pytest.mark.parametrize("domain", ["", ML])
def test_file_that_states_no_opset_of_what_it_has_is_refused(domain: str, tmp_path: Path) -> None:
    model = graph(N("Tanh", ["x"], ["t"]), N("LinearRegressor", ["t"], ["y"], domain=ML, coefficients=W1))
    del model.opset_import[1 if domain else 0]
    with pytest.raises(ModelError, match=f"has operators of {domain or 'ai.onnx'} .*, and states no opset of it"):
        taken(model, 0, tmp_path)


@pytest.mark.parametrize("width", [2, 4])
def test_coefficients_that_do_not_fit_the_input_are_refused_with_both_numbers(width: int, tmp_path: Path) -> None:
    """ONNX Runtime takes the first of them, for whatever they are."""
    model = graph(classifier(normal(3 * width).tolist(), B3, 3, "SOFTMAX"), SAME, labels=3)
    expected = f"has {width} coefficients for each of its 3 results, and its input has 3 values"
    with pytest.raises(ModelError, match=expected):
        taken(model, 3, tmp_path)


@pytest.mark.parametrize("labels", [2, 3])
def test_label_that_other_nodes_read_is_computed(labels: int, tmp_path: Path) -> None:
    """Votes between pairs of classes (OneVsOneClassifier) are counted so."""
    weights, biases = (W1, B3[:1]) if labels == 2 else (W3, B3)
    votes = [
        N("Cast", ["label"], ["vote"], to=TensorProto.FLOAT),
        N("Unsqueeze", ["vote", "axis"], ["column"]),
        N("Add", ["z", "column"], ["y"]),
    ]
    model = graph(classifier(weights, biases, labels, "NONE"), *votes)
    model.graph.initializer.append(onnx.numpy_helper.from_array(np.array([1]), "axis"))
    for value in model.graph.output:
        value.type.tensor_type.shape.dim[-1].dim_value = labels
    x = normal(64, 3)
    before = scores(model, x)
    data = taken(model, labels, tmp_path)
    np.testing.assert_allclose(run_ort(data, x), before, rtol=1e-5, atol=1e-5)
    loaded = TrainableGraph.load(data)
    np.testing.assert_allclose(loaded.forward(x), before, rtol=1e-5, atol=1e-5)
    assert len({*before.argmax(1).tolist()}) > 1
    assert [t.name for t in loaded.layout] == ["LinearClassifier.weight", "LinearClassifier.bias"]


def regressor(x: str, targets: int = 1, post: str = "NONE", width: int = 3) -> onnx.NodeProto:
    return N(
        "LinearRegressor", [x], ["y"], domain=ML, targets=targets, post_transform=post, name="reg",
        coefficients=np.linspace(-1, 1, targets * width).tolist(), intercepts=[0.5] * targets,
    )  # fmt: skip


def ml(op: str, **attributes: Any) -> onnx.NodeProto:
    return N(op, ["x"], ["h"], domain=ML, **attributes)


REGRESSORS = {
    "alone": [regressor("x")],
    "two targets": [regressor("x", 2)],
    "scaler": [ml("Scaler", offset=[1.0, 2.0, 3.0], scale=[0.5, 2.0, 1.0]), regressor("h")],
    "scaler of one factor": [ml("Scaler", offset=[1.0], scale=[0.5]), regressor("h")],
    "norm L1": [ml("Normalizer", norm="L1"), regressor("h")],
    "norm L2": [ml("Normalizer", norm="L2"), regressor("h")],
    "norm MAX": [ml("Normalizer", norm="MAX"), regressor("h")],
    "binarizer": [ml("Binarizer", threshold=0.1), regressor("h")],
    "imputer": [ml("Imputer", imputed_value_floats=[1.0, 2.0, 3.0], replaced_value_float=float("nan")), regressor("h")],
    "imputer of a value": [ml("Imputer", imputed_value_floats=[7.0], replaced_value_float=0.0), regressor("h")],
    "columns": [
        N("Constant", [], ["columns"], value_ints=[2, 0]),
        N("ArrayFeatureExtractor", ["x", "columns"], ["h"], domain=ML),
        regressor("h", width=2),
    ],
    "one column": [
        N("Constant", [], ["column"], value_int=2),
        N("ArrayFeatureExtractor", ["x", "column"], ["h"], domain=ML),
        regressor("h", width=1),
    ],
    "joined": [
        ml("Scaler", offset=[1.0], scale=[0.5]),
        N("FeatureVectorizer", ["x", "h"], ["j"], domain=ML, inputdimensions=[3, 3]),
        regressor("j", width=6),
    ],
}


@pytest.mark.parametrize("opset", [13, 17, 18])
@pytest.mark.parametrize("how", REGRESSORS)
def test_steps_before_a_regressor_give_the_same_and_train(how: str, opset: int, tmp_path: Path) -> None:
    model, x = graph(*REGRESSORS[how], opset=opset), normal(6, 3)
    x[0] = 0  # nothing to divide by
    expected = scores(model, x)
    model.graph.output[0].type.tensor_type.shape.dim[1].dim_value = expected.shape[1]
    data = taken(model, 0, tmp_path)
    np.testing.assert_allclose(run_ort(data, x), expected, atol=1e-5)
    graph_ = TrainableGraph.load(data, "reg.*")
    np.testing.assert_allclose(graph_.forward(x), expected, atol=1e-5)
    check_gradient(onnx.ModelProto.FromString(data), x, "reg.*")


def test_missing_values_are_replaced_as_before(tmp_path: Path) -> None:
    model, x = graph(*REGRESSORS["imputer"]), normal(6, 3)
    x[1, 1] = np.nan
    expected = scores(model, x)
    model.graph.output[0].type.tensor_type.shape.dim[1].dim_value = 1
    np.testing.assert_allclose(run_ort(taken(model, 0, tmp_path), x), expected, atol=1e-5)


ENCODERS = {
    "one of three": [
        ml("OneHotEncoder", cats_int64s=[0, 1, 4]),
        N("Flatten", ["h"], ["f"], axis=1),
        regressor("f", width=9),
    ],
    "a number for each of three": [
        N("Cast", ["x"], ["i"], to=TensorProto.INT64),
        N("LabelEncoder", ["i"], ["h"], domain=ML, keys_int64s=[0, 1, 4], values_int64s=[3, 7, 5], default_int64=-2),
        N("Cast", ["h"], ["f"], to=TensorProto.FLOAT),
        regressor("f"),
    ],
    "floats for floats": [
        ml("LabelEncoder", keys_floats=[0.0, 1.0, 4.0], values_floats=[0.5, -2.0, 8.0], default_float=3.0),
        regressor("h"),
    ],
    "a missing value of -1": [ml("Imputer", imputed_value_floats=[7.0], replaced_value_float=-1.0), regressor("h")],
}


@pytest.mark.parametrize("opset", [9, 11, 13, 17])
@pytest.mark.parametrize("how", ENCODERS)
def test_categories_are_compared_in_every_opset(how: str, opset: int, tmp_path: Path) -> None:
    model = graph(*ENCODERS[how], opset=opset)
    x = np.array([[0, 1, 4], [4, 4, -1], [1, 0, 0], [9, 2, 1]], np.float32)
    if how != "one of three":  # an encoder that knows no other category fails in ONNX Runtime, here it gives zeros
        x[3] = [0, 0, 1]
    expected = scores(model, np.where(x == 9, 4, x)) if how == "one of three" else scores(model, x)
    model.graph.output[0].type.tensor_type.shape.dim[1].dim_value = 1
    data = taken(model, 0, tmp_path)
    rows = slice(0, 3) if how == "one of three" else slice(None)
    np.testing.assert_allclose(run_ort(data, x)[rows], expected[rows], rtol=1e-5)
    graph_ = TrainableGraph.load(data, "reg.*")
    np.testing.assert_allclose(graph_.forward(x), run_ort(data, x), rtol=1e-5)


def test_factors_of_a_scaler_are_no_parameters_and_no_site_standardises_before_them(tmp_path: Path) -> None:
    model = graph(*REGRESSORS["scaler"])
    model.graph.output[0].type.tensor_type.shape.dim[1].dim_value = 1
    trained = TrainableGraph.load(taken(model, 0, tmp_path))
    assert [t.name for t in trained.layout] == ["reg.weight", "reg.bias"] and trained.card.scaling == "file"
    assert any(n.startswith("scaler: Scaler.offset, Scaler.scale prepare the input in the file") for n in trained.notes)


def test_scaler_behind_channels_that_every_site_scales_alike_is_no_question(tmp_path: Path) -> None:
    model = graph(*REGRESSORS["scaler"])
    model.graph.output[0].type.tensor_type.shape.dim[1].dim_value = 1
    write_card(model, msgspec.structs.replace(CARD, channels=tuple(Channel(c, centre=0, scale=1) for c in "abc")))
    (tmp_path / "m.onnx").write_bytes(model.SerializeToString())
    assert not any(n.startswith("scaler: ") for n in TrainableGraph.load(read_model(tmp_path / "m.onnx")).notes)


@pytest.mark.parametrize(
    ("node", "expected"),
    [
        (ml("SVMThing"), "cannot be trained; expected one of"),
        (ml("LabelEncoder", keys_floats=[0.0], values_strings=["a"]), "cannot be converted: it maps texts or tensors"),
        (ml("LabelEncoder", keys_floats=[float("nan")], values_floats=[1.0]), "cannot be converted: a category is NaN"),
        (regressor("x", 1, "LOGISTIC"), "cannot be converted: post_transform is LOGISTIC"),
    ],
)
def test_what_is_not_arithmetic_is_refused(node: onnx.NodeProto, expected: str, tmp_path: Path) -> None:
    last = [] if "y" in node.output else [regressor("h")]
    with pytest.raises(ModelError, match=expected):
        taken(graph(node, *last), 0, tmp_path)


def test_two_nodes_without_a_name_do_not_share_their_tensors(tmp_path: Path) -> None:
    steps = [("x", "s", 2.0), ("s", "t", 3.0)]
    nodes = [
        N("Scaler", [a], [b], name="", domain=ML, offset=[factor] * 3, scale=[factor] * 3) for a, b, factor in steps
    ]
    model = graph(*nodes, N("LinearRegressor", ["t"], ["y"], domain=ML, coefficients=W1, intercepts=[0.5]))
    for node in model.graph.node:
        node.name = ""
    x = normal(5, 3)
    expected = onnxruntime.InferenceSession(model.SerializeToString()).run(["y"], {"x": x})[0]
    np.testing.assert_allclose(run_ort(taken(model, 0, tmp_path), x), expected, rtol=1e-4, atol=1e-5)


def test_what_no_output_needs_is_no_reason_to_refuse(tmp_path: Path) -> None:
    encode = N("LabelEncoder", ["label"], ["name"], domain=ML, keys_int64s=[0, 1, 2], values_int64s=[4, 5, 6])
    model, x = graph(classifier(W3, B3, 3, "SOFTMAX"), SAME, encode, labels=3), normal(5, 3)
    del model.graph.output[0]
    expected = scores(model, x)
    np.testing.assert_allclose(run_ort(taken(model, 3, tmp_path), x), expected, atol=1e-5)


def pipelines() -> dict[str, Any]:
    from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
    from sklearn.feature_selection import SelectKBest
    from sklearn.linear_model import LogisticRegression, SGDClassifier
    from sklearn.neural_network import MLPClassifier
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import MinMaxScaler, Normalizer, PolynomialFeatures, StandardScaler

    return {
        "logistic": make_pipeline(StandardScaler(), LogisticRegression()),
        "polynomial": make_pipeline(PolynomialFeatures(), LogisticRegression()),
        "sgd": make_pipeline(Normalizer(), SGDClassifier(loss="log_loss", random_state=0)),
        "lda": LinearDiscriminantAnalysis(),
        "columns": make_pipeline(SelectKBest(k=2), LogisticRegression()),
        "mlp": make_pipeline(MinMaxScaler(), MLPClassifier((8,), max_iter=30, random_state=0)),
    }


@pytest.mark.parametrize("classes", [2, 3])
@pytest.mark.parametrize("name", ["logistic", "polynomial", "sgd", "lda", "columns", "mlp"])
def test_pipeline_of_scikit_learn_goes_on_training(name: str, classes: int, tmp_path: Path) -> None:
    counterpart("skl2onnx")
    from skl2onnx import to_onnx

    x = np.random.default_rng(3).normal(size=(300, 3)).astype(np.float32)
    y = np.digitize(x[:, 0] + 0.5 * x[:, 1], [0.0, 0.7][: classes - 1])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it is not trained to the end here
        net = pipelines()[name].fit(x, y)
        model = to_onnx(net, x[:1], target_opset=17)
    model.graph.input[0].name, before = "x", model.graph.input[0].name
    for node in model.graph.node:
        node.input[:] = ["x" if n == before else n for n in node.input]
    expected = scores(model, x)
    data = taken(model, classes, tmp_path)
    np.testing.assert_allclose(run_ort(data, x), expected, atol=1e-5)
    trained = TrainableGraph.load(data)
    assert trained.gives_probabilities
    first = evaluate(trained, x, y)["loss"]
    fit(trained, x, y, TrainingConfig(epochs=5, learning_rate=0.01), np.random.default_rng(0))
    assert evaluate(trained, x, y)["loss"] <= first + 0.02


@pytest.mark.parametrize("after", ["Reshape", "Exp"])
def test_linear_regressor_whose_coefficients_are_a_vector_trains(after: str, tmp_path: Path) -> None:
    """As skl2onnx writes Tweedie, Poisson and Gamma regressors behind a scaler; the vector becomes a column."""
    scaler = N("Scaler", ["x"], ["s"], domain=ML, offset=[1.0, 2.0, 3.0], scale=[0.5, 1.5, 2.5])
    nodes = [scaler, N("MatMul", ["s", "Ma_MatMulcst"], ["m"]), N("Add", ["m", "Ad_Addcst"], ["a"])]
    nodes += [N("Exp", ["a"], ["e"])] if after == "Exp" else []
    model = graph(*nodes, N("Reshape", ["e" if after == "Exp" else "a", "sizes"], ["y"]))
    model.producer_name = "skl2onnx"
    tensors = {"Ma_MatMulcst": normal(3), "Ad_Addcst": normal(1), "sizes": np.array([-1, 1], np.int64)}
    model.graph.initializer.extend(onnx.numpy_helper.from_array(a, n) for n, a in tensors.items())
    x = normal(6, 3)
    expected = run_ort(model.SerializeToString(), x)
    data = taken(model, 0, tmp_path)
    trained = TrainableGraph.load(data)
    assert [t.name for t in trained.layout] == ["Ma_MatMulcst", "Ad_Addcst"]
    np.testing.assert_allclose(trained.forward(x), expected, rtol=1e-5)
    check_gradient(onnx.ModelProto.FromString(data), x)
