# SPDX-License-Identifier: Apache-2.0
"""`fedge-agent browse FILE`: what it shows, and that its lines serve as configuration and as `--form`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner
from fedge_agent.cli.main import main
from fedge_models.graph import zoo
from fedge_models.graph.card import Card, Channel, WindowSpec

CARD = Card("classify", (Channel("temp"), Channel("press")), WindowSpec(1, 5, 1), ("mean",), labels=("ok", "worn"))


def run(*command: object, code: int = 0) -> str:
    done = CliRunner().invoke(main, [*map(str, command)])
    assert done.exit_code == code, done.output
    return done.output


def german(path: Path, label: str = "ok") -> Path:
    rows = [f"24.11.2026 08:00:{i:02};20,{i};1,5;{label if i < 30 else 'worn'}\n" for i in range(60)]
    path.write_text("Anlage 3;;;\nZeit;temp;press;label\n" + "".join(rows), "cp1252")
    return path


def test_what_is_understood_is_shown_as_a_table_and_lines(tmp_path: Path) -> None:
    shown = run("browse", german(tmp_path / "Linie 3.csv"))
    rows = {line.split("  ")[0]: line for line in shown.splitlines()}
    assert rows["Zeit"].endswith("2026-11-24 08:00:00 UTC") and "%d.%m.%Y %H:%M:%S" in rows["Zeit"]
    assert "20 (20 to 20.9)" in rows["temp"] and "a label" in rows["label"]
    for line in (
        "[source.Linie-3]",
        'decimal = ","',
        "skip_rows = 1",
        'time_format = "%d.%m.%Y %H:%M:%S"',
        'channels.press = { source = "Linie-3", tag = "press" }',
    ):
        assert line in shown.splitlines()
    assert '# time_zone = "Europe/Berlin"' in shown
    table = json.loads(run("browse", tmp_path / "Linie 3.csv", "--json"))
    assert table["tags"] == ["temp", "press"] and table["keys"]["decimal"] == "," and not table["problems"]


def test_written_lines_pass_check_as_a_configuration(tmp_path: Path) -> None:
    german(tmp_path / "export.csv")
    (tmp_path / "m.onnx").write_bytes(zoo.mlp(CARD, 2, (4,)).SerializeToString())
    snippet = run("browse", tmp_path / "export.csv", "--config-lines").replace("[asset.NAME]", '[asset.p]\nmodel = "m"')
    head = '[agent]\nname = "gw"\nstate = "state"\n[model.m]\nfile = "m.onnx"\n[output.log]\ntype = "log"\n'
    (tmp_path / "gw.toml").write_text(head + snippet)
    assert "ok   source export" in run("check", "--config", tmp_path / "gw.toml")
    assert run("browse", "export", "--config", tmp_path / "gw.toml") == run("browse", tmp_path / "export.csv")


def test_newest_file_of_a_pattern_is_looked_at_and_the_pattern_is_written(tmp_path: Path) -> None:
    for day in (23, 24):
        german(tmp_path / f"log_2026-11-{day}.csv")
    shown = run("browse", tmp_path / "log_*.csv", "--config-lines")
    assert f'path = "{(tmp_path / "log_*.csv").resolve()}"' in shown and "[source.log]" in shown


@pytest.mark.parametrize("form", ["guessed", "given"])
def test_train_and_evaluate_read_the_same_forms(tmp_path: Path, form: str) -> None:
    data, model = german(tmp_path / "export.csv"), tmp_path / "m.onnx"
    model.write_bytes(zoo.mlp(CARD, 2, (4,)).SerializeToString())
    given: list[object] = []
    if form == "given":
        (tmp_path / "form.toml").write_text(run("browse", data, "--config-lines"))
        given = ["--form", tmp_path / "form.toml"]
    shown = run("train", model, "--data", data, "--out", tmp_path / "o.onnx", "--epochs", 1, *given)
    assert ('understood as decimal = ","' in shown) == (form == "guessed")
    assert "samples to train on" in shown
    assert json.loads(run("evaluate", model, "--data", data, "--json", *given).splitlines()[-1])["figures"]


def test_misspelt_labels_are_counted_and_named_with_those_expected(tmp_path: Path) -> None:
    data, model = german(tmp_path / "export.csv", label="wornn"), tmp_path / "m.onnx"
    model.write_bytes(zoo.mlp(CARD, 2, (4,)).SerializeToString())
    shown = run("train", model, "--data", data, code=1)
    assert "'wornn' is none of ok, worn" in shown and "did you mean 'worn'? (rows like it: 30 of 60)" in shown


def test_numbers_that_could_be_two_are_not_trained_on_until_somebody_says_which(tmp_path: Path) -> None:
    data, model = tmp_path / "d.csv", tmp_path / "m.onnx"
    data.write_text("temp;press\n" + "1,234;2,500\n" * 30)
    model.write_bytes(zoo.mlp(CARD, 2, (4,)).SerializeToString())
    assert "'1,234' is read as 1.234; if it is 1234" in run("evaluate", model, "--data", data, code=1)
    (tmp_path / "form.toml").write_text('decimal = ","\n')
    shown = run("evaluate", model, "--data", data, "--form", tmp_path / "form.toml", code=1)
    assert "none of 26 samples to evaluate with has a label" in shown


def test_file_that_is_not_there_says_so(tmp_path: Path) -> None:
    assert "No such file" in run("browse", tmp_path / "none.csv", code=1)
    assert "there is no such file" in run("browse", "nothing", "--config", tmp_path / "gw.toml", code=1)


@pytest.mark.parametrize(
    ("target", "words"), [(".", "a folder; expected a file"), ("http://plc.example/", "expected opc.tcp://host:port")]
)
def test_what_cannot_be_browsed_is_one_sentence(tmp_path: Path, target: str, words: str) -> None:
    where = str(tmp_path) if target == "." else target
    done = CliRunner().invoke(main, ["browse", where, "--config", str(tmp_path / "none.toml")], prog_name="fedge-agent")
    assert done.exit_code == 1 and done.stderr.count("\n") == 1 and words in done.stderr, done.output
