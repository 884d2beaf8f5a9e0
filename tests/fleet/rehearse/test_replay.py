# SPDX-License-Identifier: Apache-2.0
"""What a gateway follows in a rehearsal: every value of a recording with its time, its quality and at its time."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest
from fedge_agent.protocols.csv.form import Form
from fedge_agent.sources.image_names import Times
from fedge_agent.sources.registry import build
from fedge_agent.types import Quality
from fedge_fleet.rehearse import pictures, spans, tables
from fedge_fleet.rehearse.feed import Feeder, PictureFeed, TableFeed
from fedge_fleet.rehearse.pictures import Picture
from fedge_fleet.rehearse.tables import HEADER, Recording
from fedge_models.errors import ConfigError, StorageError
from support.recording_host import RecordingHost
from support.waiting import until

S = 1_000_000_000


def written(tmp_path: Path, text: str, tags: list[str], **form: object) -> tuple[tables.Written, list[str]]:
    (tmp_path / "r.csv").write_text(text)
    recording = Recording(tmp_path / "r.csv", Form(**form), 2.0)  # type: ignore[arg-type]
    made = tables.write(recording, tags, tmp_path / "w.csv", 5 * S)
    return made, (tmp_path / "w.csv").read_text().splitlines()


def test_values_keep_their_times_qualities_and_digits(tmp_path: Path) -> None:
    text = (
        "t;a;s;q\n2026-03-01 08:00:01;1,25;stop;bad\n2026-03-01 08:00:00;0,1;go, on;good\n2026-03-01 08:00:02;;;good\n"
    )
    keys = {"time_column": "t", "decimal": ",", "quality_column": "q"}
    made, lines = written(tmp_path, text, ["a", "s"], **keys)
    assert lines[0] == HEADER and made.rows == 6 and made.last_ns - made.first_ns == 2 * S
    at = made.first_ns
    assert lines[1:3] == [f"{at},a,0.1,good", f'{at},s,"go, on",good']
    assert lines[3:5] == [f"{at + S},a,,bad", f"{at + S},s,,bad"]
    assert lines[5:] == [f"{at + 2 * S},a,,bad", f"{at + 2 * S},s,,bad"]


def test_rows_without_times_begin_when_they_are_told(tmp_path: Path) -> None:
    made, lines = written(tmp_path, "a\n1\n2\n", ["a"])
    assert lines[1:] == [f"{5 * S},a,1.0,good", f"{5 * S + S // 2},a,2.0,good"]
    made, _ = written(tmp_path, "t,a\n100,1\n101,2\n", ["a"], time_column="t", time_format="elapsed")
    assert (made.first_ns, made.last_ns) == (5 * S, 6 * S)


def test_a_table_with_a_row_a_value_is_replayed_too(tmp_path: Path) -> None:
    text = "t,tag,v\n2026-03-01T08:00:00,a,1\n2026-03-01T08:00:00,other,9\n2026-03-01T08:00:01,b,2\n"
    _, lines = written(tmp_path, text, ["a", "b"], time_column="t", tag_column="tag", value_column="v")
    assert [line.split(",")[1:3] for line in lines[1:]] == [["a", "1.0"], ["b", "2.0"]]


def test_rows_that_cannot_be_used_are_counted_and_a_table_of_such_is_refused(tmp_path: Path) -> None:
    made, _ = written(tmp_path, "t,a\n2026-03-01T08:00:00,1\nnever,2\n", ["a"], time_column="t")
    assert made.counted == {"column 't': no time": 1}
    with pytest.raises(ConfigError, match=r"no row could be used: 2 column 't': no time"):
        written(tmp_path, "t,a\nx,1\nnever,2\n", ["a"], time_column="t")


def test_an_agent_reads_what_is_replayed(tmp_path: Path) -> None:
    text = "t,a,s\n2026-03-01T08:00:00,0.1,on\n2026-03-01T08:00:01,,off\n2026-03-01T08:00:02,3,\n"
    made, _ = written(tmp_path, text, ["a", "s"], time_column="t")
    feed = TableFeed(tmp_path / "w.csv", tmp_path / "followed.csv", made.first_ns)
    host = RecordingHost(tmp_path)
    source = build("plc", {**tables.SOURCE, "path": str(tmp_path / "followed.csv"), "poll": 0.01}, "here")
    feeder = Feeder([feed], 100.0)
    feeder.start()
    until(lambda: feeder.done)
    feeder.stop()
    reader = threading.Thread(target=source.run, args=(["a", "s"], host))
    reader.start()
    until(lambda: len(host.readings) == made.rows)
    host.stop.set()
    reader.join()
    got = {(r.tag, (r.time_ns - made.first_ns) // S): (r.value, r.quality) for r in host.readings}
    assert got["a", 0] == (0.1, Quality.GOOD) and got["a", 2] == (3.0, Quality.GOOD) and got["s", 1][0] == "off"
    assert got["a", 1][1] is got["s", 2][1] is Quality.BAD


def test_rows_are_appended_when_they_are_due(tmp_path: Path) -> None:
    _, lines = written(tmp_path, "a\n" + "".join(f"{i}\n" for i in range(10)), ["a"])
    feed = TableFeed(tmp_path / "w.csv", tmp_path / "f.csv", 5 * S)
    feed.open()
    for passed, rows in ((0, 1), (S, 3), (S + 1, 3), (4 * S, 9), (60 * S, 10)):
        feed.feed(passed)
        assert (tmp_path / "f.csv").read_text().splitlines() == lines[: rows + 1]
        assert feed.done is (rows == 10)
    feed.close()


def test_a_text_with_a_line_end_stays_one_value(tmp_path: Path) -> None:
    _, _ = written(tmp_path, 't,s\n2026-03-01T08:00:00,"a\nb"\n2026-03-01T08:00:05,c\n', ["s"], time_column="t")
    begin = int((tmp_path / "w.csv").read_text().splitlines()[1].partition(",")[0])
    feed = TableFeed(tmp_path / "w.csv", tmp_path / "f.csv", begin)
    feed.open()
    feed.feed(0)
    assert (tmp_path / "f.csv").read_text().endswith('"a\nb",good\n')
    feed.close()


def folder_of(tmp_path: Path, mtimes: dict[str, float]) -> Path:
    path = tmp_path / "p"
    path.mkdir()
    for name, at in mtimes.items():
        (path / name).write_bytes(name.encode())
        os.utime(path / name, (at, at))
    return path


def test_pictures_come_in_the_order_of_their_times_with_them(tmp_path: Path) -> None:
    path = folder_of(tmp_path, {"b.png": 100.0, "a.png": 102.0, "c.part": 101.0})
    found = pictures.of_folder(path, ["*"], ["*.part"], Times("", ""), False, None)
    assert [p.path.name for p in found.found] == ["b.png", "a.png"] and found.assumed_s is None
    feed = PictureFeed(found.found, tmp_path / "t", 100 * S)
    feed.open()
    feed.feed(S)
    assert [p.name for p in (tmp_path / "t").iterdir()] == ["b.png"] and not feed.done
    feed.feed(2 * S)
    assert feed.done and (tmp_path / "t/a.png").stat().st_mtime_ns == 102 * S
    assert (tmp_path / "t/a.png").read_bytes() == b"a.png"


def test_pictures_with_the_times_of_a_copy_come_one_a_second_by_name(tmp_path: Path) -> None:
    path = folder_of(tmp_path, {"2.png": 100.0, "1.png": 100.0, "3.png": 100.0001})
    found = pictures.of_folder(path, ["*"], [], Times("", ""), False, None)
    assert found.assumed_s == 1.0
    assert found.found == [Picture(100 * S + i * S, path / f"{i + 1}.png") for i in range(3)]


def test_a_folder_without_a_fitting_picture_is_refused(tmp_path: Path) -> None:
    path = folder_of(tmp_path, {"1.png": 100.0})
    with pytest.raises(ConfigError, match=r"no picture fits 'cam2_\*'"):
        pictures.of_folder(path, ["cam2_*"], [], Times("", ""), False, None)


def test_recordings_without_a_time_in_common_begin_together() -> None:
    found = spans.together({"plc": (100, 200), "scada": (150, 300), "cam": (900, 950), "late": (290, 310)})
    assert found == {"plc": 100, "scada": 100, "late": 100, "cam": 900}
    lengths = {"plc": (100 * S, 200 * S), "cam": (900 * S, 950 * S)}
    assert spans.longest_s(lengths, spans.together(lengths)) == 100


@pytest.mark.parametrize("row", ["never,a,1,good\n", "1_000.5,a,2,good\n"])
def test_a_replay_that_stops_says_so(tmp_path: Path, row: str) -> None:
    (tmp_path / "w.csv").write_text(f"{HEADER}\n{row}")
    feeder = Feeder([TableFeed(tmp_path / "w.csv", tmp_path / "followed.csv", 0)], 1.0)
    feeder.start()
    until(lambda: not feeder._thread.is_alive())
    with pytest.raises(StorageError, match="the replay stopped: ValueError: invalid literal"):
        _ = feeder.done
    feeder.stop()
