# SPDX-License-Identifier: Apache-2.0
"""Recorded data without labels, or with few: refused, or counted and said; never trained on as if it had some."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from fedge_agent.cli.main import main
from fedge_agent.learning.dataset import load
from fedge_models import Model, TrainingConfig
from fedge_models.graph import zoo
from fedge_models.graph.card import Card, Channel, Target, WindowSpec

CHANNELS, WINDOW = (Channel("a"), Channel("b")), WindowSpec(1, 1, 1)
CLASSIFY = Card("classify", CHANNELS, WINDOW, labels=("ok", "worn"))
MULTILABEL = Card("multilabel", CHANNELS, WINDOW, labels=("worn", "leak"))
REGRESS = Card("regress", CHANNELS, WINDOW, targets=(Target("wear"), Target("life")))
ANOMALY = Card("anomaly", CHANNELS, WINDOW)


def model(path: Path, card: Card) -> Path:
    proto = zoo.autoencoder(card, [2, 1], (2,)) if card.task == "anomaly" else zoo.mlp(card, [2, 1], (3,))
    path.write_bytes(proto.SerializeToString())
    return path


def run(tmp_path: Path, command: str, card: Card, head: str, row: str, code: int = 1) -> str:
    """Runs a command on 50 rows; what it printed. row: with {i} in it."""
    data, out = tmp_path / "d.csv", tmp_path / "out.onnx"
    data.write_text("\n".join([f"a,b,{head}", *(f"{i},{i % 7},{row.format(i=i % 2)}" for i in range(50))]))
    more = ["--epochs", "1", "--out", str(out)] if command == "train" else []
    done = CliRunner().invoke(main, [command, str(model(tmp_path / "m.onnx", card)), "--data", str(data), *more])
    assert done.exit_code == code, done.output
    assert out.exists() == (command == "train" and not code)
    return done.output + (str(done.exception) if code else "")


@pytest.mark.parametrize("command", ["train", "evaluate"])
@pytest.mark.parametrize(
    ("card", "head", "row", "words"),
    [
        (CLASSIFY, "lable", "ok", "has a label: no column 'label'; the file has a, b, lable"),
        (CLASSIFY, "label", "", "has a label: every label is empty, or changes within each window"),
        (CLASSIFY, "label", "-1", "every label is empty"),
        (MULTILABEL, "lable", "worn", "has a label: no column 'label'; the file has a, b, lable"),
        (MULTILABEL, "worn,leak", "1,", "every label is empty"),
        (REGRESS, "wear", "1", "has a target: no column 'life'; the file has a, b, wear"),
        (REGRESS, "wear,life", "1,", "every target is empty"),
    ],
    ids=lambda v: getattr(v, "task", v)[:12],
)
def test_data_without_any_label_is_refused(
    command: str, card: Card, head: str, row: str, words: str, tmp_path: Path
) -> None:
    assert words in run(tmp_path, command, card, head, row)


@pytest.mark.parametrize(
    ("card", "head", "row", "said"),
    [
        (CLASSIFY, "label", "ok", "data: only label ok"),
        (REGRESS, "wear,life", "1,2", ""),
        (ANOMALY, "lable", "normal", "no sample has a label: each counts as normal (no column 'label'; the file has a"),
    ],
    ids=lambda v: getattr(v, "task", v)[:12],
)
def test_what_is_trained_on_is_said(card: Card, head: str, row: str, said: str, tmp_path: Path) -> None:
    shown = run(tmp_path, "train", card, head, row, 0)
    assert "40 samples to train on, 10 to evaluate with, 0 left out" in shown
    assert said in shown and ("no label" in shown or "has a label" in shown) == ("has a label" in said)


def test_samples_without_a_label_are_counted_apart(tmp_path: Path) -> None:
    shown = run(tmp_path, "train", MULTILABEL, "label", "worn", 0)
    assert "40 samples to train on" in shown
    data = tmp_path / "d.csv"
    data.write_text(data.read_text().replace(",worn", ",", 30))
    done = CliRunner().invoke(main, ["train", str(tmp_path / "m.onnx"), "--data", str(data), "--epochs", "1"])
    assert "30 of 50 samples not used: no label, or one that changes within" in done.output
    assert "write normal where none of the labels holds" in done.output
    known = load(data, MULTILABEL, (2, 1)).labelled(MULTILABEL)
    test = load(data, MULTILABEL, (2, 1)).test
    assert f"{(known & ~test).sum()} samples to train on, {(known & test).sum()} to evaluate with" in done.output


def test_what_was_not_used_is_in_the_json_of_train_too(tmp_path: Path) -> None:
    x, y = np.random.default_rng(0).normal(size=(50, 2)), np.where(np.arange(50) < 30, -1, np.arange(50) % 2)
    x[[0, 49]] = np.nan
    np.savez(tmp_path / "d.npz", x=x, y=y, test=np.arange(50) % 5 == 4)
    file = model(tmp_path / "m.onnx", CLASSIFY)
    done = CliRunner().invoke(main, ["train", str(file), "--data", str(tmp_path / "d.npz"), "--json"])
    found = json.loads(done.stdout)
    assert {k: found[k] for k in ("samples", "test_samples", "unlabelled", "left_out", "undefined")} == {
        "samples": 16, "test_samples": 3, "unlabelled": 29, "left_out": 2, "undefined": 0,
    }  # fmt: skip


def test_without_a_sample_to_evaluate_with_train_says_so(tmp_path: Path) -> None:
    np.savez(tmp_path / "d.npz", x=np.random.default_rng(0).normal(size=(1, 2)), y=[1], test=[0])
    file = model(tmp_path / "m.onnx", CLASSIFY)
    done = CliRunner().invoke(main, ["train", str(file), "--data", str(tmp_path / "d.npz")])
    assert "1 sample to train on, 0 to evaluate with, 0 left out" in done.output and "before" not in done.output
    assert "no sample to evaluate with, so there are no figures" in done.output and not done.exit_code


def test_arrays_without_any_label_are_refused(tmp_path: Path) -> None:
    x = np.zeros((50, 2), np.float32)
    np.savez(tmp_path / "d.npz", x=x)
    for card in (CLASSIFY, MULTILABEL, REGRESS):
        file = model(tmp_path / f"{card.task}.onnx", card)
        done = CliRunner().invoke(main, ["train", str(file), "--data", str(tmp_path / "d.npz")])
        assert done.exit_code and "no array 'y'; the file has x" in str(done.exception) + done.output
        y = np.full(50, -1) if card.task == "classify" else np.full((50, 2), np.nan)
        for given in (None, y):
            with pytest.raises(ValueError, match="none of 50 rows can be trained on: each has an unknown label"):
                Model(file.read_bytes()).train(x, given, TrainingConfig(epochs=1))
    with pytest.raises(ValueError, match="each is an anomaly"):
        Model(model(tmp_path / "m.onnx", ANOMALY).read_bytes()).train(x, np.ones(50, np.int64))


def test_a_table_of_anomalies_only_is_refused(tmp_path: Path) -> None:
    assert "every sample to train on is an anomaly" in run(tmp_path, "train", ANOMALY, "label", "anomaly")
