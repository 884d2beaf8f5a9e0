# SPDX-License-Identifier: Apache-2.0
"""`fedge-agent model new`: a first model for those who know no ONNX, which trains, is evaluated and serves at once."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result
from fedge_agent.cli.main import main
from fedge_agent.config import schema
from fedge_agent.learning.limits import Limit
from fedge_agent.learning.serving import Serving, Session
from fedge_agent.machines.fit import check_fit
from fedge_agent.windows.features import Preparation
from fedge_models import Model, load
from support.paths import ROOT

PUMP = """
channels.current = { source = "plc", tag = "c" }
channels.pressure = { source = "plc", tag = "p" }
window.rate_hz = 2
"""
LABEL = 'label = { source = "plc", tag = "l", map = { "0" = "ok", "1" = "worn" } }\n'
TARGETS = 'targets.life = { source = "plc", tag = "l" }\n'


def config(folder: Path, *assets: str) -> Path:
    file = folder / "agent.toml"
    head = '[agent]\nname = "g"\nstate = "s"\n[source.plc]\ntype = "csv"\npath = "x.csv"\n[model.pump]\n'
    file.write_text(head + "".join(f'[asset.p{i}]\nmodel = "pump"\n{text}' for i, text in enumerate(assets)))
    return file


def run(*words: object) -> Result:
    return CliRunner().invoke(main, [str(word) for word in words])


def new(folder: Path, *words: object) -> Model:
    done = run("model", "new", "pump", "--out", folder / "m.onnx", *words)
    assert done.exit_code == 0, done.output
    return load(folder / "m.onnx")


def data(folder: Path, target: str) -> Path:
    """A thousand rows of a machine that changes every hundred."""
    rng, lines = np.random.default_rng(0), [f"current,pressure,{target}"]
    for i in range(1000):
        bad = i // 100 % 2
        lines.append(f"{5 + 3 * bad + rng.normal(0, 0.3):.4f},{2 + rng.normal(0, 0.1 + bad):.4f},{bad}")
    (folder / "d.csv").write_text("\n".join(lines) + "\n")
    return folder / "d.csv"


@pytest.mark.parametrize(
    ("keys", "options", "task", "column"),
    [
        ("", (), "anomaly", "label"),
        (LABEL, (), "classify", "label"),
        (TARGETS, (), "regress", "life"),
        (LABEL + "window.length = 32\n", ("--features", "raw"), "classify", "label"),
        ("", ("--features", "raw"), "anomaly", "label"),
        ("", ("--features", "rms,bands:4", "--label", "ok", "--label", "bad"), "classify", "label"),
    ],
)
def test_the_starter_model_trains_evaluates_and_serves(
    keys: str, options: tuple[object, ...], task: str, column: str, tmp_path: Path
) -> None:
    file = config(tmp_path, PUMP + keys)
    model = new(tmp_path, "--config", file, *options)
    card = model.card
    assert card.task == task and [c.name for c in card.channels] == ["current", "pressure"]
    assert card.window.rate_hz == 2 and card.window.length == (32 if "32" in keys else 60)
    trained = run("train", tmp_path / "m.onnx", "--data", data(tmp_path, column), "--out", tmp_path / "t.onnx")
    assert trained.exit_code == 0 and "after" in trained.output, trained.output
    assert run("evaluate", tmp_path / "t.onnx", "--data", tmp_path / "d.csv").exit_code == 0
    after = load(tmp_path / "t.onnx")
    check_fit("p0", schema.load(file).asset["p0"], after.card, after.graph.input_shape)
    windows = np.random.default_rng(1).normal(5, 1, (30, 2, card.window.length)).astype(np.float32)
    rows = Preparation(after.card)(windows)
    scale = after.fit_scale(rows)
    serving = Serving(Session(after.to_bytes(), {}), after.card, 1, scale, Limit(1e9), after.graph.gives_probabilities)
    assert np.isfinite(serving.decide(rows[0]).score)


def test_everything_may_come_from_options(tmp_path: Path) -> None:
    words = ("--channel", "a=A", "--channel", "b", "--target", "life=h", "--task", "regress", "--length", 1)
    model = new(tmp_path, *words, "--rate-hz", 5, "--hop", 1)
    assert [(c.name, c.unit) for c in model.card.channels] == [("a", "A"), ("b", "")]
    assert [(t.name, t.unit) for t in model.card.targets] == [("life", "h")]
    assert (model.card.features, model.graph.input_shape) == ((), (2, 1))


def test_derived_channels_may_come_from_options(tmp_path: Path) -> None:
    words = ("--channel", "a=A", "--channel", "b", "--features", "mean,std", "--length", 20, "--rate-hz", 1)
    model = new(
        tmp_path, *words, "--derive", "p = a * b", "--derive", "same=(a == b)", "--derive", "swing=max(a)-min(a)"
    )
    assert model.card.derive == {"p": "a * b", "same": "(a == b)", "swing": "max(a)-min(a)"}
    assert model.graph.input_shape == (9,)
    done = run("model", "show", tmp_path / "m.onnx")
    assert "p = a * b\n" in done.output and "swing = max(a)-min(a) (one number a window)\n" in done.output


@pytest.mark.parametrize(
    ("formula", "message"),
    [("p", "--derive 'p': expected NAME=FORMULA"), ("p=c*2", "derive.p: position 1: there is no channel 'c'")],
)
def test_a_formula_that_is_none_makes_no_model(formula: str, message: str, tmp_path: Path) -> None:
    done = run("model", "new", "m", "--out", tmp_path / "m.onnx", "--channel", "a", "--derive", formula)
    assert done.exit_code == 1 and message in done.output and not (tmp_path / "m.onnx").exists()


@pytest.mark.parametrize(("kind", "operator"), [("auto", True), ("table", True), ("dense", False)])
def test_a_table_of_rows_has_a_net_of_its_own(kind: str, operator: bool, tmp_path: Path) -> None:
    words = ("--channel", "a", "--channel", "b", "--label", "ok", "--label", "worn", "--length", 1, "--hop", 1)
    made = run("model", "new", "pump", "--out", tmp_path / "m.onnx", *words, "--kind", kind)
    assert made.exit_code == 0 and ("want larger steps than the default" in made.output) == operator
    assert ("HardSigmoid" in load(tmp_path / "m.onnx").graph.operators) == operator
    show = run("model", "show", tmp_path / "m.onnx")
    assert show.exit_code == 0 and ("HardSigmoid" in show.output) == operator


def test_a_card_from_a_file_goes_before_everything_else(tmp_path: Path) -> None:
    (tmp_path / "card.toml").write_text(
        'task = "classify"\nchannels = [{ name = "camera" }]\nwindow = { rate_hz = 1, length = 1, hop = 1 }\n'
        'labels = ["good", "scratched"]\nimage = { height = 32, width = 32 }\n'
    )
    assert new(tmp_path, "--card", tmp_path / "card.toml").graph.input_shape == (1, 32, 32)


def test_the_example_configuration_gives_a_model(tmp_path: Path) -> None:
    example = ROOT / "agent/fedge_agent/agent.example.toml"
    done = run("model", "new", "pump-anomaly", "--config", example, "--out", tmp_path / "m.onnx")
    assert done.exit_code == 0 and load(tmp_path / "m.onnx").card.task == "anomaly"


@pytest.mark.parametrize(
    ("assets", "options", "words"),
    [
        ((), (), "no asset has model = 'pump'"),
        ((PUMP, PUMP.replace("pressure", "flow")), (), "asset 'p0' has the channels current, pressure, asset 'p1' has"),
        ((PUMP,), ("--task", "classify"), "task classify needs two labels or more (--label ok"),
        ((PUMP,), ("--task", "regress"), "task regress needs a target (--target"),
        ((PUMP,), ("--features", "mena"), "feature 'mena' is not known; expected one of"),
        ((PUMP,), ("--task", "nonsense"), "'nonsense' is not one of 'classify', 'multilabel', 'anomaly', 'regress'"),
        ((PUMP,), ("--kind", "table"), "kind 'table' is for channels and a task with labels or targets, and"),
        ((PUMP,), ("--channel", "a", "--channel", "a"), "expected each name once, got a, a"),
        (
            (PUMP + "window.length = 20\n",),
            ("--length", 30, "--features", "raw"),
            "the model expects inputs of shape (2, 30), this",
        ),
        ((PUMP,), ("--out", "folder/there/is/none.onnx"), "none.onnx"),
    ],
)
def test_mistakes_are_one_line_that_says_what_to_do(
    assets: tuple[str, ...], options: tuple[object, ...], words: str, tmp_path: Path
) -> None:
    file = config(tmp_path, *assets)
    done = run("model", "new", "pump", "--out", tmp_path / "m.onnx", "--config", file, *options)
    assert done.exit_code != 0 and words in done.output and "Traceback" not in done.output, done.output
    assert not (tmp_path / "m.onnx").exists()


def test_a_file_that_exists_is_not_overwritten(tmp_path: Path) -> None:
    new(tmp_path, "--channel", "a")
    before = (tmp_path / "m.onnx").read_bytes()
    done = run("model", "new", "pump", "--out", tmp_path / "m.onnx", "--channel", "b")
    assert done.exit_code == 1 and "exists already" in done.output
    assert (tmp_path / "m.onnx").read_bytes() == before
