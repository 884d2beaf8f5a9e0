# SPDX-License-Identifier: Apache-2.0
"""A real agent on a folder of pictures, killed while it works through them: none is decided on twice."""

from __future__ import annotations

import io
import re
import sqlite3
import threading
from collections import Counter
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

import numpy as np
from fedge_models.graph import zoo
from fedge_models.graph.card import Card, Channel, ImageSpec, WindowSpec
from PIL import Image
from support.programs import Programs

COUNT, KILLS = 240, 3
AT_ONCE, BURST = 3, 12  # as a camera goes on; what is there when the agent is killed
CARD = Card(
    "classify",
    (Channel("camera"),),
    WindowSpec(50, 1, 1),
    labels=("sound", "crack"),
    image=ImageSpec(8, 8, mean=(0.5,), std=(0.25,)),
)


def configuration(folder: Path) -> str:
    return f"""
[agent]
name = "gw"
state = "{folder / "gw"}"
[source.line]
type = "images"
path = "{folder / "in"}"
after = "delete"
poll = "20ms"
settle = 0
time_pattern = 'p(\\d+)'
[model.f]
file = "{folder / "model.onnx"}"
training = {{ holdout = 0.0 }}
[asset.strip]
model = "f"
channels.camera = {{ source = "line", tag = "p*.png" }}
"""


def put(folder: Path, numbers: Sequence[int]) -> None:
    rng = np.random.default_rng(list(numbers))
    for i in numbers:
        file = io.BytesIO()
        Image.fromarray(rng.integers(0, 256, (9, 9), dtype=np.uint8)).save(file, "PNG")
        path = folder / "in" / f"p{i}.tmp"
        path.write_bytes(file.getvalue() if i % 40 else b"no picture")
        path.rename(path.with_suffix(".png"))


def test_killed_again_and_again_no_picture_is_decided_on_twice(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "model.onnx").write_bytes(zoo.cnn2d(CARD, (1, 8, 8), (4,)).SerializeToString())
    (tmp_path / "gw.toml").write_text(configuration(tmp_path))
    programs, named, part, pause = Programs(tmp_path), set[str](), COUNT // (KILLS + 1), threading.Event()

    def waiting() -> int:
        """Pictures that are not used yet; those that it says may be lost stay where they are."""
        problems = programs.status("gw")["sources"]["line"]["problems"]
        named.update(re.findall(r"'(p\d+\.png)'", problems.get("restart", "")))
        return len({p.name for p in (tmp_path / "in").glob("*.png")} - named)

    try:
        for kill in range(KILLS + 1):
            numbers = range(kill * part, (kill + 1) * part)
            programs.start("gw")
            for i in range(0, part - BURST, AT_ONCE):
                put(tmp_path, numbers[i : i + AT_ONCE])
                programs.wait(lambda: waiting() <= AT_ONCE, "pictures to be used")
                pause.wait(0.05)
            put(tmp_path, numbers[part - BURST :])
            left = 0 if kill == KILLS else BURST // 2
            programs.wait(lambda: waiting() <= left, "pictures to be used")  # noqa: B023
            assert len(named) <= 2 * kill
            if kill < KILLS:
                programs.kill("gw")
        status = programs.status("gw")
    finally:
        programs.end()
    assert status["assets"]["strip"]["counters"]["not_pictures"] == 0
    assert len(list((tmp_path / "in/rejected").iterdir())) == COUNT // 40
    with closing(sqlite3.connect(tmp_path / "gw/samples.sqlite")) as database:
        stored = Counter(time_ns // 10**9 for (time_ns,) in database.execute("SELECT time_ns FROM samples"))
    assert max(stored.values()) == 1 and stored.keys() <= {i for i in range(COUNT) if i % 40}
    assert len(stored) > COUNT // 2  # samples of the last quarter of a second before a kill are not on disk yet
