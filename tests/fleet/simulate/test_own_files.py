# SPDX-License-Identifier: Apache-2.0
"""`fedge-fleet simulate --model --data` as a user types it: the answer, and what is said of data that do not fit."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result
from fedge_fleet.cli import main
from fedge_models.graph.card import Card, Channel, ImageSpec, Target, WindowSpec
from fedge_models.model import starter

CHANNELS = (Channel("current_A", "A"), Channel("pressure_bar", "bar"))
TABLE = Card("classify", CHANNELS, WindowSpec(1, 1, 1), labels=("ok", "worn"))
WINDOWS = Card("classify", CHANNELS, WindowSpec(1, 4, 4), ("mean", "std"), labels=("ok", "worn"))
FAST = ["--rounds", "2", "--seeds", "2", "--jobs", "1", "--training", "{ epochs = 1 }"]


def table(path: Path, seed: int, rows: int = 200, step_s: float | None = None, labels: str = "ok worn") -> None:
    """A plant's table, whose fault moves both channels."""
    rng, names = np.random.default_rng(seed), labels.split()
    bad = np.repeat(rng.integers(0, len(names), -(-rows // 8)), 8)[:rows] if names else np.zeros(rows, np.int64)
    x = rng.normal((8 + seed, 4), (0.5, 0.2), (rows, 2)) + bad[:, None] * (0.8, 0.3)
    head = [*(["time"] if step_s else []), "current_A", "pressure_bar", *(["label"] if names else [])]
    lines = [",".join(head)]
    for k, (a, b) in enumerate(x):
        stamp = [f"{1_700_000_000 + k * step_s:.3f}"] if step_s else []
        lines.append(",".join([*stamp, f"{a:.3f}", f"{b:.3f}", *([names[bad[k]]] if names else [])]))
    path.write_text("\n".join(lines) + "\n")


@pytest.fixture
def plants(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Result]:
    """Three plants and a model; runs the command with them."""
    monkeypatch.chdir(tmp_path)
    starter(TABLE).save(tmp_path / "net.onnx")
    starter(WINDOWS, inputs=4).save(tmp_path / "windows.onnx")
    for k in range(3):
        table(tmp_path / f"plant{k}.csv", k)

    def run(*words: str, data: str = "plant*.csv", model: str = "net.onnx") -> Result:
        return CliRunner().invoke(main, ["simulate", "--model", model, "--data", data, *FAST, *words])

    return run


def test_answers_come_first_then_figures_and_a_page(plants: Callable[..., Result]) -> None:
    found = plants("--report", "page.html")
    assert found.exit_code == 0, found.output
    assert found.stdout.startswith("Does joining pay?\n") and "plant2" in found.stdout
    assert "Which rule to take?" in found.stdout and "model.X.training.epochs = 1" in found.stdout
    page = Path("page.html").read_text("utf-8")
    assert page.count("class='chart") == 2 and "<script" not in page and "http" not in page
    assert "prefers-color-scheme: dark" in page and "nan" not in page


def test_json_holds_every_figure_and_the_same_bytes_each_time(plants: Callable[..., Result]) -> None:
    a, b = (plants("--json") for _ in range(2))
    assert a.exit_code == 0 and a.stdout == b.stdout
    found = json.loads(a.stdout)
    assert set(found["sites"]) == {"plant0", "plant1", "plant2"} and set(found["rules"]) == {
        "default",
        "fedavg-no-trust",
    }
    assert found["held_back"] == dict.fromkeys(found["sites"], "blocks of rows")
    assert found["bytes_a_round"]["up"] > 100 and found["overall_gain"]["error"] is not None
    assert [d["key"] for d in found["differs_from_default"]] == ["model.X.training.epochs"]


def test_a_comparison_tries_rules_under_attacks(plants: Callable[..., Result]) -> None:
    words = ["--compare", "--rules", "default,median", "--attacks", "sign_flip,label_flip"]
    found = plants(*words, "--json", "--report", "page.html")
    assert found.exit_code == 0, found.output
    rules = json.loads(found.stdout)["rules"]
    assert {f["attack"] for f in rules["median"]["attacked"]} == {"sign_flip", "label_flip"}
    page = Path("page.html").read_text("utf-8")
    assert "What an attacker could do" in page and "1 of 3 sites hostile: what is left" in page


def test_a_pattern_without_quotes_and_a_settings_file_are_taken(plants: Callable[..., Result], tmp_path: Path) -> None:
    Path("fleet.toml").write_text('model = "net.onnx"\ndata = "plant*.csv"\nrounds = 1\nseeds = 1\n')
    runner = CliRunner()
    found = runner.invoke(main, ["simulate", "fleet.toml", "--jobs", "1", "--json"])
    assert found.exit_code == 0 and len(json.loads(found.stdout)["sites"]) == 3
    assert "whether that is chance is not known" in found.stdout
    files = ["--data", "plant0.csv", "plant1.csv", "plant2.csv"]
    found = runner.invoke(main, ["simulate", "--model", "net.onnx", *files, *FAST, "--json"])
    assert found.exit_code == 0 and len(json.loads(found.stdout)["sites"]) == 3


def test_two_processes_give_the_same_as_one(plants: Callable[..., Result]) -> None:
    assert plants("--json").stdout == plants("--json", "--jobs", "2").stdout


def test_anomalies_without_a_label_are_judged_by_planted_faults(plants: Callable[..., Result]) -> None:
    card = Card("anomaly", CHANNELS, WindowSpec(1, 4, 4), ("mean", "std"))
    starter(card, inputs=4).save(Path("normal.onnx"))
    for k in range(3):
        table(Path(f"plant{k}.csv"), k, rows=600, labels="")
    found = plants("--json", model="normal.onnx")
    assert found.exit_code == 0, found.output
    notes = json.loads(found.stdout)["notes"]
    assert any("faults that are planted" in note for note in notes)


def of_targets(path: Path, seed: int) -> None:
    x = np.random.default_rng(seed).normal(size=(120, 2))
    lines = [f"{a:.3f},{b:.3f},{a + 2 * b + 5:.3f}" for a, b in x]
    path.write_text("current_A,pressure_bar,life_h\n" + "\n".join(lines) + "\n")


def of_several_labels(path: Path, seed: int) -> None:
    rng = np.random.default_rng(seed)
    y = rng.random((120, 2)) < 0.4
    lines = [f"{a:.3f},{b:.3f},{int(w)},{int(k)}" for (a, b), (w, k) in zip(rng.normal(3 * y, 0.5), y, strict=True)]
    path.write_text("current_A,pressure_bar,worn,leak\n" + "\n".join(lines) + "\n")


def of_experiments(path: Path, seed: int) -> None:
    table(path, seed, rows=400)
    head, *rows = path.read_text().splitlines()
    path.write_text("\n".join([f"{head},group", *(f"{row},run {k // 40}" for k, row in enumerate(rows))]) + "\n")


def of_runs(path: Path, seed: int) -> None:
    table(path, seed, rows=320, step_s=1.0)
    head, *rows = path.read_text().splitlines()
    cells = [row.split(",", 1) for row in rows]  # a pause of an hour after every 40 rows
    late = [f"{float(time) + k // 40 * 3600:.3f},{rest}" for k, (time, rest) in enumerate(cells)]
    path.write_text("\n".join([head, *late]) + "\n")


def of_derived_channels(path: Path, seed: int) -> None:
    table(path, seed)


KINDS = {
    "targets": (
        Card("regress", CHANNELS, WindowSpec(1, 1, 1), targets=(Target("life_h", "h", alarm_below=3.0),)),
        of_targets,
        "blocks of rows",
        "RMSE",
    ),
    "several labels": (
        Card("multilabel", CHANNELS, WindowSpec(1, 1, 1), labels=("worn", "leak")),
        of_several_labels,
        "blocks of rows",
        "macro-F1",
    ),
    "experiments": (TABLE, of_experiments, "whole experiments (column group)", "macro-F1"),
    "runs": (TABLE, of_runs, "whole runs (between gaps in time)", "macro-F1"),
    "derived channels": (
        Card(
            "classify", CHANNELS, WindowSpec(1, 1, 1), labels=("ok", "worn"), derive={"p": "current_A * pressure_bar"}
        ),
        of_derived_channels,
        "blocks of rows",
        "macro-F1",
    ),
}


@pytest.mark.parametrize(("card", "write", "units", "metric"), KINDS.values(), ids=KINDS)
def test_every_kind_of_data_is_read_as_a_gateway_reads_it(
    plants: Callable[..., Result], card: Card, write: Callable[[Path, int], None], units: str, metric: str
) -> None:
    starter(card).save(Path("kind.onnx"))
    for k in range(3):
        write(Path(f"plant{k}.csv"), k)
    found = plants("--compare", "--rules", "default", "--attacks", "sign_flip", model="kind.onnx")
    assert found.exit_code == 0, found.output
    assert f"{metric} at" in found.stdout and f"held back: {units}" in found.stderr
    assert "unknown" not in found.stdout and "nan" not in found.stdout


def test_folders_of_pictures_are_sites(plants: Callable[..., Result]) -> None:
    image = pytest.importorskip("PIL.Image")
    card = Card("classify", (Channel("camera"),), WindowSpec(1, 1, 1), labels=("sound", "crack"), image=ImageSpec(8, 8))
    starter(card).save(Path("eye.onnx"))
    for k in range(3):
        for label in card.labels:
            folder = Path(f"plants/plant{k}/{label}")
            folder.mkdir(parents=True)
            for i in range(20):
                pixels = np.random.default_rng([k, i]).integers(0, 100, (8, 8)).astype(np.uint8)
                image.fromarray(pixels + (120 if label == "crack" else 0)).save(folder / f"{i}.png")
    found = plants(data="plants/*", model="eye.onnx")
    assert found.exit_code == 0, found.output
    assert "plant2: 40 samples, 0 left out; held back: pictures that follow each other" in found.stderr


def test_what_must_be_known_of_the_data_is_noted(plants: Callable[..., Result]) -> None:
    table(Path("plant1.csv"), 1, labels="ok")
    Path("plant3.csv").write_bytes(Path("plant2.csv").read_bytes())
    table(Path("plant4.csv"), 4, rows=40)
    lines = Path("plant0.csv").read_text().splitlines()
    rows = [line.split(",") for line in lines[1:]]
    Path("plant0.csv").write_text("\n".join([lines[0], *(f"{a},{float(b) * 1000},{c}" for a, b, c in rows)]) + "\n")
    notes = "\n".join(json.loads(plants("--json").stdout)["notes"])
    assert "plant1: all samples are 'ok'" in notes
    assert "plant3: holds the same samples as plant2" in notes
    assert "a gateway waits for 64 samples (min_samples) before it trains: plant4 (40)" in notes
    assert "plant0: pressure_bar varies" in notes and "is it in another unit?" in notes


def marked(path: Path, test: int) -> None:
    head, *rows = path.read_text().splitlines()
    path.write_text("\n".join([f"{head},test", *(f"{row},{test}" for row in rows)]) + "\n")


FAULTS = {
    "no file": (lambda: None, "absent*.csv", "--data 'absent*.csv': matches no file or folder"),
    "one site": (lambda: None, "plant1.csv", "gives 1 site (plant1): a federation has two or more"),
    "other columns": (
        lambda: Path("plant1.csv").write_text("Strom,pressure_bar,label\n8,4,ok\n"),
        "plant*.csv",
        "plant1.csv: no column 'current_A'; has Strom, pressure_bar, label",
    ),
    "two files at once": (
        lambda: [Path(f"plant{k}.csv").write_text("x,y,label\n8,4,ok\n") for k in (0, 2)],
        "plant*.csv",
        "plant2.csv: no column 'current_A'",
    ),
    "no labels": (lambda: table(Path("plant1.csv"), 1, labels=""), "plant*.csv", "plant1.csv: none of 200 samples"),
    "other labels": (
        lambda: table(Path("plant1.csv"), 1, labels="fine broken"),
        "plant*.csv",
        "is none of ok, worn",
    ),
    "too few rows": (
        lambda: table(Path("plant1.csv"), 1, rows=9),
        "plant*.csv",
        "site 'plant1': 9 samples with a label of 9, expected 15 or more",
    ),
    "all for the test": (
        lambda: marked(Path("plant1.csv"), 1),
        "plant*.csv",
        "site 'plant1': 0 samples with a label and test = 0, expected 15",
    ),
    "nothing for the test": (
        lambda: marked(Path("plant1.csv"), 0),
        "plant*.csv",
        "no sample with a label has test = 1",
    ),
    "words for a number": (
        lambda: Path("plant1.csv").write_text("current_A,pressure_bar,label\n8,high,ok\n9,4,ok\n"),
        "plant*.csv",
        "plant1.csv: line 2, column 'pressure_bar': 'high' is not a number",
    ),
}


@pytest.mark.parametrize(("spoil", "data", "words"), FAULTS.values(), ids=FAULTS)
def test_data_that_do_not_fit_are_said_in_words(
    plants: Callable[..., Result], spoil: Callable[[], object], data: str, words: str
) -> None:
    spoil()
    found = plants(data=data)
    assert found.exit_code == 1 and words in found.stderr, found.output
    assert "Traceback" not in found.output and not found.stdout


def test_rows_that_are_not_equally_far_apart_in_time_are_refused(plants: Callable[..., Result]) -> None:
    for k, step in enumerate((1.0, 60.0, 1.0)):
        table(Path(f"plant{k}.csv"), k, rows=400, step_s=step)
    found = plants(model="windows.onnx")
    assert found.exit_code == 1 and "not equally far apart in time: plant1 every 60 s" in found.stderr
    assert plants(model="net.onnx").exit_code == 0  # of a table each row is a sample


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--rules", "medan"], "key 'rules': no rule 'medan'; did you mean 'median'?"),
        (["--compare", "--attacks", "sign_flp"], "key 'attacks': no attack 'sign_flp'; did you mean 'sign_flip'?"),
        (["--training", "{ epoch = 3 }"], "did you mean 'epochs'?"),
        (["--set", "ai4i"], "are of recorded sets"),
        (["--no-trust", "--trust", "{}"], "expected one of them"),
        (["--report", "no/folder/page.html"], "there is no folder"),
        (["--rule", '{ name = "krum", byzantine = 4 }'], "needs 11 sites, there are 3"),
        (["--rule", "fedavg", "--no-trust", "--hostile", "0.4", "--attack", "backdor"], "did you mean 'backdoor'?"),
    ],
)
def test_settings_that_do_not_fit_are_said_in_words(plants: Callable[..., Result], words: list[str], said: str) -> None:
    found = plants(*words)
    assert found.exit_code == 1 and said in found.stderr, found.output


def test_options_of_own_data_need_a_model() -> None:
    for words, said in (
        (["--card", "card.toml"], "need 'model'"),
        (["plant1.csv"], "expected a TOML file with settings"),
        (["--model", "net.onnx"], "key 'data': expected files of your sites"),
    ):
        found = CliRunner().invoke(main, ["simulate", *words])
        assert found.exit_code == 1 and said in found.stderr, found.output
