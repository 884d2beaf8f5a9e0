# SPDX-License-Identifier: Apache-2.0
"""Models tried by hand: data files as samples, and the commands `model show`, `train` and `evaluate`."""

from __future__ import annotations

import gzip
import json
import re
import subprocess
from collections.abc import Callable
from pathlib import Path

import fedge_models
import msgspec
import numpy as np
import pytest
from fedge_agent.config import schema
from fedge_agent.learning.dataset import load
from fedge_agent.protocols.csv.form import Form
from fedge_agent.protocols.csv.snippet import key_lines
from fedge_models.errors import ConfigError, DataError
from fedge_models.graph import zoo
from fedge_models.graph.card import Card, Channel, Derived, WindowSpec
from fedge_models.model import starter
from support.programs import BIN

CHANNELS = (Channel("current", "A"), Channel("pressure", "bar"))
CLASSES = Card("classify", CHANNELS, WindowSpec(10, 10, 5), ("mean", "std"), labels=("ok", "worn"))
TABLE = Card("classify", CHANNELS, WindowSpec(1, 1, 1), labels=("ok", "worn"))
NORMAL = Card("anomaly", CHANNELS, WindowSpec(10, 10, 5), ("mean", "std"))
RNG = np.random.default_rng(3)


def write(path: Path, rows: int = 1000, head: str = "current,pressure,label", worn: str = "worn") -> Path:
    """A machine that is worn in every second hundred of rows."""
    lines = [head]
    for i in range(rows):
        bad = i // 100 % 2
        current, pressure = 5 + 3 * bad + RNG.normal(0, 0.3), 2 + RNG.normal(0, 0.1 + 0.3 * bad)
        lines.append(f"{current:.4f},{pressure:.4f},{worn if bad else 'ok'}")
    text = "\n".join(lines) + "\n"
    path.write_bytes(gzip.compress(text.encode()) if path.suffix == ".gz" else text.encode())
    return path


def run(*command: object, code: int = 0) -> str:
    done = finished(*command, code=code)
    return done.stdout if code == 0 else done.stderr


def said(model: Path, *command: object) -> str:
    """What a command says of a model beside its answer."""
    return "".join(line for line in finished(command[0], model, *command[1:]).stderr.splitlines() if str(model) in line)


def finished(*command: object, code: int = 0) -> subprocess.CompletedProcess[str]:
    done = subprocess.run([BIN / "fedge-agent", *map(str, command)], capture_output=True, text=True, check=False)
    assert done.returncode == code, done.stderr
    return done


def test_windows_features_labels_and_parts(tmp_path: Path) -> None:
    data = load(write(tmp_path / "d.csv.gz"), CLASSES, (4,))
    assert data.x.shape[1:] == (4,) and set(data.y.tolist()) == {-1, 0, 1}
    assert 0.1 < data.test.mean() < 0.3 and data.left_out > 0
    worn, ok = data.x[data.y == 1], data.x[data.y == 0]
    assert worn[:, 0].mean() - ok[:, 0].mean() == pytest.approx(3, abs=0.1)
    assert worn[:, 3].mean() > 2 * ok[:, 3].mean()


def test_no_window_spans_two_groups_and_the_test_column_is_followed(tmp_path: Path) -> None:
    lines = ["current,pressure,label,group,test"]
    lines += [f"{i},{i},0,{'a' if i < 35 else 'b'},{int(i >= 35)}" for i in range(70)]
    (tmp_path / "d.csv").write_text("\n".join(lines))
    data = load(tmp_path / "d.csv", CLASSES, (4,))
    assert data.test.tolist() == [False] * 6 + [True] * 6
    np.testing.assert_allclose(data.x[:, 0], [4.5 + 5 * i for i in range(6)] + [39.5 + 5 * i for i in range(6)])


def test_gaps_are_bridged_or_left_out(tmp_path: Path) -> None:
    lines = ["current,pressure", *(f"{'' if i in (3, *range(20, 30)) else i},1" for i in range(40))]
    (tmp_path / "d.csv").write_text("\n".join(lines))
    data = load(tmp_path / "d.csv", NORMAL, (4,))
    assert data.x[0, 0] == pytest.approx(4.5) and data.left_out >= 3 and np.isfinite(data.x).all()


