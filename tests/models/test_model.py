# SPDX-License-Identifier: Apache-2.0
"""The public Python interface: names, laziness, and that it says what a gateway says."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import fedge_models
import numpy as np
import pytest
from fedge_agent.learning.limits import Limit
from fedge_agent.learning.serving import Serving, Session
from fedge_models import Card, Channel, Model, Target, TrainingConfig, WindowSpec, load, starter
from fedge_models.errors import ModelError
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
