# SPDX-License-Identifier: Apache-2.0
"""Files in other forms than plain CSV: what `check` refuses, what is counted while running, and what is read."""

from __future__ import annotations

import gzip
import math
import time
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from fedge_agent.protocols.csv import lines
from fedge_agent.protocols.csv.guess import understand
from fedge_agent.sources import files_replay
from fedge_agent.sources.files import FilesSource
from fedge_agent.sources.files_config import FilesConfig
from fedge_agent.types import Quality
from fedge_models.errors import ConfigError, UnreachableError
from fedge_models.system.settings import Seconds
from support.recording_host import RecordingHost

S = 10**9
BEGIN = datetime(2026, 11, 24, 8)


def source(path: Path, **keys: Any) -> FilesSource:
    return FilesSource("f", FilesConfig(path, **keys))


def tail(path: Path, **keys: Any) -> FilesSource:
    return source(path, tail=True, start="begin", poll=Seconds(0), **keys)


def look(made: FilesSource, tags: list[str], host: RecordingHost) -> None:
    """Read what is there."""
    host.stop.clear()
    host.stop.wait = lambda timeout=None: host.stop.set() or True  # type: ignore[func-returns-value,method-assign]
    made.run(tags, host)


def follow(path: Path, tags: list[str], host: RecordingHost | None = None, **keys: Any) -> RecordingHost:
    """What one start reads of what is there."""
    host = host or RecordingHost(path.parent)
    look(tail(path, **keys), tags, host)
    return host


def replayed(path: Path, tags: list[str], **keys: Any) -> RecordingHost:
    host = RecordingHost(path.parent)
    source(path, speed=1e9, **keys).run(tags, host)
    return host


def values(host: RecordingHost, tag: str) -> list[Any]:
    return [None if r.quality is Quality.BAD else r.value for r in host.readings if r.tag == tag]


