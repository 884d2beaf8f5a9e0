# SPDX-License-Identifier: Apache-2.0
"""A folder of pictures: each once, whole, in the order of time; hostile ones set aside; killed and started again."""

from __future__ import annotations

import io
import os
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fedge_agent.sources.host import HostedSource, Queue
from fedge_agent.sources.image_journal import Journal
from fedge_agent.sources.image_names import Times
from fedge_agent.sources.images import ImagesConfig, ImagesSource, Watch
from fedge_agent.types import Batch, Reading
from fedge_models.errors import ConfigError, UnreachableError
from fedge_models.system.settings import Positive, Seconds, convert
from PIL import Image
from support.recording_host import RecordingHost
from support.waiting import LONGEST_S


def png(level: int) -> bytes:
    file = io.BytesIO()
    Image.fromarray(np.full((6, 5), level, np.uint8)).save(file, "PNG")
    return file.getvalue()


def level(reading: Reading) -> int:
    """The grey level of a picture that `png` made."""
    assert isinstance(reading.value, np.ndarray)
    return int(reading.value[0, 0])


class Line:
    """A folder and its watch, which reads when the test calls `levels`."""

    def __init__(self, base: Path, tags: tuple[str, ...] = ("*",), **config: Any) -> None:
        self.folder, self.base, self.tags, self.now = base / "in", base, tags, 0.0
        self.folder.mkdir(exist_ok=True)
        self.config = ImagesConfig(self.folder, **{"settle": Seconds(0), **config})
        self.host = RecordingHost(base)
        self._open = ExitStack()
        self.journal = self._open.enter_context(Journal(base / "pictures.sqlite"))
        times = Times(self.config.time_pattern, self.config.time_format)
        self.watch = Watch(self.config, times, tags, self.host, self.journal, lambda: self.now)

    def close(self) -> None:
        """Let go of the journal, as a process that ends."""
        self._open.close()

    def put(self, name: str | bytes, level: int, second: float = 0.0) -> Path:
        path = self.folder / os.fsdecode(name)
        path.write_bytes(png(level))
        os.utime(path, ns=(0, round(second * 1e9)))
        return path

    def levels(self) -> list[int]:
        """Look once and return the levels of the pictures that were handed over since the last time."""
        self.watch.poll()
        found = [level(r) for r in self.host.readings]
        self.host.batches.clear()
        return found


@pytest.fixture
def line(tmp_path: Path) -> Iterator[Line]:
    made = Line(tmp_path)
    yield made
    made.close()


def test_pictures_come_once_in_the_order_of_their_time(line: Line) -> None:
    for name, level, second in (("b.png", 3, 30), ("a.png", 2, 20), ("c.jpg.png", 1, 10)):
        line.put(name, level, second)
    line.watch.poll()
    assert [(r.tag, r.time_ns) for r in line.host.readings] == [("*", 10 * 10**9), ("*", 20 * 10**9), ("*", 30 * 10**9)]
    line.host.batches.clear()
    assert line.levels() == []
    line.put("d.png", 4, 5)
    assert line.levels() == [4] and len(list(line.folder.iterdir())) == 4


def test_unfinished_names_links_and_folders_are_left_alone(line: Line, tmp_path: Path) -> None:
    (tmp_path / "secret.png").write_bytes(png(9))
    (line.folder / "link.png").symlink_to(tmp_path / "secret.png")
    (line.folder / "folder.png").mkdir()
    os.mkfifo(line.folder / "pipe.png")
    for name in ("a.png.part", "b.tmp", ".hidden.png", "c.png~"):
        line.put(name, 1)
    assert line.levels() == [] and not line.host.counts
    (line.folder / "a.png.part").rename(line.folder / "a.png")
    assert line.levels() == [1]


def test_growing_file_is_waited_for(tmp_path: Path) -> None:
    line, whole = Line(tmp_path, settle=Seconds(1)), png(7)
    path = line.folder / "a.png"
    for length in range(0, len(whole), 20):
        path.write_bytes(whole[:length])
        os.utime(path, ns=(0, length))
        line.now += 0.9
        assert line.levels() == []
    path.write_bytes(whole)
    assert line.levels() == []
    line.now += 1.1
    assert line.levels() == [7] and not line.host.counts
    line.close()


def test_file_that_grows_while_it_is_read_is_read_again(line: Line) -> None:
    path, read, looks = line.folder / "a.png", line.watch._read, []
    path.write_bytes(png(7)[:40])

    def growing(name: str, seen: Any) -> Any:
        try:
            return read(name, seen)
        finally:
            looks.append(name)
            path.write_bytes(png(7))

    line.watch._read = growing  # type: ignore[method-assign]
    assert line.levels() == [] and not line.host.counts
    assert line.levels() == [7] and looks == ["a.png", "a.png"]


