# SPDX-License-Identifier: Apache-2.0
"""The public Python interface: names, laziness, and that it says what a gateway says."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Literal

import fedge_models
import msgspec
import numpy as np
import pytest
from fedge_agent.learning.limits import Limit
from fedge_agent.learning.serving import Serving, Session
from fedge_models import Card, Channel, ImageSpec, Model, Target, TrainingConfig, WindowSpec, load, starter
from fedge_models.errors import ModelError
from fedge_models.graph.card_scale import CardScale, rows_in_card_scale
from fedge_models.graph.starter import Kind

CHANNELS = (Channel("a", "A"), Channel("b"))
RNG = np.random.default_rng(0)
TABLE = Card("classify", CHANNELS, WindowSpec(1, 1, 1), labels=("ok", "worn"))
WAVES = Card("classify", CHANNELS, WindowSpec(100, 32, 16), labels=("ok", "worn", "blocked"), normal="worn")
NORMAL = Card("anomaly", CHANNELS, WindowSpec(1, 30, 10))
LIFE = Card(
    "regress",
    CHANNELS,
    WindowSpec(1, 30, 10),
    targets=(Target("life", "h", 0, 100, alarm_below=20), Target("wear", "mm", 0, 9, alarm_above=8)),
)
KINDS: tuple[Kind, ...] = ("dense", "table")
CARDS = {"table": TABLE, "waves": WAVES, "anomaly": NORMAL, "regress": LIFE}


def rows(card: Card, n: int) -> np.ndarray:
    return RNG.normal(3, 2, (n, len(card.channels), card.window.length)).astype(np.float32)


def labels(card: Card, n: int) -> np.ndarray:
    if card.task == "regress":
        return RNG.uniform(0, 9, (n, 2))
    return np.arange(n) % (len(card.labels) or 2)


def test_public_names() -> None:
    assert sorted(fedge_models.__all__) == [
        *("Card", "Channel", "ConfigError", "DataError", "Derived", "FedgeError", "FitReport"),
        *("ImageSpec", "InputSpec", "Model", "ModelError"),
        *("Objective", "Target", "TrainingConfig", "WindowSpec", "__version__", "load", "starter"),
    ]
    for name in fedge_models.__all__:
        assert getattr(fedge_models, name) is not None and name in dir(fedge_models)
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        getattr(fedge_models, "nonsense")  # noqa: B009


def test_importing_the_package_imports_nothing_heavy() -> None:
    program = "import sys, fedge_models; print(*({'numpy', 'onnx', 'msgspec', 'cbor2'} & {*sys.modules}))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ""


def test_a_model_learns_and_remembers_it_in_its_file(tmp_path: Path) -> None:
    x = rows(TABLE, 600)
    y = (x[:, 0, 0] > 3).astype(int)
    model = starter(TABLE)
    before = model.evaluate(x[400:], y[400:])
    report = model.train(x[:400], y[:400], TrainingConfig(epochs=20, learning_rate=0.01))
    after = model.evaluate(x[400:], y[400:])
    assert report.rows == 400 and before["accuracy"] < 0.9 < after["accuracy"]
    model.save(tmp_path / "m.onnx")
    again = load(tmp_path / "m.onnx")
    again.fit_scale(x[:400])
    assert again.evaluate(x[400:], y[400:]) == after and again.card == TABLE


@pytest.mark.parametrize("card", CARDS.values(), ids=CARDS)
def test_scores_are_those_of_a_gateway(card: Card) -> None:
    model, x = starter(card), rows(card, 40)
    model.train(x, labels(card, 40), TrainingConfig(epochs=3))
    assert model.scale is not None
    session = Session(model.to_bytes(), {})
    limit = Limit(1e9)
    serving = Serving(session, card, 1, model.scale, limit, model.graph.gives_probabilities)
    decided = [serving.decide(row) for row in x]
    np.testing.assert_allclose(model.score(x), [d.score for d in decided], atol=2e-5)
    if card.task == "classify":
        assert [card.labels[k] for k in model.predict(x).argmax(axis=1)] == [d.label for d in decided]
    if card.task == "regress":
        np.testing.assert_allclose(model.predict(x), [[*d.values.values()] for d in decided], rtol=1e-4)


def test_rows_of_unknown_label_and_known_anomalies_are_not_trained_on() -> None:
    y = np.array([0, 1, -1, 0, 1, -1])
    assert starter(TABLE).train(rows(TABLE, 6), y).rows == 4
    assert starter(NORMAL).train(rows(NORMAL, 6), y).rows == 4
    assert starter(NORMAL).train(rows(NORMAL, 6)).rows == 6
    targets = labels(LIFE, 6)
    targets[2, 1] = np.nan
    assert starter(LIFE).train(rows(LIFE, 6), targets).rows == 5
    assert starter(TABLE).evaluate(rows(TABLE, 6)) == {}


def test_a_table_may_be_given_without_its_axis_of_time() -> None:
    model, x = starter(TABLE), rows(TABLE, 10)
    assert model.score(x[..., 0]).tolist() == model.score(x).tolist()


@pytest.mark.parametrize(
    ("x", "y", "words"),
    [
        (np.zeros((4, 3)), np.zeros(4), r"rows of shape \(3,\), the model expects \(2, 1\)"),
        (np.zeros((4, 2)), np.zeros(3), "4 rows of x, 3 of y"),
        (np.zeros((4, 2)), np.full(4, 2), "class indices .* from 0 to 1"),
        (np.zeros((4, 2)), np.full(4, 0.5), "class indices"),
        (np.zeros((4, 2)), np.zeros((4, 1)), "class indices"),
    ],
)
def test_arrays_that_do_not_fit_are_refused(x: np.ndarray, y: np.ndarray, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        starter(TABLE).train(x, y)


def test_a_card_may_come_with_the_call_or_from_a_file(tmp_path: Path) -> None:
    bare = tmp_path / "m.onnx"
    starter(TABLE).save(bare)
    (tmp_path / "card.toml").write_text(
        'task = "classify"\nchannels = [{ name = "a" }, { name = "b" }]\n'
        'window = { rate_hz = 1, length = 1, hop = 1 }\nlabels = ["new", "old"]\n'
    )
    assert load(str(bare), tmp_path / "card.toml").card.labels == ("new", "old")
    assert load(bare, str(tmp_path / "card.toml"), trainable="dense1.*").card.trainable == "dense1.*"
    assert load(bare, TABLE).card == TABLE


def test_a_table_gets_trained_ramps_unless_another_kind_is_asked_for() -> None:
    assert "ramp.centre" in _tensors(starter(TABLE)) and "ramp.slope" in _tensors(starter(TABLE))
    assert "ramp.centre" not in _tensors(starter(TABLE, kind="dense"))
    assert "ramp.centre" not in _tensors(starter(WAVES))
    assert "ramp.centre" in _tensors(starter(WAVES, kind="table"))
    assert "ramp.centre" in _tensors(starter(LIFE, kind="table"))
    for kind in KINDS:
        with pytest.raises(ModelError, match=f"kind '{kind}' is for channels.*anomaly; use auto"):
            starter(NORMAL, kind=kind)


def test_ramps_find_limits_of_single_columns_that_a_dense_net_smears() -> None:
    """Limits of four of eight columns, as the tables of plants have them."""
    card = Card("classify", tuple(Channel(f"c{i}") for i in range(8)), WindowSpec(1, 1, 1), labels=("ok", "worn"))
    x = RNG.normal(0, 1, (4000, 8)).astype(np.float32)
    y = (((x[:, 0] > 1) & (x[:, 1] < -0.8)) | (x[:, 2] > 2.2) | (np.abs(x[:, 3]) > 2.5)).astype(int)
    found = {}
    for kind in KINDS:
        model = starter(card, kind=kind)
        model.train(x[:2000, :, None], y[:2000], TrainingConfig(epochs=20, learning_rate=0.01))
        found[kind] = model.evaluate(x[2000:, :, None], y[2000:])["macro_f1"]
    assert found["table"] > max(0.93, found["dense"] + 0.05), found


def _tensors(model: Model) -> list[str]:
    return [t.name for t in model.graph.layout]


def test_features_need_their_number() -> None:
    card = Card("anomaly", CHANNELS, WindowSpec(1, 30, 10), ("mean", "std"))
    with pytest.raises(ModelError, match="how many values"):
        starter(card)
    assert isinstance(starter(card, 4), Model)


def test_rows_with_derived_channels_come_of_what_was_measured() -> None:
    channels = (fedge_models.Channel("a"), fedge_models.Channel("b", input=False))
    derive = {"ratio": "a / b", "sign": "where(b > 0, 1, -1)"}
    window = fedge_models.WindowSpec(1, 1, 1)
    card = fedge_models.Card("classify", channels, window, labels=("low", "high"), derive=derive)
    model = fedge_models.starter(card)
    x = np.array([[1, 2], [3, 0], [np.nan, 1], [1, -4], [np.inf, 1]], np.float32)
    rows = model.derived(x)
    assert rows.shape == (5, 3, 1)
    assert np.isnan(rows[[1, 2, 4]]).all() and rows[[0, 3], :, 0].tolist() == [[1, 0.5, 1], [1, -0.25, -1]]
    report = model.train(rows, [0, 0, 1, 1, 1])
    assert report.dropped == 3
    with pytest.raises(ValueError, match=r"windows of shape \(3,\)"):
        model.derived(np.zeros((2, 3)))
    with_features = fedge_models.Card("anomaly", channels, window, ("mean",), derive=derive)
    with pytest.raises(ModelError, match="names features"):
        fedge_models.starter(with_features, 3).derived(x)


@pytest.mark.parametrize("scaling", [None, "site"])
def test_rows_are_in_units_and_enter_as_the_card_scales_them(scaling: Literal["site"] | None) -> None:
    channels = (Channel("heat", "K", centre=300.0, scale=2.0), Channel("b", centre=-1.0, scale=0.5))
    given = Card("classify", channels, WindowSpec(1, 8, 8), labels=("ok", "worn"), scaling=scaling)
    plain = msgspec.structs.replace(given, channels=(Channel("heat"), Channel("b")), scaling="file")
    one, other = (starter(card, seed=3) for card in (given, plain))
    x = RNG.normal((300, -1), (2, 0.5), (60, 8, 2)).swapaxes(1, 2)
    by_hand = (x - np.array([[300], [-1]])) / np.array([[2], [0.5]])
    for call in (Model.predict, Model.score):
        np.testing.assert_allclose(call(one, x), call(other, by_hand), rtol=1e-4)
    y, how = np.arange(60) % 2, TrainingConfig(epochs=2)
    one.train(x, y, how)
    other.train(by_hand, y, how)
    np.testing.assert_allclose(one.graph.params, other.graph.params, rtol=1e-4, atol=1e-5)
    figures = one.evaluate(x, y), other.evaluate(by_hand, y)
    assert figures[0]["loss"] == pytest.approx(figures[1]["loss"], rel=1e-4)


def test_scaling_as_the_card_says_bounds_what_overflows_and_keeps_what_is_unknown() -> None:
    channels = (Channel("a", centre=0.0, scale=1e-9), Channel("b"))
    x = np.array([[[1e30], [2.0]], [[np.nan], [3.0]], [[-np.inf], [4.0]]], np.float32)
    made = CardScale(Card("anomaly", channels, WindowSpec(1, 1, 1)))(x)
    np.testing.assert_array_equal(made[:, 0, 0], np.array([1e30, np.nan, -np.inf], np.float32))
    assert made[:, 1, 0].tolist() == [2, 3, 4]


@pytest.mark.parametrize("shape", [(6,), (6, 1), (2, 3)])
def test_rows_of_every_shape_are_scaled_by_channel(shape: tuple[int, ...]) -> None:
    channels = tuple(Channel(f"c{i}", centre=10.0 * i, scale=1.0 + i) for i in range(6 if shape[0] == 6 else 2))
    card = Card("anomaly", channels, WindowSpec(1, 6 // len(channels), 1))
    values = RNG.normal(30, 5, (7, *shape)).astype(np.float32)
    at = np.arange(6) // (6 // len(channels))
    expected = ((values.reshape(7, 6) - 10 * at) / (1 + at)).reshape(7, *shape)
    np.testing.assert_allclose(rows_in_card_scale(values, card), expected, rtol=1e-5)
    assert rows_in_card_scale(values[:0], card).shape == (0, *shape)


def test_a_condition_is_in_the_unit_of_a_channel_that_the_card_scales() -> None:
    told = Channel("speed", centre=1000.0, scale=500.0, condition=20.0)
    card = Card("anomaly", (told, Channel("b")), WindowSpec(1, 1, 1))
    speed = np.repeat([1000.0, 1100.0], 100)
    x = np.stack([speed, speed / 100 + RNG.normal(0, 0.1, 200)], axis=1)
    found = starter(card).fit_scale(x).conditions
    assert found is not None and sorted((found.centres[:, 0] * 500 + 1000).round().tolist()) == [1000, 1100]


def test_an_array_whose_shape_fits_both_says_what_it_holds() -> None:
    channels, derive = (Channel("a"), Channel("b", input=False)), {"p": "a * b"}
    card = Card("classify", channels, WindowSpec(1, 1, 1), labels=("low", "high"), derive=derive)
    x = RNG.normal(0, 1, (200, 2)).astype(np.float32)
    y, model = (x[:, 0] * x[:, 1] > 0).astype(int), starter(card)
    ready = model.derived(x)
    for call in (model.train, model.evaluate, model.fit_scale):
        with pytest.raises(ValueError, match=r"x \(200, 2\) may hold what is measured \(a, b\) .* input \(a, p\): say"):
            call(x, y)
    model.train(x, y, TrainingConfig(epochs=2), measured=True)
    again = starter(card)
    again.train(ready, y, TrainingConfig(epochs=2), measured=False)
    np.testing.assert_array_equal(model.graph.params, again.graph.params)
    assert model.evaluate(x, y, measured=True) == model.evaluate(ready, y, measured=False)
    np.testing.assert_array_equal(model.score(x, measured=True), model.score(ready, measured=False))
    np.testing.assert_array_equal(model.predict(x, measured=True), model.predict(ready, measured=False))


def test_measured_rows_are_taken_where_only_they_fit() -> None:
    card = Card("classify", CHANNELS, WindowSpec(1, 1, 1), labels=("low", "high"), derive={"p": "a * b"})
    x, model = RNG.normal(0, 1, (50, 2)).astype(np.float32), starter(card)
    np.testing.assert_array_equal(model.score(x), model.score(model.derived(x)))
    with pytest.raises(
        ValueError, match=r"rows of shape \(4,\), the model expects \(3, 1\), or \(2, 1\) of what is measured"
    ):
        model.score(x[:, [0, 0, 1, 1]])


def test_rows_without_a_number_are_no_decisions_in_an_evaluation() -> None:
    card = Card("classify", CHANNELS, WindowSpec(1, 1, 1), labels=("ok", "worn"), derive={"r": "a / b"})
    x, y, model = RNG.normal(5, 1, (60, 2)).astype(np.float32), np.arange(60) % 2, starter(card)
    x[::6, 1] = 0
    keep = np.arange(60) % 6 != 0
    model.fit_scale(x)
    assert model.evaluate(x, y) == model.evaluate(x[keep], y[keep]) | {"left_out": 10}
    assert model.evaluate(x[~keep], y[~keep]) == {"left_out": 10}


def test_rows_of_which_none_has_a_number_fit_no_scale() -> None:
    model, x = starter(TABLE), np.full((5, 2), np.nan)
    for call in (model.fit_scale, lambda x: model.train(x, np.zeros(5, int))):
        with pytest.raises(ValueError, match="none of 5 rows to standardise by holds finite values only"):
            call(x)
    assert model.scale is None


def test_a_card_with_features_says_who_computes_them() -> None:
    model = starter(Card("anomaly", CHANNELS, WindowSpec(1, 8, 8), ("mean",)), inputs=2)
    with pytest.raises(ModelError, match=r"card names features \(mean\), which gateways and .* an .npz with measured"):
        model.derived(RNG.normal(size=(3, 2, 8)))


@pytest.mark.parametrize(("low", "high"), [(0, 1), (-2, 2), (0, 256)])
def test_pictures_that_are_scaled_already_are_refused_where_the_card_scales_them(low: float, high: float) -> None:
    image = ImageSpec(8, 8, mean=(0.5,), std=(0.2,))
    card = Card("classify", (Channel("camera"),), WindowSpec(1, 1, 1), labels=("ok", "bad"), image=image)
    model, pixels = starter(card), RNG.integers(0, 256, (4, 1, 8, 8)).astype(np.uint8)
    np.testing.assert_array_equal(model.score(pixels), model.score(pixels.astype(np.float64)))
    assert np.isfinite(model.score(pixels // 255)).all()  # black and white, or nearly black
    with pytest.raises(
        ValueError, match=r"x holds values from .* a picture those from 0 to 255: the card's image.scale"
    ):
        model.score(low + pixels / 255 * (high - low))