GERMAN = "Zeit;temp;press\n" + "".join(f"24.11.2026 08:00:{i:02},000;20,{i};1,5\n" for i in range(20))
CHECKED: dict[str, tuple[str, dict[str, Any], str]] = {
    "time in another form": (
        GERMAN, {"time_column": "Zeit"},
        "row 2, column 'Zeit': '24.11.2026 08:00:00,000' is no time; say time_format = \"%d.%m.%Y %H:%M:%S,%f\""),
    "decimal comma": (GERMAN, {"decimal": "."}, "row 2, column 'temp': '20,0' is not a number; say decimal = \",\""),
    "thousands": ("time,temp,press\n2026-11-24 08:00:00,20,\"1.234,5\"\n", {"time_column": "time"},
                  "row 2, column 'press': '1.234,5' is not a number; say decimal = \",\", thousands = \".\""),
    "Excel day numbers as Unix seconds": (
        "time,temp,press\n46350.33,20,1\n", {"time_column": "time"},
        "row 2, column 'time': time stamp 46350.33 is out of range: as Unix time it would be 1970-01-01 12:52:30; "),
    "seconds since 1904": ("time,temp,press\n3878352000.0,20,1\n", {"time_column": "time"},
                           "its unit may be 'labview'; say time_format"),
    "ticks of .NET": ("time,temp,press\n639000000000000000,20,1\n", {"time_column": "time"},
                      "would be 1990-04-01 20:00:00; expected 2000 to "),
    "the year 2050": ("time,temp,press\n2050-11-24T08:00:00Z,20,1\n", {"time_column": "time"},
                      "would be 2050-11-24 08:00:00 UTC, which is out of range: expected 1970 to 20"),
    "milliseconds as seconds": ("time,temp,press\n1795503600000,20,1\n",
                                {"time_column": "time", "time_format": "unix"}, "row 2, column 'time'"),
    "a format of the year 2050": ("time,temp,press\n24.11.50 08:00:00,20,1\n",
                                  {"time_column": "time", "time_format": "%d.%m.%y %H:%M:%S"},
                                  "UTC, which is out of range: expected 1970 to 20"),
    "the year 3438": ("time,temp,press\n3438-01-01T00:05:00,20,1\n", {"time_column": "time"}, "out of range"),
    "two columns of one name": ("time,temp,temp,press\n2026-11-24T08:00:00,999,20,1.5\n", {"time_column": "time"},
                                "has 2 columns 'temp': 2 and 3. Rename one, or say which: temp#1 or temp#2"),
    "a row with more cells": ("temp,press\n1,2\n20,5,1,5\n", {}, "row 3 has 4 cells, the header 2."),
    "a row with fewer cells": ("temp,press\n1,2\n1\n", {}, "row 3 has 1 cells, the header 2"),
    "another delimiter": ("temp|press\n1|2\n", {}, "The header is one cell, 'temp|press': say delimiter = \"|\""),
    "not UTF-8": ("temp,press,ort\n1,2,M\udcfcnchen\n", {}, "lines with bytes that are not utf-8: '1,2,M\ufffdnchen'"),
    "UTF-16 without a mark": ("t\0e\0m\0p\0,\0\n\x001\0,\0", {}, "its first line is not CSV: it contains a NUL byte"),
    "an hour that does not exist": ("time,temp,press\n2026-03-29 02:30:00,1,2\n",
                                    {"time_column": "time", "time_zone": "Europe/Berlin"},
                                    "does not exist in Europe/Berlin: clocks go forward"),
    "newest first": ("time,temp,press\n2026-11-24 08:00:01,1,2\n2026-11-24 08:00:00,1,2\n",
                     {"time_column": "time", "tail": True},
                     "row 3, column 'time': '2026-11-24 08:00:00' is before the row above it: the newest rows"),
    "no rows": ("temp,press\n", {}, "has no rows"),
    "nothing": ("", {}, "is empty: it has no header yet"),
    "a tag that no row has": ("t,tag,value\n2026-11-24 08:00:00,temp,1\n2026-11-24 08:00:00,pres,1\n",
                              {"time_column": "t", "tag_column": "tag", "value_column": "value"},
                              "column 'tag' has no tag 'press'; did you mean 'pres'?"),
}  # fmt: skip


@pytest.mark.parametrize("name", CHECKED)
def test_check_names_row_and_column_and_what_to_set(tmp_path: Path, name: str) -> None:
    text, keys, words = CHECKED[name]
    (tmp_path / "d.csv").write_bytes(text.encode("utf-8", "surrogateescape"))
    problems = source(tmp_path / "d.csv", **keys).check(["temp", "press"])
    assert any(words in problem for problem in problems), problems


def test_check_notes_a_followed_file_that_is_still_empty(tmp_path: Path) -> None:
    (tmp_path / "d.csv").touch()
    followed = source(tmp_path / "d.csv", tail=True)
    assert followed.check(["temp"]) == [] and "is empty" in followed.remarks[0]


def test_check_is_content_with_some_lines_of_nul_but_not_with_many(tmp_path: Path) -> None:
    (tmp_path / "d.csv").write_text("a\n" + "1\n" * 50 + "\0\0\n" * 3)
    assert source(tmp_path / "d.csv").check(["a"]) == []
    (tmp_path / "d.csv").write_text("a\n" + "1\n" * 50 + "\0\0\n" * 9)
    assert (
        "lines that are no CSV: row 52: not CSV: it contains a NUL byte" in source(tmp_path / "d.csv").check(["a"])[0]
    )


def test_check_is_content_with_the_same_file_once_its_form_is_said(tmp_path: Path) -> None:
    (tmp_path / "d.csv").write_text(GERMAN)
    keys: dict[str, Any] = {"time_column": "Zeit", "time_format": "%d.%m.%Y %H:%M:%S,%f", "decimal": ","}
    assert source(tmp_path / "d.csv", **keys).check(["temp", "press"]) == []
    host = follow(tmp_path / "d.csv", ["temp", "press"], **keys)
    assert values(host, "temp") == [20 + float(f"0.{i}") for i in range(20)] and not host.counts
    assert host.readings[2].time_ns - host.readings[0].time_ns == S