def test_another_picture_under_the_same_name_is_another_picture(line: Line) -> None:
    line.put("latest.png", 1, 1)
    assert line.levels() == [1]
    line.put("new.tmp", 2, 2).rename(line.folder / "latest.png")
    assert line.levels() == [2] and line.levels() == []


@pytest.mark.parametrize("after", ["keep", "delete", "move"])
def test_what_becomes_of_a_picture_and_never_twice_after_a_restart(tmp_path: Path, after: str) -> None:
    first = Line(tmp_path, after=after)
    first.put("a.png", 1, 1)
    first.put(b"caf\xe9.png", 2, 2)  # a name that is no UTF-8
    assert first.levels() == [1, 2]
    first.close()
    left = {os.fsencode(p.name) for p in first.folder.iterdir() if p.is_file()}
    assert left == ({b"a.png", b"caf\xe9.png"} if after == "keep" else set())
    if after == "move":
        assert (first.folder / "done/a.png").read_bytes() == png(1)
    again = Line(tmp_path, after=after)
    assert again.journal.interrupted() == []
    again.put("b.png", 3, 3)
    assert again.levels() == [3]
    again.close()


def test_killed_between_taking_and_deciding_it_says_which_and_reads_none_twice(tmp_path: Path) -> None:
    line = Line(tmp_path)
    path = line.put("a.png", 1, 1)
    line.watch._put_away = lambda *_: None  # type: ignore[method-assign]  # killed before
    assert line.levels() == [1]
    line.close()
    queue, source = Queue(100), ImagesSource("line", ImagesConfig(line.folder, settle=Seconds(0), poll=Positive(0.01)))
    hosted = HostedSource("line", source, ["*"], queue, tmp_path)
    (tmp_path / "pictures.sqlite").rename(hosted.folder / "pictures.sqlite")
    hosted.start()
    line.put("b.png", 2, 2)
    batch = queue.get(LONGEST_S)
    assert batch is not None and [level(r) for r in batch.readings] == [2] and path.exists()
    assert "'a.png'" in hosted.status()["problems"]["restart"]
    hosted.join(LONGEST_S)
    assert queue.get(0) is None


def test_it_waits_while_the_agent_is_behind(tmp_path: Path) -> None:
    line = Line(tmp_path)
    for i in range(5):
        line.put(f"{i}.png", i, i)
    queue = Queue(100)
    source = ImagesSource("line", ImagesConfig(line.folder, settle=Seconds(0), poll=Positive(0.01), after="delete"))
    hosted = HostedSource("line", source, ["*"], queue, tmp_path)
    hosted.start()
    levels: list[int] = []
    while len(levels) < 5:
        assert len(queue) <= 2
        batch = queue.get(LONGEST_S)
        assert batch is not None
        levels += [level(r) for r in batch.readings]
    hosted.join(LONGEST_S)
    assert levels == [0, 1, 2, 3, 4]
    line.close()


def test_queue_is_bounded_in_bytes_of_pictures() -> None:
    queue, picture = Queue(10_000), np.zeros((1024, 1024), np.uint8)
    for i in range(100):
        queue.put(Batch("cam", [Reading("*", i, picture)], None, 0))
    assert len(queue) == 64 and queue.dropped == 36 and queue.full
    batch = queue.get(0)
    assert batch is not None and batch.readings[0].time_ns == 36 and not queue.full
    queue.put(Batch("cam", [Reading("*", 0, np.zeros((9000, 9000), np.uint8))], None, 0))
    assert len(queue) == 1  # a single one has always room


