# SPDX-License-Identifier: Apache-2.0
"""A starter for a kind of machine works as it is, and gives way to what is configured or asked for."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result
from fedge_agent.cli.main import main
from fedge_agent.learning.machine_kinds import KINDS, STRIKES
from fedge_agent.windows.features import Preparation
from fedge_models import Model, TrainingConfig, load
from support.paths import ROOT

HEAD = '[agent]\nname = "g"\nstate = "s"\n[source.plc]\ntype = "csv"\npath = "x.csv"\n[model.m]\n'
BEARING = "bearing = { elements = 8, element_diameter = 7.9, pitch_diameter = 33.5, shaft_hz = 25.0 }\n"


def run(folder: Path, *words: object) -> Result:
    return CliRunner().invoke(main, ["model", "new", "m", "--out", str(folder / "m.onnx"), *map(str, words)])


def new(folder: Path, *words: object) -> Model:
    done = run(folder, *words)
    assert done.exit_code == 0, done.output
    return load(folder / "m.onnx")


def config(folder: Path, keys: str) -> Path:
    (folder / "a.toml").write_text(f'{HEAD}[asset.a]\nmodel = "m"\n{keys}')
    return folder / "a.toml"


@pytest.mark.parametrize("kind", KINDS)
def test_a_starter_of_each_kind_trains(kind: str, tmp_path: Path) -> None:
    model, card = new(tmp_path, "--machine", kind), KINDS[kind]
    assert {c.name: c.unit for c in model.card.channels if c.name not in model.card.derive} == dict(card.channels)
    assert (set(model.card.derive) == set(card.derive) and not model.graph.notes) or card.image is not None
    rng = np.random.default_rng(0)
    shape = model.graph.input_shape
    x, y = rng.normal(size=(40, *shape)).astype(np.float32), np.arange(40) % 2
    target = None if model.card.task == "anomaly" else y if model.card.labels else rng.normal(size=(40, 1))
    report = model.train(x, target, TrainingConfig(epochs=1), rng)
    assert report.rows == 40 and not report.diverged


def test_what_is_configured_or_asked_for_comes_before_the_kind(tmp_path: Path) -> None:
    keys = (
        'channels.pressure_out_bar = { source = "plc", tag = "p" }\nchannels.other = { source = "plc", tag = "o" }\n'
        "window.length = 30\n"
    )
    model = new(tmp_path, "--machine", "pump", "--config", config(tmp_path, keys), "--hop", 15)
    assert [(c.name, c.unit) for c in model.card.channels] == [("pressure_out_bar", "bar"), ("other", "")]
    window = model.card.window
    assert (window.rate_hz, window.length, window.hop) == (1.0, 30, 15) and not model.card.derive
    (tmp_path / "m.onnx").unlink()
    asked = new(tmp_path, "--machine", "battery", "--label", "good", "--label", "weak")
    assert asked.card.task == "classify" and asked.card.labels == ("good", "weak") and not asked.card.targets


def test_strikes_of_a_bearing_are_features_where_each_asset_names_its_bearing(tmp_path: Path) -> None:
    channel = 'channels.vibration_g = { source = "plc", tag = "v" }\n'
    known = new(tmp_path, "--machine", "bearing", "--config", config(tmp_path, channel + BEARING)).card
    assert known.features == (*KINDS["bearing"].features, *STRIKES)
    (tmp_path / "m.onnx").unlink()
    assert new(tmp_path, "--config", config(tmp_path, channel + BEARING)).card.features == KINDS["pump"].features
    (tmp_path / "m.onnx").unlink()
    assert (
        new(tmp_path, "--machine", "bearing", "--config", config(tmp_path, channel)).card.features == known.features[:5]
    )


def test_a_window_is_long_enough_for_what_its_features_look_at() -> None:
    from fedge_agent.learning.starter_card import Wishes, starter_card

    for kind, made in KINDS.items():
        card = starter_card("m", {}, Wishes(machine=kind))
        if made.image is None:
            rows = len(made.channels)
            window = np.random.default_rng(0).normal(5, 1, (2, rows, made.length)).astype(np.float32)
            assert np.isfinite(Preparation(card)(window)).all(), kind


def test_without_channels_or_a_kind_the_message_says_what_to_give(tmp_path: Path) -> None:
    assert "--machine pump" in run(tmp_path).output
    wrong = run(tmp_path, "--machine", "boat")
    assert wrong.exit_code == 2 and all(kind in wrong.output for kind in KINDS)


def test_each_kind_is_documented() -> None:
    page = (ROOT / "docs" / "data-scientist" / "own-model.md").read_text()
    missing = [kind for kind, made in KINDS.items() if f"| `{kind}` | {made.about} |" not in page]
    assert not missing