def test_a_column_of_two_of_one_name_is_asked_for_by_its_number(tmp_path: Path) -> None:
    (tmp_path / "d.csv").write_text("temp,temp,press,press#1\n999,20,1,7\n")
    with pytest.raises(ConfigError, match=r"temp#1 or temp#2"):
        replayed(tmp_path / "d.csv", ["temp"])
    host = replayed(tmp_path / "d.csv", ["temp#2", "press#1"])
    assert values(host, "temp#2") == [20] and values(host, "press#1") == [7]


def test_what_cannot_be_used_is_counted_with_an_example_and_a_problem_while_it_lasts(tmp_path: Path) -> None:
    path, host = tmp_path / "d.csv", RecordingHost(tmp_path)
    made = tail(path, time_column="t")

    def after(text: str) -> dict[str, str]:
        with path.open("a") as file:
            file.write(text)
        look(made, ["a", "b"], host)
        return host.problems

    row = "2026-11-24T08:00:00Z"
    assert after(f"t,a,b\n{row},1,1\n" + f"{row},x\x1b[31m,1\n" * 9) == {}
    assert host.examples["column 'a': no number"] == r"x\x1b[31m"
    assert after(f"{row},1,1\n" + f"{row},12.5 bar,1\n" * 10)["rows (a)"] == (
        "column 'a': no number, row after row; e.g. 12.5 bar"
    )
    assert host.examples["column 'a': no number"] == "12.5 bar" and host.counts["column 'a': no number"] == 19
    assert after(f"{row},1,1\n") == {}
    assert list(after("24.11.2026 08:00:00,1,1\n" * 10)) == ["rows (time)"]
    assert "'24.11.2026 08:00:00'" in host.examples["column 't': no time"]
    assert list(after(f"{row},1,1\n" + f"{row},1,1,1\n" * 10)) == ["rows (cells)"]
    assert list(after(f"{row},1,1\n" + "\0\n" * 10)) == ["rows (lines)"]
    assert list(after(f"{row},1,1\n" + "".join(f"2026-11-24T07:{59 - i}:00Z,1,1\n" for i in range(10)))) == [
        "rows (order)"
    ]
    assert after("2026-11-24T09:00:00Z,1,1\n") == {}
    assert host.counts["rows that go back in time"] == 10 and host.counts["lines that are no CSV"] == 10


def test_markers_and_qualities_are_gaps_and_uncertain_is_used(tmp_path: Path) -> None:
    (tmp_path / "d.csv").write_text("a,Q,l\n1,Good,ok\nBad,Good,bad\n--,Good,ok\n4,Uncertain,ok\n5,Bad,ok\n6,192,ok\n")
    host = replayed(tmp_path / "d.csv", ["a", "l"], quality_column="Q", markers=("bad", "--"))
    assert values(host, "a") == [1, None, None, 4, None, 6]
    assert values(host, "l") == ["ok", "bad", "ok", "ok", None, "ok"]  # text stays a label
    assert host.readings[6].quality is Quality.UNCERTAIN
    assert host.counts == {"values of a quality that is not good": 2}
    assert host.examples == {"values of a quality that is not good": "l: 'Bad'"}


