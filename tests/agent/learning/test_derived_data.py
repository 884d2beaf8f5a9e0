# SPDX-License-Identifier: Apache-2.0
"""Recorded data gets the derived channels that a gateway computes; windows without a number are left out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from click.testing import CliRunner
from fedge_agent.cli.main import main
from fedge_agent.learning import dataset
from fedge_agent.learning.limits import ChannelErrors, Limit
from fedge_agent.learning.serving import Serving, Session
from fedge_agent.windows.features import Preparation, input_count
from fedge_models.errors import DataError
from fedge_models.graph.card import Card, Channel, Derived, WindowSpec
from fedge_models.model import starter
from fedge_models.training.standardise import Scale

CHANNELS = (Channel("torque"), Channel("speed", input=False))
UNSCALED = Scale(np.zeros((), np.float32), np.ones((), np.float32))
DERIVE: dict[str, str | Derived] = {"power": "torque * speed * 0.1", "ratio": "torque / speed"}
CARD = Card("classify", CHANNELS, WindowSpec(1, 1, 1), labels=("ok", "worn"), derive=DERIVE)


def table(folder: Path, rows: int = 200, stopped: int = 3) -> Path:
    """Speed is 0 in the first rows."""
    rng = np.random.default_rng(0)
    torque, speed = rng.normal(40, 10, rows), rng.normal(1500, 200, rows)
    speed[:stopped] = 0
    lines = [f"{t:.3f},{s:.3f},{'worn' if t * s > 65_000 else 'ok'}" for t, s in zip(torque, speed, strict=True)]
    (folder / "data.csv").write_text("\n".join(["torque,speed,label", *lines]) + "\n")
    return folder / "data.csv"


def test_a_table_gets_its_derived_channels(tmp_path: Path) -> None:
    found = dataset.load(table(tmp_path), CARD, (3, 1))
    assert (len(found.x), found.undefined, found.left_out) == (197, 3, 0)
    assert found.why == "the formula ratio = torque / speed gives no number, such as by a division by zero"
    rows = np.loadtxt(tmp_path / "data.csv", delimiter=",", skiprows=1, usecols=(0, 1))[3:]
    np.testing.assert_allclose(found.x[:, 1, 0], rows[:, 0] * rows[:, 1] * 0.1, rtol=1e-6)
    np.testing.assert_allclose(found.x[:, 2, 0], rows[:, 0] / rows[:, 1], rtol=1e-6)
    assert (found.y == (rows[:, 0] * rows[:, 1] > 65_000)).mean() > 0.98


def test_a_table_in_which_no_window_has_a_number_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no window can be used: the formula ratio = torque / speed gives no number"):
        dataset.load(table(tmp_path, stopped=200), CARD, (3, 1))


def test_an_archive_holds_the_input_or_the_measured_windows(tmp_path: Path) -> None:
    windows = np.random.default_rng(0).normal(5, 1, (40, 2, 1)).astype(np.float32)
    ready = Preparation(CARD)(windows)
    for name, x in (("measured", windows), ("ready", ready)):
        np.savez(tmp_path / f"{name}.npz", x=x, y=np.zeros(40))
    one, other = (dataset.load(tmp_path / f"{name}.npz", CARD, (3, 1)) for name in ("measured", "ready"))
    assert (one.x == other.x).all() and one.x.shape == (40, 3, 1)


AMBIGUOUS = msgspec.structs.replace(CARD, derive={"power": "torque * speed"})  # two channels in, two measured


def test_an_archive_whose_shape_fits_both_says_what_it_holds(tmp_path: Path) -> None:
    windows = np.random.default_rng(0).normal(5, 1, (40, 2, 1)).astype(np.float32)
    ready = np.stack([windows[:, 0], windows[:, 0] * windows[:, 1]], axis=1)
    np.savez(tmp_path / "d.npz", x=windows, y=np.zeros(40))
    with pytest.raises(DataError, match=r"d.npz: x \(40, 2, 1\) may hold what is measured \(torque, speed\) or .* say"):
        dataset.load(tmp_path / "d.npz", AMBIGUOUS, (2, 1))
    for x, measured in ((windows, True), (windows[:, :, 0], True), (ready, False)):
        np.savez(tmp_path / "d.npz", x=x, y=np.zeros(40), measured=measured)
        np.testing.assert_allclose(dataset.load(tmp_path / "d.npz", AMBIGUOUS, (2, 1)).x, ready, rtol=1e-6)


def test_measured_windows_of_an_archive_may_be_rows_of_a_table_or_give_features(tmp_path: Path) -> None:
    windows = np.random.default_rng(0).normal(5, 1, (40, 2, 1)).astype(np.float32)
    np.savez(tmp_path / "d.npz", x=windows[:, :, 0], y=np.zeros(40))
    assert (dataset.load(tmp_path / "d.npz", CARD, (3, 1)).x == Preparation(CARD)(windows)).all()
    card = Card("anomaly", (Channel("a", centre=4.0, scale=2.0), Channel("b")), WindowSpec(1, 8, 8), ("mean", "std"))
    long = np.random.default_rng(1).normal(5, 1, (30, 2, 8)).astype(np.float32)
    np.savez(tmp_path / "d.npz", x=long, measured=True)
    assert (dataset.load(tmp_path / "d.npz", card, (4,)).x == Preparation(card)(long)).all()
    np.savez(tmp_path / "d.npz", x=long)
    with pytest.raises(
        DataError, match=r"shape \(2, 8\), the model expects \(4,\); if 'x' holds windows .* measured = true"
    ):
        dataset.load(tmp_path / "d.npz", card, (4,))
    np.savez(tmp_path / "d.npz", x=long[:, :, :7], measured=True)
    with pytest.raises(DataError, match=r"array 'x' has windows of shape \(2, 7\), the card's \(2, 8\)"):
        dataset.load(tmp_path / "d.npz", card, (4,))


def test_rows_of_an_archive_without_a_value_are_left_out(tmp_path: Path) -> None:
    x = np.ones((9, 3, 1), np.float32)
    x[2, 1], x[5, 0] = np.nan, np.inf
    np.savez(tmp_path / "d.npz", x=x, y=np.arange(9) % 2)
    found = dataset.load(tmp_path / "d.npz", CARD, (3, 1))
    assert (len(found.x), found.left_out, found.y.tolist()) == (7, 2, [0, 1, 1, 0, 0, 1, 0])
    np.savez(tmp_path / "d.npz", x=x * np.nan)
    with pytest.raises(DataError, match="none of 9 rows in 'x' holds finite values only"):
        dataset.load(tmp_path / "d.npz", CARD, (3, 1))


@pytest.mark.parametrize(
    ("key", "given", "words"),
    [
        ("measured", "no", "array 'measured': expected true or false, got no"),
        ("measured", [True, False, True], "array 'measured': expected true or false, got"),
        ("test", [[0], [1], [0]], r"array 'test' \(3, 1\): expected 0 or 1 for each row"),
        ("test", [0, 2, 0], "array 'test' .* expected 0 or 1"),
        ("test", [0, np.nan, 0], "array 'test' .* expected 0 or 1"),
    ],
)
def test_what_stands_beside_x_in_an_archive_is_yes_or_no(key: str, given: Any, words: str, tmp_path: Path) -> None:
    beside: dict[str, Any] = {key: np.array(given)}
    np.savez(tmp_path / "d.npz", x=np.ones((3, 3, 1)), y=np.zeros(3), **beside)
    with pytest.raises(DataError, match=rf"d.npz: {words}"):
        dataset.load(tmp_path / "d.npz", CARD, (3, 1))


def test_measured_windows_of_an_archive_may_have_gaps(tmp_path: Path) -> None:
    windows = np.random.default_rng(0).normal(5, 1, (40, 2, 1)).astype(np.float32)
    windows[0, 1], windows[1, 0], windows[2, 1] = np.nan, np.inf, 0
    np.savez(tmp_path / "d.npz", x=windows, y=np.arange(40) % 2)
    found = dataset.load(tmp_path / "d.npz", CARD, (3, 1))
    assert (len(found.x), found.left_out, found.undefined) == (37, 2, 1) and found.y[0] == 1
    np.savez(tmp_path / "d.npz", x=np.full((4, 2, 1), np.nan), y=np.zeros(4))
    with pytest.raises(DataError, match="none of 4 windows in 'x' has enough values"):
        dataset.load(tmp_path / "d.npz", CARD, (3, 1))


def test_features_and_numbers_are_one_vector(tmp_path: Path) -> None:
    derive: dict[str, str | Derived] = {"power": "torque * speed", "swing": "max(torque) - min(torque)"}
    card = Card("classify", CHANNELS, WindowSpec(1, 10, 5), ("mean", "std"), ("ok", "worn"), derive=derive)
    assert input_count(card) == 5
    found = dataset.load(table(tmp_path), card, (5,))
    assert found.x.shape[1:] == (5,) and (found.x[:, 4] > 0).all()
    alone = Preparation(card)
    windows = np.random.default_rng(1).normal(5, 1, (20, 2, 10)).astype(np.float32)
    assert (np.array([alone(w) for w in windows]) == Preparation(card)(windows)).all()


def test_commands_say_what_is_derived_and_left_out(tmp_path: Path) -> None:
    starter(CARD).save(str(tmp_path / "m.onnx"))
    shown = CliRunner().invoke(main, ["model", "show", str(tmp_path / "m.onnx")])
    assert "power = torque * speed * 0.1\n" in shown.output and "ratio = torque / speed\n" in shown.output
    data = table(tmp_path)
    done = CliRunner().invoke(main, ["train", str(tmp_path / "m.onnx"), "--data", str(data), "--epochs", "2"])
    assert done.exit_code == 0, done.output
    assert "3 windows left out: the formula ratio = torque / speed gives no number" in done.output
    assert "not read" not in done.output
    lines = data.read_text().splitlines()
    data.write_text("\n".join([f"{lines[0]},power", *(f"{line},1" for line in lines[1:])]) + "\n")
    done = CliRunner().invoke(main, ["train", str(tmp_path / "m.onnx"), "--data", str(data), "--epochs", "2"])
    assert f"{data}: not read, because the model derives it itself: power\n" in done.output


@pytest.mark.parametrize("features", [(), ("mean", "std")])
def test_an_alarm_names_the_derived_channel_with_those_it_is_computed_of(features: tuple[str, ...]) -> None:
    channels = (Channel("torque"), Channel("speed"), Channel("temp"))
    derive: dict[str, str | Derived] = {"swing": "max(temp) - min(temp)", "power": "speed * torque"}
    card = Card("anomaly", channels, WindowSpec(1, 8, 8), features, derive=derive)
    model = starter(card, input_count(card) if features else None)
    serving = Serving(Session(model.to_bytes(), {}), card, 0, UNSCALED, Limit(0.0, np.ones(5, np.float32)))
    errors = ChannelErrors(card, model.graph.input_shape)
    windows = np.random.default_rng(0).normal(0, 0.1, (1, 3, 8)).astype(np.float32)
    x = Preparation(card)(windows)
    model.scale = UNSCALED
    difference = model.predict(x) - np.clip(x, -8, 8)
    found = serving.decide(x[0], Limit(0.0, np.ones(5, np.float32)))
    assert errors(difference)[0].mean() == pytest.approx(found.score, rel=1e-4)
    for index, name in enumerate(("torque", "speed", "temp", "power of torque, speed", "swing of temp")):
        usual = np.full(5, 1e9, np.float32)
        usual[index] = 1e-9
        assert serving.decide(x[0], Limit(0.0, usual)).channel == name