HOSTILE = {
    "empty": b"",
    "text": b"<html>",
    "cut off": png(3)[:50],
    "bomb": b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR\x00\x00\xff\xff\x00\x00\xff\xff\x08\x00\x00\x00\x00\x9f\xc0\x93\x28",
    "a program": b"\x7fELF" + bytes(100),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_picture_is_set_aside_counted_and_the_others_come(line: Line, name: str) -> None:
    (line.folder / "bad\n.png").write_bytes(HOSTILE[name])
    line.put("good.png", 5)
    assert line.levels() == [5] and line.host.counts == {"pictures rejected": 1}
    assert "'bad\\n.png'" in line.host.problems["rejected"] and str(line.folder) in line.host.problems["rejected"]
    assert (line.folder / "rejected/bad\n.png").read_bytes() == HOSTILE[name]
    assert line.levels() == [] and line.host.counts == {"pictures rejected": 1}


def test_rejected_is_bounded_and_a_folder_that_may_not_be_written_is_no_loop(tmp_path: Path) -> None:
    line = Line(tmp_path, ("*.png",), max_rejected=3)
    for i in range(8):
        (line.folder / f"{i}.png").write_bytes(b"no picture")
    assert line.levels() == [] and line.host.counts["pictures rejected"] == 8
    assert len(list((line.folder / "rejected").iterdir())) == 3
    for path in (line.folder / "rejected").iterdir():
        path.unlink()
    (line.folder / "rejected").rmdir()
    (line.folder / "rejected").write_text("a file in the way")
    (line.folder / "x.png").write_bytes(b"no picture")
    assert line.levels() == [] and line.levels() == [] and line.host.counts["pictures rejected"] == 9
    assert "could not be moved away" in line.host.problems["rejected"] and (line.folder / "x.png").exists()
    line.close()


def test_tags_are_patterns(tmp_path: Path) -> None:
    line = Line(tmp_path, ("cam1_*", "*_top.png"))
    for i, name in enumerate(("cam1_a.png", "cam2_a.png", "cam1_top.png", "cam2_top.png")):
        line.put(name, i, i)
    line.watch.poll()
    assert [(r.tag, level(r)) for r in line.host.readings] == [
        ("cam1_*", 0), ("cam1_*", 2), ("*_top.png", 2), ("*_top.png", 3),
    ]  # fmt: skip
    line.close()


@pytest.mark.parametrize(
    ("pattern", "format_", "name", "seconds"),
    [
        (r"_(\d{8}T\d{6})", "%Y%m%dT%H%M%S", "cam_20260102T030405.png", 1767323045),
        (r"_(\d+)\.", "", "cam_1767323045.png", 1767323045),
        (r"_([\d.]+)\.png", "", "cam_1767323045.25.png", 1767323045.25),
        (r"(\d{4}-\S+)\.png", "", "2026-01-02T03:04:05+01:00.png", 1767319445),
        (r"(.*)\.png", "%Y%m%d%H%M%S%z", "20260102030405+0100.png", 1767319445),
        (r"_(\d+)\.", "", "cam.png", None),
        (r"_(\d+)\.", "%Y%m%d", "cam_99999999.png", None),
        (r"_(\d+)\.", "", "cam_" + 30 * "9" + ".png", None),
    ],
)
def test_time_from_the_name(pattern: str, format_: str, name: str, seconds: float | None) -> None:
    found = Times(pattern, format_).of(name, 5)
    assert found == (None if seconds is None else round(seconds * 10**9))


def test_name_without_a_time_is_set_aside(tmp_path: Path) -> None:
    line = Line(tmp_path, time_pattern=r"_(\d+)\.")
    line.put("cam_5.png", 5)
    line.put("cam.png", 6)
    assert line.levels() == [5] and "does not fit time_pattern" in line.host.problems["rejected"]
    line.close()


@pytest.mark.parametrize(("pattern", "words"), [("(", "not a regular expression"), (r"\d+", "no group")])
def test_pattern_that_cannot_be_used(pattern: str, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        Times(pattern, "")


def test_raw_pixels_from_files(tmp_path: Path) -> None:
    table = {"path": str(tmp_path / "in"), "raw": {"shape": [2, 2]}, "settle": 0}
    line = Line(tmp_path, raw=convert(table, ImagesConfig, "agent.toml").raw)
    (line.folder / "a.raw").write_bytes(bytes([9, 2, 3, 4]))
    (line.folder / "b.raw").write_bytes(bytes([1, 2, 3]))
    assert line.levels() == [9] and "3 bytes, expected 4" in line.host.problems["rejected"]
    line.close()


def test_folder_that_is_not_there_and_what_check_says(tmp_path: Path) -> None:
    source = ImagesSource("line", ImagesConfig(tmp_path / "none", time_pattern=r"_(\d+)"))
    with pytest.raises(UnreachableError, match="none: cannot be read: No such file"):
        source.run(["*"], RecordingHost(tmp_path))
    assert "cannot be read" in source.check(["*"])[0]
    (tmp_path / "none").mkdir()
    assert source.check(["*"]) == []
    (tmp_path / "none/cam.png").write_bytes(png(1))
    assert "time_pattern does not fit 'cam.png'" in source.check(["*"])[0]
    assert (tmp_path / "none/cam.png").exists()