def test_a_row_a_value_of_wanted_tags_and_a_tag_that_never_comes(tmp_path: Path) -> None:
    rows = [f"2026-11-24 08:{i // 60:02}:{i % 60:02},{tag},{i}\n" for i in range(600) for tag in ("temp", "other")]
    (tmp_path / "d.csv").write_text("t,tag,value\n" + "".join(rows))
    keys: dict[str, Any] = {"time_column": "t", "tag_column": "tag", "value_column": "value"}
    host = follow(tmp_path / "d.csv", ["temp"], **keys)
    assert values(host, "temp") == list(range(600)) and not host.problems
    assert host.alive == []  # a tag without rows need not be unchanged
    (tmp_path / "position.json").unlink()
    host = follow(tmp_path / "d.csv", ["temp", "tmp"], **keys)
    assert host.problems == {} and values(host, "tmp") == []
    (tmp_path / "position.json").unlink()
    (tmp_path / "d.csv").write_text("t,tag,value\n" + "".join(rows) * 2)
    host = follow(tmp_path / "d.csv", ["temp", "tmp"], **keys)
    assert host.problems["tags"] == "tag 'tmp': in none of the rows so far; expected one of: other"


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-be", "utf-16-le"])
def test_utf_16_is_followed_through_partial_lines(tmp_path: Path, encoding: str) -> None:
    path, host = tmp_path / "d.csv", RecordingHost(tmp_path)
    data = "ä\tb\n1\t2\nĊ3\t4\n5\t6\n".encode(encoding)  # Ċ has a byte 0x0a
    keys: dict[str, Any] = {} if encoding == "utf-16" else {"encoding": encoding}
    for end in range(3, len(data) + 1, 3):
        path.write_bytes(data[:end])
        try:
            follow(path, ["b"], host, **keys)
        except ConfigError:  # before the byte order mark is there
            assert end < 4
    path.write_bytes(data)
    follow(path, ["b"], host, **keys)
    assert values(host, "b") == [2, 4, 6]


def test_mark_that_contradicts_the_key_is_refused(tmp_path: Path) -> None:
    (tmp_path / "d.csv").write_bytes("a\n1\n".encode("utf-16"))
    assert (
        "begins with the byte order mark of utf-16-le; the key encoding says 'cp1252'"
        in (source(tmp_path / "d.csv", encoding="cp1252").check(["a"])[0])
    )
    with pytest.raises(ConfigError, match="byte order mark"):
        follow(tmp_path / "d.csv", ["a"], encoding="cp1252")


def test_preamble_comments_and_units_are_left_out_by_replay_and_tail_alike(tmp_path: Path) -> None:
    text = 'Report "x\n;;\n\n# c\nt;a\n;bar\n2026-11-24 08:00:00;1\n# 2;2\n\n2026-11-24 08:00:01;3\n;\n'
    (tmp_path / "d.csv").write_text(text)
    keys: dict[str, Any] = {"skip_rows": 3, "comment": "#", "skip_after": 1, "time_column": "t"}
    for host in (follow(tmp_path / "d.csv", ["a"], **keys), replayed(tmp_path / "d.csv", ["a"], **keys)):
        assert values(host, "a") == [1, 3] and host.counts == {"lines left out as comments": 1}
    assert source(tmp_path / "d.csv", **keys).check(["a"]) == []


def test_file_without_a_header(tmp_path: Path) -> None:
    (tmp_path / "d.csv").write_text("1,2\n3,4\n")
    keys: dict[str, Any] = {"columns": ("a", "b"), "delimiter": ","}
    for host in (follow(tmp_path / "d.csv", ["b"], **keys), replayed(tmp_path / "d.csv", ["b"], **keys)):
        assert values(host, "b") == [2, 4]