@pytest.mark.parametrize("channel", ["kind", "Kind of part"])
def test_words_are_told_the_formula_that_makes_columns_of_them(channel: str, tmp_path: Path) -> None:
    """The formula that is printed is one that a card takes, and gives 0 and 1."""
    (tmp_path / "d.csv").write_text(f"{channel},label\nL,ok\nM,worn\n")
    plain = Card("classify", (Channel(channel),), WindowSpec(1, 1, 1), labels=("ok", "worn"))
    with pytest.raises(DataError, match=f"line 2, column '{channel}': 'L' is not a number; .*input = false") as refusal:
        load(tmp_path / "d.csv", plain, (1, 1))
    name, formula = re.findall(r'derive = \{ (\w+) = "(.*?)" \}', str(refusal.value))[0]
    (tmp_path / "d.csv").write_text(f"{channel},label\n1,ok\n2,worn\n")
    card = msgspec.structs.replace(plain, channels=(Channel(channel, input=False),), derive={name: formula})
    assert load(tmp_path / "d.csv", card, (1, 1)).x.ravel().tolist() == [1, 0]


@pytest.mark.parametrize(
    ("scaling", "level", "said"), [("file", 1.7e9, True), ("file", 17.0, False), (None, 1.7e9, False)]
)
def test_large_values_that_a_network_takes_in_float32_are_noted(
    scaling: str | None, level: float, said: bool, tmp_path: Path
) -> None:
    card = msgspec.structs.replace(
        NORMAL, task="classify", labels=("ok", "bad"), window=WindowSpec(1, 1, 1), features=(), scaling=scaling
    )
    rows = np.random.default_rng(0).normal(size=(60, 2, 1))
    rows[:, 1] += level
    np.savez(tmp_path / "d.npz", x=rows, y=np.arange(60) % 2)
    notes = load(tmp_path / "d.npz", card, (2, 1)).notes
    expected = "values of pressure lie so far from 0 that float32, in which the file scales them itself (scaling"
    assert any(n.startswith(expected) for n in notes) is said and len(notes) == said


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("current,label\n1,ok\n", r"no column 'pressure'.*current"),
        (
            "current,pressure,label\n1,2,ok\n1,x,ok\n",
            r"line 3, column 'pressure': 'x' is not a number; a channel is a number\. For categories",
        ),
        ("current,pressure,label\n1,2,broken\n", r"line 2, column 'label': 'broken'"),
        (
            "current,pressure,label\n1,2,7\n",
            r"line 2, column 'label': '7' is none of ok, worn, nor a number from 0 to 1",
        ),
        ("current,pressure,label\n1,2,1.5\n", r"'1.5' is none of ok, worn"),
        ("current,pressure,label\n1,2,nan\n", r"'nan' is none of ok, worn"),
        ("current,pressure,label\n1,2,\n1,2,wornn\n1,2,Wornn\n", r"line 3.*'worn'\? \(rows like it: 2 of 3"),
        ("current,pressure,label\n1,2\n", r"line 2 has 2 columns, the header 3"),
        ("", "is empty"),
        ("current,pressure,label\n1,2,ok\n1,\0,ok\n", "row 3: not CSV"),
        ("current,pressure,label\n1,2,ok\n1,2\r3,ok\n", "row 3: not CSV"),
        ('current,pressure,label\n1,2,"ok\n1,2,ok\n', "row 2: not CSV"),
        (f"current,pressure,label\n1,2,{'x' * 200_000}\n", "row 2: not CSV"),
        ("current,pressure,label\n1,2,caf\udce9\n", "'café' is none of ok, worn"),
    ],
    ids=lambda v: v[-20:],
)
def test_wrong_file_says_where(text: str, words: str, tmp_path: Path) -> None:
    (tmp_path / "d.csv").write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(DataError, match=words):
        load(tmp_path / "d.csv", TABLE, (2, 1))


