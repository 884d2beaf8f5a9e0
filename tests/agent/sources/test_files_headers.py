# SPDX-License-Identifier: Apache-2.0
"""Headers that come again or change within a file, and columns without a name: values are read by their names."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from fedge_agent.sources.files import FilesSource
from fedge_agent.sources.files_config import FilesConfig
from fedge_agent.types import Quality
from fedge_models.system.settings import Positive
from support.recording_host import RecordingHost


def look(host: RecordingHost, path: Path, tags: list[str], tail: bool, **keys: Any) -> dict[str, list[Any]]:
    """The values of each tag that one start of the source reads."""
    host.batches, left = [], [4 if tail else 1000]
    host.stop.clear()

    def wait(timeout: float | None = None) -> bool:
        left[0] -= 1
        if left[0] <= 0:
            host.stop.set()
        return host.stop.is_set()

    host.stop.wait = wait  # type: ignore[method-assign]
    config = FilesConfig(path=path, tail=tail, start="begin", poll=Positive(0), speed=1e9, **keys)
    FilesSource("csv", config).run(tags, host)
    return {tag: [r.value for r in host.readings if r.tag == tag] for tag in tags}


def at(i: int) -> str:
    return f"2026-11-24 08:00:{i:02}"


@pytest.mark.parametrize("timed", [False, True])
@pytest.mark.parametrize("tail", [False, True])
def test_columns_that_change_their_order_within_a_file_are_read_by_name(
    tmp_path: Path, tail: bool, timed: bool
) -> None:
    path, host = tmp_path / "d.csv", RecordingHost(tmp_path)
    keys: dict[str, Any] = {"time_column": "time"} if timed else {}
    path.write_text(f"time,a,b\n{at(0)},1,10\ntime,a,b\n{at(1)},2,20\ntime,b,a\n{at(2)},30,3\n")
    assert look(host, path, ["a", "b"], tail, **keys) == {"a": [1, 2, 3], "b": [10, 20, 30]}
    assert dict(host.counts) == {
        "header lines among the rows": 1,
        "header lines among the rows that change the columns": 1,
    }
    if tail:  # after a restart, too; and of a file that is written anew, by its own header
        with path.open("a") as file:
            file.write(f"{at(3)},40,4\ntime,b,c,a\n{at(4)},50,0,5\n")
        assert look(host, path, ["a", "b"], tail, **keys) == {"a": [4, 5], "b": [40, 50]}
        path.write_text(f"time,a,b\n{at(5)},6,60\n")
        assert look(host, path, ["a", "b"], tail, **keys) == {"a": [6], "b": [60]}


@pytest.mark.parametrize("tail", [False, True])
def test_rows_behind_a_header_without_a_wanted_column_are_left_out_and_said(tmp_path: Path, tail: bool) -> None:
    path, host = tmp_path / "d.csv", RecordingHost(tmp_path)
    path.write_text(f"time,a,b\n{at(0)},1,1\ntime,a,c\n{at(1)},2,2\n{at(2)},3,3\n")
    assert look(host, path, ["a", "b"], tail, time_column="time") == {"a": [1], "b": [1]}
    assert "no column 'b'" in host.problems["header"]
    assert host.counts["rows behind a header without a wanted column"] == 2
    if tail:
        with path.open("a") as file:
            file.write(f"time,b,a\n{at(3)},4,5\n")
        assert look(host, path, ["a", "b"], tail, time_column="time") == {"a": [5], "b": [4]}
        assert "header" not in host.problems


def test_a_header_that_comes_again_is_no_problem_to_check(tmp_path: Path) -> None:
    path = tmp_path / "d.csv"
    path.write_text(f"time,a\n{at(0)},1\ntime,a\n{at(1)},2\n")
    assert FilesSource("csv", FilesConfig(path, tail=True, time_column="time")).check(["a"]) == []


@pytest.mark.parametrize("tail", [False, True])
def test_column_without_a_name_is_called_by_its_number(tmp_path: Path, tail: bool) -> None:
    path, host = tmp_path / "d.csv", RecordingHost(tmp_path)
    path.write_text(f",a,,b\n{at(0)},1,5,7\n{at(1)},2,6,8\n")
    assert look(host, path, ["a", "column3"], tail, time_column="column1") == {"a": [1, 2], "column3": [5, 6]}


@pytest.mark.parametrize("tail", [False, True])
@pytest.mark.parametrize(
    "line",
    ["\ufefftime,b,a", "Time,B,A", "TIME, b, A ", "time;b;a", "\ufeffTime\tb\ta", '"time","b","a"', "time,b,a,,"],
)
def test_header_in_other_letters_with_a_mark_or_another_delimiter_is_known(
    tmp_path: Path, line: str, tail: bool
) -> None:
    path, host = tmp_path / "d.csv", RecordingHost(tmp_path)
    path.write_text(f"time,a,b\n{at(0)},1,10\n{line}\n{at(1)},20,2\n")
    assert look(host, path, ["a", "b"], tail, time_column="time") == {"a": [1, 2], "b": [10, 20]}
    assert dict(host.counts) == {"header lines among the rows that change the columns": 1} and not host.problems
    if tail:
        with path.open("a") as file:
            file.write(f"{at(2)},30,3\n")
        assert look(host, path, ["a", "b"], tail, time_column="time") == {"a": [3], "b": [30]}


def test_rows_behind_a_header_with_another_delimiter_are_read_with_either(tmp_path: Path) -> None:
    path, host = tmp_path / "d.csv", RecordingHost(tmp_path)
    path.write_text(f"time,a,b\n{at(0)},1,10\nZeit;b;a\ntime;b;a\n{at(1)};20;2\n{at(2)},30,3\ntime,a,b\n{at(3)},4,40\n")
    assert look(host, path, ["a", "b"], True, time_column="time") == {"a": [1, 2, 3, 4], "b": [10, 20, 30, 40]}


@pytest.mark.parametrize("tail", [False, True])
@pytest.mark.parametrize("line", ["Zeit,b,a", "timestamp,b,a", "TIME,BB,AA", "TIME;BB;AA", "AA,,Time", "Zeit;b;a"])
def test_rows_behind_a_header_that_is_known_in_part_are_not_read_by_the_old_names(
    tmp_path: Path, line: str, tail: bool
) -> None:
    path, host = tmp_path / "d.csv", RecordingHost(tmp_path)
    path.write_text(f"time,a,b\n{at(0)},1,10\n{line}\n{at(1)},20,2\n")
    assert look(host, path, ["a", "b"], tail, time_column="time") == {"a": [1], "b": [10]}
    assert "another header came" in host.problems["header"]
    if tail:  # after a restart neither, until there is a header that is known, or another file
        with path.open("a") as file:
            file.write(f"{at(2)},30,3\n")
        assert look(host, path, ["a", "b"], tail, time_column="time") == {"a": [], "b": []}
        assert "have the writer begin a new file" in host.problems["header"]
        with path.open("a") as file:
            file.write(f"time,a,b\n{at(3)},4,40\n")
        assert look(host, path, ["a", "b"], tail, time_column="time") == {"a": [4], "b": [40]}
        assert "header" not in host.problems


@pytest.mark.parametrize("begun", ["2026-11-24 08:00:0", f"{at(1)},2", f"{at(1)},2.5,1", "2026-11-24 Logger 5,"])
def test_a_header_behind_a_row_that_was_cut_off_stops_the_old_names(tmp_path: Path, begun: str) -> None:
    path, host = tmp_path / "d.csv", RecordingHost(tmp_path)
    path.write_text(f"time,a,b\n{at(0)},1,10\n{begun}time,b,a\n{at(2)},20,2\n")
    assert look(host, path, ["a", "b"], True, time_column="time") == {"a": [1], "b": [10]}
    assert host.counts["header lines among the rows that change the columns"] == 1
    with path.open("a") as file:
        file.write(f"time,b,a\n{at(3)},30,3\n")
    assert look(host, path, ["a", "b"], True, time_column="time") == {"a": [3], "b": [30]}


def test_names_that_are_known_and_not_wanted_prove_a_header(tmp_path: Path) -> None:
    path, host = tmp_path / "d.csv", RecordingHost(tmp_path)
    path.write_text(f"time,a,b\n{at(0)},1,10\nZeit,b,a\n{at(1)},20,2\n")
    assert look(host, path, ["a"], True, time_column="time") == {"a": [1]}
    assert "another header came" in host.problems["header"]


WORDS = "lines of words among the rows"


@pytest.mark.parametrize("tail", [False, True])
@pytest.mark.parametrize(
    "line", ["Pause,by operator,Schulz", "unknown,Init,Init2", "s,C,bar", "$RT$,abc,def", "p;q;r", "Meantime,x,y"]
)
def test_a_line_of_words_that_nobody_knows_is_left_out_alone_and_said(tmp_path: Path, line: str, tail: bool) -> None:
    path, host = tmp_path / "d.csv", RecordingHost(tmp_path)
    path.write_text(f"time,a,b\n{at(0)},1,10\n{line}\n{at(1)},2,20\n")
    assert look(host, path, ["a", "b"], tail, time_column="time") == {"a": [1, 2], "b": [10, 20]}
    assert dict(host.counts) == {WORDS: 1} and f"'{line}': if it is a header" in host.problems["header"]
    if tail:  # it ends with a header that is known
        with path.open("a") as file:
            file.write(f"{line}\n{at(2)},3,30\ntime,a,b\n{at(3)},4,40\n")
        assert look(host, path, ["a", "b"], tail, time_column="time") == {"a": [3, 4], "b": [30, 40]}
        assert host.counts[WORDS] == 2 and not host.problems


def test_the_problem_of_a_line_of_words_ends_after_a_while(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fedge_agent.sources.files_follow.ANNOUNCED_S", -1)
    path, host = tmp_path / "d.csv", RecordingHost(tmp_path)
    path.write_text(f"time,a,b\n{at(0)},1,10\nPause,by operator,Schulz\n{at(1)},2,20\n")
    assert look(host, path, ["a", "b"], True, time_column="time") == {"a": [1, 2], "b": [10, 20]}
    assert host.counts[WORDS] == 1 and not host.problems


@pytest.mark.parametrize("row", ["2,20,ok,a, b", "2,20,a", "2,20,b,time", "2,20,check time,a,b"])
def test_a_row_with_a_time_or_with_numbers_is_no_header(tmp_path: Path, row: str) -> None:
    path, host = tmp_path / "d.csv", RecordingHost(tmp_path)
    path.write_text(f"time,a,b,note\n{at(0)},1,10,ok\n{at(1)},{row}\nlost,{row}\n{at(2)},3,30,ok\n")
    found = look(host, path, ["a", "b"], True, time_column="time")
    assert found["a"][-1] == 3 and "header" not in host.problems and not any("header lines" in w for w in host.counts)


@pytest.mark.parametrize("line", ["Logger,event,started", "Logger,Value,started", f"{at(1)},value,time"])
def test_words_among_rows_of_one_value_stop_nothing(tmp_path: Path, line: str) -> None:
    path, host = tmp_path / "d.csv", RecordingHost(tmp_path)
    path.write_text(f"time,tag,value\n{at(0)},a,1\n{line}\n{at(2)},a,2\n")
    keys = {"time_column": "time", "tag_column": "tag", "value_column": "value"}
    assert look(host, path, ["a"], True, **keys) == {"a": [1, 2]}
    assert "header" not in host.problems


@pytest.mark.parametrize("line", ["Fault,Open,STOP", "Fault,Open,Short"])
def test_words_among_rows_without_a_time_stop_nothing(tmp_path: Path, line: str) -> None:
    path, host = tmp_path / "d.csv", RecordingHost(tmp_path)
    path.write_text(f"a,b,state\n1,10,RUN\n{line}\n2,20,RUN\n")
    assert look(host, path, ["a", "b"], True) == {"a": [1, 2], "b": [10, 20]}
    assert host.counts[WORDS] == 1 and "header" in host.problems


def test_another_file_ends_the_problem_of_an_unknown_header(tmp_path: Path) -> None:
    path, host = tmp_path / "d.csv", RecordingHost(tmp_path)
    path.write_text(f"time,a,b\n{at(0)},1,10\nZeit,b,a\n{at(1)},20,2\n")
    look(host, path, ["a", "b"], True, time_column="time")
    path.write_text(f"time,a,b\n{at(4)},5,50\n")
    assert look(host, path, ["a", "b"], True, time_column="time") == {"a": [5], "b": [50]}
    assert "header" not in host.problems


@pytest.mark.parametrize("between", ["s,C,bar", "End of report", "Total,50,", "-,-,-", "err,err,err", ",C,bar"])
def test_words_that_are_no_names_stop_no_rows(tmp_path: Path, between: str) -> None:
    """Units behind each header, words at an end, sums, markers."""
    path, host = tmp_path / "d.csv", RecordingHost(tmp_path)
    path.write_text(f"time,a,b\n{between}\n{at(0)},1,10\ntime,a,b\n{between}\n{at(1)},2,20\n")
    assert look(host, path, ["a", "b"], True, time_column="time") == {"a": [1, 2], "b": [10, 20]}
    path.write_text(f"time,a,b\n{at(2)},3,30\n{at(3)},4,40\n{between}\n")
    assert look(host, path, ["a", "b"], True, time_column="time") == {"a": [3, 4], "b": [30, 40]}


@pytest.mark.parametrize("tail", [False, True])
def test_names_among_rows_without_a_time_are_found_by_the_missing_number(tmp_path: Path, tail: bool) -> None:
    path, host = tmp_path / "d.csv", RecordingHost(tmp_path)
    path.write_text("a,b\n1,10\nB,A\n20,2\nDruck,Temp\n3,30\n")
    assert look(host, path, ["a", "b"], tail) == {"a": [1, 2, 30], "b": [10, 20, 3]}
    assert "if it is a header" in host.problems["header"]


def test_a_long_table_goes_on_behind_a_row_of_a_known_tag_without_a_time(tmp_path: Path) -> None:
    path, host = tmp_path / "d.csv", RecordingHost(tmp_path)
    path.write_text(f"tag,time,value\na,{at(0)},1\na,soon,running\na,{at(1)},2\nTag,Value,Time\na,3,{at(2)}\n")
    keys = {"time_column": "time", "tag_column": "tag", "value_column": "value"}
    assert look(host, path, ["a"], True, **keys) == {"a": [1, 2, 3]}


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_a_second_byte_order_mark_costs_no_row_and_no_names(tmp_path: Path, encoding: str) -> None:
    path, host = tmp_path / "d.csv", RecordingHost(tmp_path)
    parts = [f"time,a,b\n{at(0)},1,10\n", f"time,b,a\n{at(1)},20,2\n", f"{at(2)},30,3\n"]
    path.write_bytes(b"".join(part.encode(encoding) for part in parts))
    assert look(host, path, ["a", "b"], True, time_column="time") == {"a": [1, 2, 3], "b": [10, 20, 30]}


@pytest.mark.parametrize("tail", [False, True])
def test_an_empty_cell_is_a_gap_or_no_reading_as_the_key_says(tmp_path: Path, tail: bool) -> None:
    text = f"time,a,b\n{at(0)},1,10\n{at(1)},2,\n{at(2)},,\n{at(3)},4, \n{at(4)},5,bad\n{at(5)},6,60\n"
    for empty, bad in (("gap", 4), ("unchanged", 1)):
        (folder := tmp_path / empty).mkdir()
        (path := folder / "d.csv").write_text(text)
        host = RecordingHost(folder)
        found = look(host, path, ["a", "b"], tail, time_column="time", empty=empty)
        known = [r.value for r in host.readings if r.tag == "b" and r.quality is Quality.GOOD]
        assert known == [10, 60] and len(found["b"]) == 2 + bad
        assert len(found["a"]) == (6 if empty == "gap" else 5)


def test_an_empty_value_of_one_tag_is_no_reading_where_it_means_unchanged(tmp_path: Path) -> None:
    path, host = tmp_path / "d.csv", RecordingHost(tmp_path)
    path.write_text(f"tag,time,value\na,{at(0)},1\na,{at(1)},\na,{at(2)},2\n")
    keys = {"time_column": "time", "tag_column": "tag", "value_column": "value", "empty": "unchanged"}
    assert look(host, path, ["a"], True, **keys) == {"a": [1, 2]}


def test_an_empty_cell_of_a_bad_quality_is_a_gap_also_where_it_means_unchanged(tmp_path: Path) -> None:
    path, host = tmp_path / "d.csv", RecordingHost(tmp_path)
    path.write_text(f"time,a,q\n{at(0)},1,good\n{at(1)},,good\n{at(2)},,bad\n")
    look(host, path, ["a"], True, time_column="time", quality_column="q", empty="unchanged")
    assert [r.quality for r in host.readings] == [Quality.GOOD, Quality.BAD]