def test_a_new_file_each_day_is_followed_with_its_own_header(tmp_path: Path) -> None:
    pattern, host = tmp_path / "log_*.csv", RecordingHost(tmp_path)
    with pytest.raises(UnreachableError, match="there is no file of this pattern yet"):
        follow(pattern, ["a"], host)
    assert "there is no file of this pattern" in source(pattern, tail=True).check(["a"])[0]
    (tmp_path / "log_24.11.2026.csv").write_text("a,b\n1,9\n2,9")
    (tmp_path / "log_01.12.2026.csv").write_text("b,a\n9,3\n")
    (tmp_path / "log_23.11.2026.csv.gz").write_bytes(gzip.compress(b"a\n0\n"))
    follow(pattern, ["a"], host)
    assert values(host, "a") == [1, 2, 3]
    assert source(pattern, tail=True).check(["a"]) == []
    (tmp_path / "log_03.12.2026.csv.gz").write_bytes(gzip.compress(b"a\n0\n"))
    assert source(tmp_path / "log_*", tail=True).check(["a"]) == []
    (tmp_path / "log_04.12.2026.xlsx").write_bytes(b"")
    packed = source(tmp_path / "log_*", tail=True).check(["a"])
    assert "its newest file, log_04.12.2026.xlsx, cannot be followed" in packed[0]
    (tmp_path / "log_03.12.2026.csv.gz").unlink()
    (tmp_path / "log_02.12.2026.csv").write_text("a\n4\n")
    follow(pattern, ["a"], host)  # a restart
    assert values(host, "a") == [1, 2, 3, 4]
    assert values(replayed(tmp_path / "log_*.csv*", ["a"]), "a") == [0, 1, 2, 3, 4]


def test_file_of_a_pattern_that_cannot_be_read_is_a_problem_until_the_next_one_and_then_counted(tmp_path: Path) -> None:
    pattern, host = tmp_path / "log_*.csv", RecordingHost(tmp_path)
    (tmp_path / "log_1.csv").write_text("a\n1\n")
    (tmp_path / "log_2.csv").write_text("b\n2\n")
    made = tail(pattern)
    for _ in range(2):
        with pytest.raises(ConfigError, match=r"log_2\.csv: has no column 'a'"):
            look(made, ["a"], host)
    (tmp_path / "log_3.csv").write_text("a\n3\n")
    look(made, ["a"], host)
    assert values(host, "a") == [1, 3] and host.counts == {"files that cannot be read": 1}
    assert "log_2.csv" in host.examples["files that cannot be read"]


def test_replay_sorts_a_file_that_is_newest_first_or_goes_tag_by_tag(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "d.csv"
    rows = [f"{BEGIN + timedelta(seconds=i)},{i}\n" for i in range(50)]
    path.write_text("t,a\n" + "".join(reversed(rows)))
    assert values(replayed(path, ["a"], time_column="t"), "a") == list(range(50))
    monkeypatch.setattr(files_replay, "MAX_SORTED", 40)
    with pytest.raises(ConfigError, match="not in the order of time and more than 40; sort it"):
        replayed(path, ["a"], time_column="t")
    monkeypatch.undo()
    long = [f"{BEGIN + timedelta(seconds=i)},{tag},{i}\n" for tag in "ab" for i in range(5)]
    path.write_text("t,tag,v\n" + "".join(long))
    host = replayed(path, ["a", "b"], time_column="t", tag_column="tag", value_column="v")
    assert [(r.tag, r.value) for r in host.readings] == [(tag, i) for i in range(5) for tag in "ab"]


def test_old_macs_line_ends_and_a_line_without_end_in_bounded_memory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "d.csv").write_bytes(b"a\r1\r2\r")
    assert values(replayed(tmp_path / "d.csv", ["a"]), "a") == [1, 2]
    monkeypatch.setattr(lines, "CHUNK", 64)
    monkeypatch.setattr(lines, "MAX_LINE", 200)
    (tmp_path / "d.csv").write_bytes(b"a\n1\n" + b"x" * 1000 + b"\n2\n" + b"y" * 900)
    host = replayed(tmp_path / "d.csv", ["a"])
    assert values(host, "a") == [1, 2] and host.counts["lines of more than 200 bytes"] == 2


def test_keys_that_exclude_each_other_are_refused(tmp_path: Path) -> None:
    for name, keys, words in (
        ("d.csv.gz", {}, "compressed file cannot be followed"),
        ("d.xlsx", {}, "Excel workbook cannot be followed"),
        ("d.csv", {"time_column": "t", "time_format": "elapsed"}, "followed rows need a date"),
    ):
        with pytest.raises(ConfigError, match=words):
            source(tmp_path / name, tail=True, **keys)
    with pytest.raises(ValueError, match="given together"):
        FilesConfig(tmp_path, tag_column="a")