def test_a_table_without_a_whole_window_says_so(tmp_path: Path) -> None:
    for rows, expected in ((0, "0 rows have no whole window"), (1, "1 rows have no whole window")):
        (tmp_path / "d.csv").write_text("current,pressure\n" + "1,2\n" * rows)
        with pytest.raises(DataError, match=f"{expected} of {NORMAL.window.length} samples"):
            load(tmp_path / "d.csv", NORMAL, (4,))
    np.savez(tmp_path / "d.npz", x=np.zeros((0, 4)))
    with pytest.raises(DataError, match="has no samples"):
        load(tmp_path / "d.npz", CLASSES, (4,))


def test_a_row_a_value_is_put_on_the_cards_grid_and_a_value_holds_for_three_samples(tmp_path: Path) -> None:
    rows = [f"24.11.2026 08:00:{i / 10:04.1f};{tag};{i},5" for i in range(100) for tag in ("current", "pressure")]
    del rows[61:75:2]  # seven values of pressure
    text = "Zeit;Tag;Wert\n" + "\n".join(reversed(rows)).replace(".5;", ",5;") + "\n"
    (tmp_path / "d.csv").write_text(re.sub(r"(:\d\d)\.(\d;)", r"\1,\2", text))
    data = load(tmp_path / "d.csv", NORMAL, (4,))
    assert data.form is not None and data.form.tag_column == "Tag" and data.form.decimal == ","
    assert data.x[0, 0] == pytest.approx(5.0) and data.left_out > 0  # mean of 0.5 to 9.5
    with pytest.raises(DataError, match=r"no tag 'pressure' in column 'Tag'; has current"):
        (tmp_path / "d.csv").write_text("Zeit;Tag;Wert\n" + "2026-11-24 08:00:00;current;1\n" * 9)
        load(tmp_path / "d.csv", NORMAL, (4,), form=Form(time_column="Zeit", tag_column="Tag", value_column="Wert"))


@pytest.mark.parametrize("head", ["current,pressure,label", "time,current,pressure,label"])
def test_a_channel_of_the_card_is_no_column_of_times(head: str, tmp_path: Path) -> None:
    """Its values, such as a counter's, may be near Unix times of today."""
    names = head.split(",")
    rows = [
        {"time": 1_790_000_000 + i, "current": f"{1_700_000_000 + i}.3", "pressure": i % 3, "label": "ok"}
        for i in range(60)
    ]
    (tmp_path / "d.csv").write_text("\n".join([head, *(",".join(str(row[n]) for n in names) for row in rows)]))
    data = load(tmp_path / "d.csv", TABLE, (2, 1))
    assert data.form is not None and data.form.time_column in ("", "time") and data.form.date_column == ""
    np.testing.assert_allclose(data.x[:, 0, 0], 1.7e9 + np.arange(60), atol=128)
    assert key_lines(data.form) == [] or data.form.time_column == "time"


def test_workbook_with_markers_is_read_like_a_table(tmp_path: Path) -> None:
    openpyxl = pytest.importorskip("openpyxl")
    book = openpyxl.Workbook()
    book.active.append(["Report of line 3"])
    book.active.append(["current", "pressure", "label"])
    for i in range(60):
        book.active.append([i + 0.5, "#N/A" if i == 7 else 2, "ok" if i < 40 else "worn"])
    book.save(tmp_path / "d.xlsx")
    data = load(tmp_path / "d.xlsx", CLASSES, (4,))
    assert data.form is not None and data.form.skip_rows == 1
    assert data.x[0, 0] == pytest.approx(5.0) and {*data.y.tolist()} >= {0, 1}


