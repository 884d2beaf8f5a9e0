# SPDX-License-Identifier: Apache-2.0
"""A folder of pictures as recorded data: labels by sub-folders or by a table, and nothing lost without a word."""

from __future__ import annotations

from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from fedge_agent.cli.main import main
from fedge_agent.learning.dataset import Dataset, load
from fedge_agent.learning.picture_folder import natural
from fedge_agent.windows.pictures import decode, prepare
from fedge_models.errors import DataError
from fedge_models.graph import zoo
from fedge_models.graph.card import Card, Channel, ImageSpec, Target, Task, WindowSpec
from PIL import Image

SPEC = ImageSpec(8, 8, "rgb", crop="square")


def card(task: Task = "classify", **keys: Any) -> Card:
    labels = ("sound", "crack", "dirt") if task in ("classify", "multilabel") else ()
    return Card(task, (Channel("camera"),), WindowSpec(1, 1, 1), labels=labels, image=SPEC, **keys)


def put(path: Path, level: int = 0) -> Path:
    """A picture of the camera, not of the size of the card: grey where its number is even."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(level).integers(0, 256, (12, 15, 3), dtype=np.uint8)
    Image.fromarray(pixels[..., 0] if level % 2 == 0 else pixels).save(path)
    return path


def read(folder: Path, made: Card, *label: str) -> Dataset:
    return load(folder, made, SPEC.shape, label)


def test_sub_folders_name_the_labels_and_pictures_are_those_of_the_gateway(tmp_path: Path) -> None:
    names = ["sound/p1.png", "Crack/deep/p2.jpg", "2/p3.JPEG", "p4.png", ".hidden/p5.png", "sound/._p1.png"]
    paths = [put(tmp_path / name, i) for i, name in enumerate(names)]
    (tmp_path / "sound/notes.txt").write_text("of the night shift")
    found = read(tmp_path, card())
    order = [2, 1, 3, 0]  # 2, Crack, p4, sound
    expected = [prepare(decode(paths[i].read_bytes()), SPEC) for i in order]
    assert found.x.dtype == np.uint8 and (found.x == np.array(expected)).all()
    assert found.y.tolist() == [2, 1, -1, 0] and not found.marked
    assert found.notes == ("not read: 1 file, no PNG or JPEG by name (.txt: 1)",)


def test_names_are_in_the_order_that_a_camera_counts() -> None:
    names = ["img10.png", "img2.png", "b/img1.png", "a/img1.png"]
    found = sorted(names, key=lambda name: natural(PurePosixPath(name)))
    assert found == [
        "a/img1.png",
        "b/img1.png",
        "img2.png",
        "img10.png",
    ]


def test_a_fifth_of_each_label_is_held_back_and_the_same_each_time(tmp_path: Path) -> None:
    for i in range(30):
        put(tmp_path / ("crack" if i < 10 else "sound") / f"{i}.png", i)
    found = read(tmp_path, card())
    assert [int(found.test[found.y == k].sum()) for k in (0, 1)] == [4, 2]
    assert (found.test == read(tmp_path, card()).test).all()
    assert found.notes == ("no picture shows dirt",)
    assert not load(tmp_path, card(), SPEC.shape, hold_back=False).test.any()


@pytest.mark.parametrize("name", ["test", "val"])
def test_folder_parted_for_the_evaluation(name: str, tmp_path: Path) -> None:
    """As data sets of pictures are given: what lies beside the two parts (masks) is no picture to learn from."""
    for i, path in enumerate(("train/sound/a", "train/crack/b", f"{name}/sound/c", f"{name}/dirt/d", "truth/crack/e")):
        put(tmp_path / f"{path}.png", i)
    found = read(tmp_path, card())
    both = zip(found.y.tolist(), found.test.tolist(), strict=True)
    assert found.marked and sorted(both) == [(0, False), (0, True), (1, False), (2, True)]
    assert found.notes == ("not read: 1 picture in truth: 1",)


def test_everything_beside_what_is_normal_is_an_anomaly(tmp_path: Path) -> None:
    for i, path in enumerate(("train/good/a", "test/good/b", "test/broken/c", "test/glue/d", "test/glue/e")):
        put(tmp_path / f"{path}.png", i)
    found = read(tmp_path, card("anomaly"))
    assert found.y.tolist() == [1, 1, 1, 0, 0] and found.test.tolist() == [True] * 4 + [False]
    assert found.notes == ("count as anomalies: glue: 2, broken: 1",)
    put(tmp_path / "night/a.png")
    put(tmp_path / "night/b.png", 3)
    alone = read(tmp_path / "night", card("anomaly"))
    assert alone.y.tolist() == [-1, -1] and "no sub-folders with the names of labels" in alone.lacking


def test_table_names_labels_targets_and_what_is_for_the_test(tmp_path: Path) -> None:
    for i in range(4):
        put(tmp_path / f"shift/{i}.png", i)
    table = tmp_path / "labels.csv"
    table.write_text("file;label;test\nshift\\0.png;crack;1\n./shift/2.png;sound;0\nshift/3.png;;\nshift/9.png;dirt;\n")
    found = read(tmp_path, card())
    assert found.y.tolist() == [1, -1, 0, -1] and found.test.tolist() == [True, False, False, False]
    assert found.notes == (
        "labels.csv names 1 pictures that are not there; the first, line 5: 'shift/9.png'",
        "1 pictures are not in labels.csv; the first, 'shift/1.png'",
    )
    table.write_text("file,wear,life,what\nshift/0.png,0.5,12,sound;dirt\nshift/1.png,1.5,,normal\n")
    wear = read(tmp_path, card("regress", targets=(Target("wear"), Target("life"))))
    np.testing.assert_array_equal(wear.y, [[0.5, 12], [1.5, np.nan], [np.nan] * 2, [np.nan] * 2])
    several = card("multilabel")
    table.write_text(table.read_text().replace(",sound;dirt", ',"sound;dirt"'))
    y = read(tmp_path, several, "what").y
    np.testing.assert_array_equal(y, [[1, 0, 1], [0, 0, 0], [np.nan] * 3, [np.nan] * 3])


def test_sub_folders_of_several_labels_and_of_a_number(tmp_path: Path) -> None:
    put(tmp_path / "several/sound;dirt/a.png")
    put(tmp_path / "several/normal/b.png")
    assert read(tmp_path / "several", card("multilabel")).y.tolist() == [[0, 0, 0], [1, 0, 1]]
    put(tmp_path / "wear/0.25/a.png")
    assert read(tmp_path / "wear", card("regress", targets=(Target("wear"),))).y.tolist() == [[0.25]]


def test_damaged_pictures_are_left_out_and_counted_as_on_the_gateway(tmp_path: Path) -> None:
    for i in range(3):
        put(tmp_path / f"sound/{i}.png", i)
    whole = (tmp_path / "sound/1.png").read_bytes()
    (tmp_path / "sound/1.png").write_bytes(whole[:60])
    found = read(tmp_path, card())
    assert len(found.x) == len(found.y) == 2 and found.left_out == 1
    assert any("not decoded, and left out: 1 picture; the first, sound/1.png: cut off" in n for n in found.notes)
    (tmp_path / "sound/0.png").write_bytes(b"GIF89a")
    (tmp_path / "sound/2.png").write_bytes(b"")
    with pytest.raises(DataError, match=r"none of 3 pictures can be decoded; the first, sound/0.png: no PNG or JPEG"):
        read(tmp_path, card())


def test_links_are_followed_and_a_circle_of_them_ends(tmp_path: Path) -> None:
    put(tmp_path / "elsewhere/a.png")
    data = tmp_path / "data"
    data.mkdir()
    (data / "crack").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "elsewhere/back").symlink_to(data)
    assert read(data, card()).y.tolist() == [1]


@pytest.mark.parametrize(
    ("names", "table", "label", "words"),
    [
        (["crak/a.png", "sound/b.png"], "", "", "pictures lie in crak: 1; expected sound, crack, dirt, or a table"),
        (["crak/a.png"], "", "", "did you mean 'crack'?"),
        (["a.bmp", "b.bmp"], "", "", r"has no PNG or JPEG \(.bmp: 2\); expected files named .png, .jpg, .jpeg"),
        ([], "", "", "has no PNG or JPEG; expected"),
        (["sound/a.png"], "", "kind", "has no labels.csv, which --label and --form are about"),
        (["a.png"], "name,label\na.png,sound\n", "", "no column 'file', the path of each picture; has name, label"),
        (["a.png"], "file,label\nb.png,sound\n", "", "names none of the 1 pictures, such as 'a.png'"),
        (["a.png"], "file,label\na.png,sound\n./a.png,crack\n", "", "line 3: './a.png' stands in line 2 already"),
        (["a.png"], "file,label\na.png,crak\n", "", "line 2, column 'label': 'crak' is none of sound, crack, dirt"),
    ],
    ids=lambda v: str(v)[:24],
)  # fmt: skip
def test_folder_that_does_not_fit_is_refused(
    names: list[str], table: str, label: str, words: str, tmp_path: Path
) -> None:
    for name in names:
        put(tmp_path / name)
    if table:
        (tmp_path / "labels.csv").write_text(table)
    with pytest.raises(DataError, match=words):
        read(tmp_path, card(), *([label] if label else []))


def test_anomalies_need_to_know_what_is_normal(tmp_path: Path) -> None:
    put(tmp_path / "broken/a.png")
    with pytest.raises(DataError, match="expected a sub-folder normal, good, ok and others with anomalies, or a table"):
        read(tmp_path, card("anomaly"))
    plain = Card("classify", (Channel("camera"),), WindowSpec(1, 4, 4), labels=("sound", "crack"))
    with pytest.raises(DataError, match=r"is a folder, which is read for its pictures; the model takes none"):
        load(tmp_path, plain, (1, 4))


def test_command_trains_and_evaluates_by_a_folder(tmp_path: Path) -> None:
    for i in range(60):
        pixels = np.random.default_rng(i).integers(0, 90, (12, 15), dtype=np.uint8)
        pixels[:, 7 : 7 + 2 * (i % 2)] = 255
        (tmp_path / "data" / ("sound", "crack")[i % 2]).mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(tmp_path / "data" / ("sound", "crack")[i % 2] / f"{i}.png")
    made = Card("classify", (Channel("camera"),), WindowSpec(1, 1, 1), labels=("sound", "crack"), image=SPEC)
    (tmp_path / "m.onnx").write_bytes(zoo.cnn2d(made, SPEC.shape, (4, 8)).SerializeToString())
    data, out = str(tmp_path / "data"), str(tmp_path / "out.onnx")
    how = ["--epochs", "20", "--learning-rate", "0.02", "--out", out]
    trained = CliRunner().invoke(main, ["train", str(tmp_path / "m.onnx"), "--data", data, *how])
    assert trained.exit_code == 0 and "48 samples to train on, 12 to evaluate with, 0 left out" in trained.output
    put(tmp_path / "other/sound/1.png")
    judged = CliRunner().invoke(main, ["evaluate", out, "--data", str(tmp_path / "other"), "--scale-from", data])
    assert judged.exit_code == 0 and f"standardised by 60 samples of {data}" in judged.output, judged.output
    same = CliRunner().invoke(main, ["evaluate", out, "--data", data, "--json"])
    assert '"accuracy":1.0' in same.output, same.output