def test_workbook_is_read_like_any_table(tmp_path: Path) -> None:
    openpyxl = pytest.importorskip("openpyxl")
    book = openpyxl.Workbook()
    sheet = book.active
    sheet.append(["Report"])
    sheet.append(["Zeit", "temp", "label"])
    for i in range(5):
        sheet.append([BEGIN + timedelta(seconds=i), 20.5 + i if i != 2 else None, "ok"])
    book.create_sheet("other").append(["a", "b"])
    book.save(tmp_path / "d.xlsx")
    keys: dict[str, Any] = {"skip_rows": 1, "time_column": "Zeit"}
    assert source(tmp_path / "d.xlsx", **keys).check(["temp"]) == []
    host = replayed(tmp_path / "d.xlsx", ["temp", "label"], **keys)
    assert values(host, "temp") == [20.5, 21.5, None, 23.5, 24.5] and values(host, "label") == ["ok"] * 5
    assert "did you mean 'other'" in source(tmp_path / "d.xlsx", sheet="othr").check(["a"])[0]
    (tmp_path / "e.xlsx").write_bytes(b"PK\x03\x04 no workbook")
    assert "cannot be read as an Excel workbook" in source(tmp_path / "e.xlsx").check(["a"])[0]


def test_hour_that_comes_twice_is_counted(tmp_path: Path) -> None:
    cells = ["02:30:00", "02:59:59", "02:00:00", "02:30:00", "03:00:00"]
    (tmp_path / "d.csv").write_text("t,a\n" + "".join(f"2026-10-25 {c},1\n" for c in cells))
    host = follow(tmp_path / "d.csv", ["a"], time_column="t", time_zone="Europe/Berlin")
    first = host.readings[0].time_ns
    assert [(r.time_ns - first) // S for r in host.readings] == [0, 1799, 1800, 3600, 5400]
    assert host.counts == {"times in the hour that Europe/Berlin has twice, told apart by their order": 4}


def test_cells_that_are_made_to_be_slow_are_not(tmp_path: Path) -> None:
    text = "t,a\n" + "".join(f"1{' ' * 60_000}zzzz,{'1 ' * 60_000}x\n" for _ in range(3))
    (tmp_path / "d.csv").write_text(text)
    began = time.monotonic()
    assert "is no time" in source(tmp_path / "d.csv", time_column="t").check(["a"])[0]
    with pytest.raises(ConfigError, match="no table was found: its first lines have 60002 cells"):
        understand(tmp_path / "d.csv")
    assert time.monotonic() - began < 30


def test_gap_is_never_a_number(tmp_path: Path) -> None:
    (tmp_path / "d.csv").write_text("a\n1\nnan\ninf\n1e999\n2\n")
    host = replayed(tmp_path / "d.csv", ["a"])
    assert values(host, "a") == [1, None, None, "1e999", 2]
    assert all(math.isnan(r.value) for r in host.readings if r.quality is Quality.BAD)  # type: ignore[arg-type]


def test_a_followed_file_says_that_all_its_lines_are_left_out(tmp_path: Path) -> None:
    text = "t;a\n" + "".join(f"2026-11-24 08:00:{i:02};{i}\n" for i in range(30))
    (tmp_path / "d.csv").write_text(text)
    for rows, after, words in ((0, 50, "51 (skip_rows = 0, skip_after = 50)"), (50, 0, "50 (skip_rows = 50, ")):
        host = follow(tmp_path / "d.csv", ["a"], time_column="t", skip_rows=rows, skip_after=after)
        assert not host.readings and words in host.problems["rows (skipped)"]
    host = follow(tmp_path / "d.csv", ["a"], time_column="t", comment="2")
    assert not host.readings and host.counts == {"lines left out as comments": 30}
    (tmp_path / "position.json").unlink()
    host = follow(tmp_path / "d.csv", ["a"], time_column="t", skip_after=25)
    assert len(host.readings) == 5 and not host.problems