def test_npz_is_checked_against_the_model(tmp_path: Path) -> None:
    np.savez(tmp_path / "d.npz", x=np.zeros((50, 4)), y=np.arange(50) % 2)
    data = load(tmp_path / "d.npz", CLASSES, (4,))
    assert data.test.sum() == 10 and data.x.dtype == np.float32
    with pytest.raises(DataError, match=r"shape \(4,\), the model expects \(5,\)"):
        load(tmp_path / "d.npz", CLASSES, (5,))
    np.savez(tmp_path / "o.npz", x=np.array([object()]))
    with pytest.raises(DataError, match=r"o\.npz"):
        load(tmp_path / "o.npz", CLASSES, (4,))
    np.savez(tmp_path / "s.npz", x=np.zeros((5, 4)), y=np.zeros(4))
    with pytest.raises(DataError, match="'y' has 4 rows, 'x' has 5"):
        load(tmp_path / "s.npz", CLASSES, (4,))


def test_damaged_archives_say_so(tmp_path: Path) -> None:
    packed = bytearray(gzip.compress(b"current,pressure\n" + b"".join(b"%d,%d\n" % (i, i * i) for i in range(2000))))
    packed[len(packed) // 2 : len(packed) // 2 + 40] = b"\xff" * 40
    (tmp_path / "d.csv.gz").write_bytes(packed)
    (tmp_path / "text.npz").write_text("x")
    with (tmp_path / "array.npz").open("wb") as file:
        np.save(file, np.zeros((5, 4)))
    for name in ("d.csv.gz", "text.npz", "array.npz"):
        with pytest.raises(DataError, match=name):
            load(tmp_path / name, CLASSES, (4,))


def test_columns_of_a_file_with_a_byte_order_mark(tmp_path: Path) -> None:
    (tmp_path / "d.csv").write_text("current,pressure\n" + "1,2\n" * 40, encoding="utf-8-sig")
    assert len(load(tmp_path / "d.csv", NORMAL, (4,)).x)


def test_model_is_shown_trained_and_evaluated_by_hand(tmp_path: Path) -> None:
    model, out = tmp_path / "m.onnx", tmp_path / "trained.onnx"
    model.write_bytes(zoo.mlp(CLASSES, 4, (8,)).SerializeToString())
    data = write(tmp_path / "d.csv")
    shown = json.loads(run("model", "show", model, "--json"))
    assert shown["trainable_parameters"] == 4 * 8 + 8 + 8 * 2 + 2 and shown["samples_per_s"] > 100
    assert 0 < shown["training_mib"] < shown["process_mib"]
    assert "Gemm 2" in run("model", "show", model)
    figures = json.loads(run("train", model, "--data", data, "--out", out, "--learning-rate", "0.01", "--json"))
    assert figures["after"]["macro_f1"] > 0.95 > figures["before"]["macro_f1"]
    again = json.loads(run("evaluate", out, "--data", data, "--scale-from", data, "--json"))
    assert again["figures"]["macro_f1"] > 0.95
    assert "macro_f1" in run("evaluate", out, "--data", data)


def marked(path: Path, test: Callable[[int], str]) -> Path:
    """A table of 200 rows whose first half is around 5, the other around 50; every tenth current lacks."""
    lines = ["current,pressure,label,test"]
    for i in range(200):
        lines.append(f"{'' if i % 10 == 0 else 5 + 45 * (i >= 100) + i % 7},{i % 3},{('ok', 'worn')[i % 2]},{test(i)}")
    path.write_text("\n".join(lines) + "\n")
    return path


def test_evaluate_judges_the_test_rows_by_the_statistics_of_the_others(tmp_path: Path) -> None:
    model = tmp_path / "m.onnx"
    starter(TABLE, seed=1).save(model)
    data = marked(tmp_path / "d.csv", lambda i: str(int(i >= 100)))
    text = run("evaluate", model, "--data", data)
    assert f"{data}: 90 samples with test = 1, 20 left out\n" in text
    assert f"\nstandardised by 90 samples with test = 0 of {data}\n" in text
    found = json.loads(run("evaluate", model, "--data", data, "--json"))
    counts = {"samples": 90, "unlabelled": 0, "standardised_by": 90, "left_out": 20, "undefined": 0}
    assert {k: v for k, v in found.items() if k != "figures"} == counts
    rows, by_hand = load(data, TABLE, (2, 1), hold_back=False), fedge_models.load(model)
    by_hand.fit_scale(rows.x[:90])
    assert found["figures"]["loss"] == pytest.approx(by_hand.evaluate(rows.x[90:], rows.y[90:])["loss"], rel=1e-5)
    other = marked(tmp_path / "other.csv", lambda i: str(int(i < 100)))
    text = run("evaluate", model, "--data", data, "--scale-from", other)
    assert f"standardised by 90 samples with test = 0 of {other}\n" in text


def test_evaluate_judges_all_rows_where_none_is_marked(tmp_path: Path) -> None:
    model, data = tmp_path / "m.onnx", marked(tmp_path / "d.csv", str)
    starter(TABLE, seed=1).save(model)
    data.write_text(data.read_text().replace(",test", ",row").replace("worn,1\n", ",1\n"))
    text = run("evaluate", model, "--data", data)
    assert f"{data}: 179 samples, 1 without a label, 20 left out\nstandardised by 180 samples of {data}\n" in text
    none = marked(tmp_path / "none.csv", lambda i: "0")
    assert "none.csv: no sample has test = 1; leave out the column" in run("evaluate", model, "--data", none, code=1)
    every = marked(tmp_path / "every.csv", lambda i: "1")
    text = run("evaluate", model, "--data", every)
    assert f"180 samples with test = 1, 20 left out\nstandardised by 180 samples of {every}\n" in text


def test_evaluate_needs_a_normal_sample_to_standardise_by(tmp_path: Path) -> None:
    model, data = tmp_path / "m.onnx", tmp_path / "d.csv"
    starter(msgspec.structs.replace(NORMAL, features=()), seed=1).save(model)
    data.write_text("current,pressure,label\n" + "1,2,anomaly\n3,2,anomaly\n" * 50)
    assert f"{data}: every sample to standardise by is an anomaly" in run("evaluate", model, "--data", data, code=1)


def test_evaluate_leaves_out_no_window_at_a_border_that_nobody_drew(tmp_path: Path) -> None:
    data = write(tmp_path / "d.csv")
    assert load(data, CLASSES, (4,)).left_out > 0
    found = load(data, CLASSES, (4,), hold_back=False)
    assert (found.left_out, len(found.x)) == (0, 199) and not found.test.any() and not found.marked


def test_how_each_channel_enters_and_in_which_order_is_shown(tmp_path: Path) -> None:
    channels = (Channel("a", "K", centre=300.0, scale=2.0), Channel("b", input=False), Channel("c", condition=5.0))
    power, hidden = Derived("a * b", "W", centre=0.0, scale=1.0), Derived("b + 1", input=False)
    derive: dict[str, str | Derived] = {"top": "max(a)", "p": power, "h": hidden, "q": "h * 2"}
    card = Card("anomaly", channels, WindowSpec(1, 8, 8), derive=derive)
    model = tmp_path / "m.onnx"
    starter(card).save(model)
    shown = json.loads(run("model", "show", model, "--json"))
    assert shown["channels"] == {"a": "K (centre 300, scale 2)", "b": "(not in the input)", "c": "(condition 5)"}
    assert shown["derived"]["p"] == "a * b (W, centre 0, scale 1)"
    assert shown["derived"]["h"] == "b + 1 (not in the input)" and shown["derived"]["q"] == "h * 2"
    assert shown["input_order"] == ["a", "c", "p", "q", "top"] and shown["scaling"] == "site"
    assert re.search(r"^input_order +a, c, p, q, top$", run("model", "show", model), re.M)


def test_what_was_changed_in_a_file_is_said_when_it_is_taken_in_and_shown_always(tmp_path: Path) -> None:
    raw, out, data = tmp_path / "raw.onnx", tmp_path / "out.onnx", write(tmp_path / "d.csv")
    model = zoo.mlp(CLASSES, 4, (8,))
    del model.opset_import[:]
    model.opset_import.add(version=11)
    raw.write_bytes(model.SerializeToString())
    assert "converted: opset 11" in said(raw, "train", "--data", data, "--out", out, "--epochs", "1")
    assert said(out, "evaluate", "--data", data) == "" and "converted: opset 11" in run("model", "show", out)


def test_text_from_a_file_is_shown_on_one_line(tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    path.write_bytes(zoo.mlp(msgspec.structs.replace(CLASSES, description="a\nPROBLEM \x1b[2J"), 4).SerializeToString())
    shown = run("model", "show", path)
    assert r"a\nPROBLEM \x1b[2J" in shown and "\nPROBLEM" not in shown


def test_what_stays_at_a_site_is_shown_and_a_pattern_of_nothing_is_refused(tmp_path: Path) -> None:
    for name, local in (("right", "dense1.*"), ("wrong", "dense0.*, dnese1.*")):
        card = msgspec.structs.replace(CLASSES, local=local)
        (tmp_path / f"{name}.onnx").write_bytes(zoo.mlp(card, 4, (8,)).SerializeToString())
    assert re.search(r"^local +dense1.weight 8, 2, dense1.bias 2$", run("model", "show", tmp_path / "right.onnx"), re.M)
    data = write(tmp_path / "d.csv")
    for command in (("model", "show"), ("train", "--data", data), ("evaluate", "--data", data)):
        assert "wrong.onnx: card: local lists 'dnese1.*'" in run(*command, tmp_path / "wrong.onnx", code=1)


def test_anomaly_model_learns_without_labels_and_is_evaluated_by_them(tmp_path: Path) -> None:
    model = tmp_path / "m.onnx"
    model.write_bytes(zoo.autoencoder(NORMAL, 4, (2,)).SerializeToString())
    data = write(tmp_path / "d.csv", 3000, "current,pressure,fault", "anomaly")
    data.write_text(data.read_text().replace("ok", "normal"))
    how = ("--learning-rate", "0.01", "--epochs", "40")
    figures = json.loads(run("train", model, "--data", data, "--label", "fault", *how, "--json"))
    assert figures["after"]["loss"] < figures["before"]["loss"] and figures["after"]["auroc"] > 0.9


def test_mistakes_are_one_line(tmp_path: Path) -> None:
    (tmp_path / "m.onnx").write_bytes(b"no model")
    for command in (("model", "show"), ("evaluate", "--data", write(tmp_path / "d.csv"))):
        message = run(*command, tmp_path / "m.onnx", code=1)
        assert "m.onnx" in message and len(message.splitlines()) == 1
    (tmp_path / "m.onnx").write_bytes(zoo.mlp(CLASSES, 4, (8,)).SerializeToString())
    message = run("train", tmp_path / "m.onnx", "--data", tmp_path / "d.csv", "--label", "lable", code=1)
    assert "no column 'lable'; has current, pressure, label" in message


@pytest.mark.parametrize(
    ("option", "words"),
    [
        ("--optimizer=foo", "'foo' is not one of 'sgd', 'adam', 'adamw'"),
        ("--batch=0", "0 is not in the range x>=1"),
        ("--epochs=-1", "-1 is not in the range x>=0"),
        ("--learning-rate=nan", "learning_rate nan: expected 0 or more"),
        ("--seed=-1", "-1 is not in the range x>=0"),
    ],
)
def test_training_options_outside_their_bounds_are_refused(option: str, words: str, tmp_path: Path) -> None:
    model = tmp_path / "m.onnx"
    model.write_bytes(zoo.mlp(CLASSES, 4).SerializeToString())
    shown = run("train", model, "--data", write(tmp_path / "d.csv"), option, code=2)
    assert words in shown and "Traceback" not in shown


def test_a_configuration_with_an_unknown_optimizer_names_the_choices(tmp_path: Path) -> None:
    file = tmp_path / "agent.toml"
    file.write_text('[agent]\nname = "g"\nstate = "s"\n[model.m]\ntraining = { optimizer = "foo" }\n')
    with pytest.raises(
        ConfigError, match=r"agent.toml: key 'model.m.training': optimizer 'foo': expected one of sgd, "
    ):
        schema.load(file)
