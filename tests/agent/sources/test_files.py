# SPDX-License-Identifier: Apache-2.0
"""CSV files: replayed at the right pace, followed as they grow, and nothing that a row holds stops anything."""

from __future__ import annotations

import gzip
import json
import math
import os
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from fedge_agent.protocols.csv import tail as tails
from fedge_agent.protocols.csv.faults import Faults
from fedge_agent.protocols.csv.form import TableForm
from fedge_agent.protocols.csv.lines import MAX_LINE
from fedge_agent.sources.files import FilesSource
from fedge_agent.sources.files_config import FilesConfig
from fedge_agent.sources.files_position import recovered
from fedge_agent.sources.host import HostedSource, Queue
from fedge_agent.types import Quality
from fedge_models.errors import ConfigError, UnreachableError
from fedge_models.system.settings import Positive
from hypothesis import HealthCheck, given, seed, settings
from hypothesis import strategies as st
from support.disks import SmallDisk
from support.examples import examples
from support.recording_host import RecordingHost
from support.waiting import LONGEST_S, until


def replay(path: Path, text: str | bytes, tags: tuple[str, ...] = ("a", "b"), **config: Any) -> RecordingHost:
    """Everything that a quick replay gives."""
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    host = RecordingHost(path.parent)
    FilesSource("csv", FilesConfig(path, **{"speed": 1e9, **config})).run(tags, host)
    return host


def cells(host: RecordingHost) -> list[list[Any]]:
    """Row by row: the values, None for bad ones."""
    return [[None if r.quality is Quality.BAD else r.value for r in readings] for readings, _ in host.batches]


CELLS = "rows with another number of cells than the header"
MALFORMED: dict[str, tuple[str | bytes, dict[str, int], list[Any] | None]] = {
    "short row": ("1\n", {CELLS: 1}, None),
    "long row": ("1,2,3\n", {CELLS: 1}, None),
    "delimiters at the end": ("1,2,,\n", {}, [1, 2]),
    "only delimiters": (",\n", {}, None),
    "empty cell": ("1,\n", {}, [1, None]),
    "empty line": ("\n", {}, None),
    "text among numbers": ("x,2\n", {"column 'a': no number": 1}, ["x", 2]),
    "underscores": ("1_000,2\n", {"column 'a': no number": 1}, ["1_000", 2]),
    "digits of another script": ("١,2\n", {"column 'a': no number": 1}, ["١", 2]),
    "decimal comma": ('"1,5",2\n', {"column 'a': no number": 1}, ["1,5", 2]),
    "open quote": ('"1,2\n', {CELLS: 1}, None),
    "not UTF-8": (b"\xff\xfe,2\n", {"column 'a': no number": 1, "lines with bytes that are not utf-8": 1}, ["��", 2]),
    "huge cell": (b"9" * 200_000 + b",2\n", {"lines that are no CSV": 1}, None),
    "NUL": (b"\x001,2\n", {"lines that are no CSV": 1}, None),
    "blocks of NUL after a power cut": (b"\0" * 4096 + b"3,4\n", {"lines that are no CSV": 1}, None),
    "half a surrogate": (b"\xed\xa0\x80,2\n", {"column 'a': no number": 1, "lines with bytes that are not utf-8": 1},
                         ["���", 2]),
    "spaces": (" 7 , 8 \n", {}, [7, 8]),
    "windows line end": ("7,8\r\n", {}, [7, 8]),
}  # fmt: skip


@pytest.mark.parametrize("name", MALFORMED)
def test_malformed_row_is_counted_by_column_and_the_next_one_comes(tmp_path: Path, name: str) -> None:
    row, counts, values = MALFORMED[name]
    text = b"a,b\n1,2\n" + (row.encode() if isinstance(row, str) else row) + b"5,6\n"
    host = replay(tmp_path / "d.csv", text)
    assert cells(host) == [[1, 2], *([values] if values is not None else []), [5, 6]]
    assert dict(host.counts) == counts and not host.problems
    followed = follow(tmp_path, start="begin")
    (tmp_path / "press.csv").write_bytes(text)
    assert followed.look() == cells(host) and dict(followed.host.counts) == counts


def test_a_carriage_return_within_a_followed_row_costs_that_row(tmp_path: Path) -> None:
    made = follow(tmp_path, start="begin")
    made.write(b"a,b\n1,2\n3\r9,4\n5,6\n")
    assert made.look() == [[1, 2], [5, 6]] and dict(made.host.counts) == {"lines that are no CSV": 1}


BAD_TIMES = ["", "yesterday", "nan", "inf", "1e30", "2026-13-01", "2026-01-01T25:00", "-1e12"]


@pytest.mark.parametrize("bad", BAD_TIMES)
def test_row_without_a_usable_time_is_left_out(tmp_path: Path, bad: str) -> None:
    host = replay(tmp_path / "d.csv", f"t,a\n{bad},0\n1700000010,1\n{bad},2\n1700000011,3\n", ("a",), time_column="t")
    assert cells(host) == [[1], [3]]
    assert dict(host.counts) == {"column 't': no time": 2}


def test_replay_keeps_the_pace_and_stamps_as_now(tmp_path: Path) -> None:
    before = time.time_ns()
    began = time.monotonic()
    text = "t,a\n2020-01-01T00:00:00Z,1\n2020-01-01 00:00:01,2\n2020-01-01T01:00:03+01:00,3\n"
    host = replay(tmp_path / "d.csv", text, ("a",), time_column="t", speed=20.0)
    assert time.monotonic() - began >= 0.15
    times = [r.time_ns for r in host.readings]
    assert before <= times[0] <= time.time_ns()
    assert [round((t - times[0]) / 1e6) for t in times] == [0, 50, 150]
    assert [alive for _, alive in host.batches] == times


def test_replay_repeats_and_reads_gzip_and_other_delimiters(tmp_path: Path) -> None:
    path = tmp_path / "d.csv.gz"
    path.write_bytes(gzip.compress("\ufeffa;b\n1;2\n3;4\n".encode()))
    host = RecordingHost(tmp_path, stop_after=5)
    FilesSource("csv", FilesConfig(path, at_end="repeat", speed=1e9, delimiter=";")).run(["b"], host)
    assert [r.value for r in host.readings] == [2, 4, 2, 4, 2]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (b"x,y\n1,2\n", "did you mean"),
        (b"", "is empty: it has no header yet; expected a column 'aa'"),
        (b"\x1f\x8b\x08", "cannot be read as CSV"),
    ],
)
def test_file_that_cannot_be_used_says_why(tmp_path: Path, text: bytes, words: str) -> None:
    path = tmp_path / ("d.csv.gz" if text.startswith(b"\x1f") else "d.csv")
    path.write_bytes(text)
    source = FilesSource("csv", FilesConfig(path))
    wanted = ["xx"] if b"x" in text else ["aa"]
    if words == "did you mean":
        path.write_bytes(b"xy,y\n1,2\n")
    assert words in source.check(wanted)[0]
    with pytest.raises(ConfigError, match=words):
        source.run(wanted, RecordingHost(tmp_path))


HEADERS = {
    "NUL": b"a\0,b\n1,2\n",
    "only NUL": b"\0" * 9 + b"\n1,2\n",
    "huge name": b"a," + b"b" * 200_000 + b"\n1,2\n",
}


@pytest.mark.parametrize("name", HEADERS)
@pytest.mark.parametrize("tail", [False, True])
def test_header_that_is_not_csv_says_so_and_heals(tmp_path: Path, name: str, tail: bool) -> None:
    made = follow(tmp_path, start="begin", at_end="stop")
    made.config = msgspec.structs.replace(made.config, tail=tail, speed=1e9)
    made.write(HEADERS[name])
    assert "its first line is not CSV" in FilesSource("csv", made.config).check(["a", "b"])[0]
    with pytest.raises(ConfigError, match="its first line is not CSV"):
        made.look()
    made.write(b"a,b\n1,2\n", "wb")
    (tmp_path / "position.json").unlink(missing_ok=True)
    assert made.look() == [[1, 2]]


def test_carriage_return_in_a_followed_header(tmp_path: Path) -> None:
    made = follow(tmp_path, start="begin")
    made.write(b"a\rx,b\n1,2\n")
    with pytest.raises(ConfigError, match="its first line is not CSV"):
        made.look()


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16-le", "utf-16"])
def test_lines_that_end_with_a_carriage_return_alone_are_followed(tmp_path: Path, encoding: str) -> None:
    made = follow(tmp_path, start="begin", encoding=encoding)
    made.write("a,b\r".encode(encoding))
    assert made.look() == []  # half of CR LF, or a whole line: nobody knows yet
    plain = "utf-16-le" if encoding == "utf-16" else encoding
    made.write("1,2\r3,".encode(plain))
    assert made.look() == [[1, 2]]
    made.write("4\r5,6\r".encode(plain))
    assert made.look() == [[3, 4], [5, 6]]
    made.write("7,8\n9,10\r\n11,12\r".encode(plain))  # another program goes on
    assert made.look() == [[7, 8], [9, 10], [11, 12]]
    assert not made.host.counts


def test_writer_that_changes_to_carriage_returns_is_followed_and_counted(tmp_path: Path) -> None:
    made = follow(tmp_path, start="begin")
    made.write("a,b\n1,2\n")
    assert made.look() == [[1, 2]]
    made.write("3,4\r5,6\r7,8\r")
    assert made.look() == [[3, 4], [5, 6], [7, 8]]
    assert list(made.host.counts) == ["changes of the line ends to carriage returns"]
    made.write("9,10\r11,12\r1")
    assert made.look() == [[9, 10], [11, 12]]


def test_followed_file_without_any_line_end_says_so(tmp_path: Path) -> None:
    made = follow(tmp_path, start="begin")
    made.write(b"x" * MAX_LINE)
    with pytest.raises(ConfigError, match=f"its first line has more than {MAX_LINE} bytes"):
        made.look()


def test_damaged_gzip_says_so(tmp_path: Path) -> None:
    """Bytes in the middle that changed are a zlib.error, which is no OSError."""
    packed = bytearray(gzip.compress(b"a,b\n" + b"".join(b"%d,%d\n" % (i, i * i) for i in range(2000))))
    packed[len(packed) // 2 : len(packed) // 2 + 40] = b"\xff" * 40
    with pytest.raises(ConfigError, match="cannot be read as CSV"):
        replay(tmp_path / "d.csv.gz", bytes(packed))


class Followed:
    """A file and its tail, which reads when the test calls `look`."""

    def __init__(self, folder: Path, tags: tuple[str, ...], **config: Any) -> None:
        self.path, self.folder, self.tags = folder / "press.csv", folder, tags
        self.config = FilesConfig(self.path, tail=True, poll=Positive(0), **config)
        self.host = RecordingHost(folder)

    def write(self, text: str | bytes, mode: str = "ab") -> None:
        with self.path.open(mode) as file:
            file.write(text.encode() if isinstance(text, str) else text)

    def look(self) -> list[list[Any]]:
        """As one start of the agent: all that is there, then it is stopped."""
        source, self.host.batches = FilesSource("csv", self.config), []
        self.host.stop.clear()
        Stopping(self.host, 3)
        source.run(self.tags, self.host)
        return [[None if r.quality is Quality.BAD else r.value for r in row] for row in self._by_row()]

    def _by_row(self) -> Iterator[Any]:
        readings, width = self.host.readings, len(self.tags)
        yield from (readings[i : i + width] for i in range(0, len(readings), width))


class Stopping:
    """Stops a host when its source has waited for the next look so many times."""

    def __init__(self, host: RecordingHost, waits: int) -> None:
        self._left, self._set, host.stop.wait = waits, host.stop.set, self.wait  # type: ignore[method-assign]
        self._is_set = host.stop.is_set

    def wait(self, timeout: float | None = None) -> bool:
        self._left -= 1
        if self._left <= 0:
            self._set()
        return self._is_set()


def follow(folder: Path, tags: tuple[str, ...] = ("a", "b"), **config: Any) -> Followed:
    return Followed(folder, tags, **config)


def test_what_is_appended_comes_and_a_partial_line_is_waited_for(tmp_path: Path) -> None:
    made = follow(tmp_path, ("a",))
    made.write("a,b\n1,1\n2,2\n3")
    assert made.look() == []  # what is there at first is history
    made.write("0,3\n4,")
    assert made.look() == [[30]]
    made.write("4\n5,5\n")
    assert made.look() == [[4], [5]]
    assert made.look() == []


def test_from_the_beginning_and_the_position_outlives_restarts(tmp_path: Path) -> None:
    made = follow(tmp_path, ("b",), start="begin")
    made.write("a,b\n1,1\n2,2\n")
    assert made.look() == [[1], [2]]
    for i in range(3, 6):  # each look is another start
        made.write(f"{i},{i}\n")
        assert made.look() == [[i]]
    position = json.loads((tmp_path / "position.json").read_text())
    assert position["offset"] == made.path.stat().st_size and position["header"] == "a,b"


def test_rows_that_were_stored_before_a_kill_are_not_read_again(tmp_path: Path) -> None:
    made = follow(tmp_path, ("a",), start="begin")
    made.write("a\n1\n")
    assert made.look() == [[1]]
    before = (tmp_path / "position.json").read_bytes()
    made.write("2\n")
    assert made.look() == [[2]]
    (tmp_path / "position.json").write_bytes(before)  # killed between storing the rows and the position
    made.write("3\n")
    assert made.look() == [[3]]


@pytest.mark.parametrize("how", ["cut", "no text", "one digit", "empty"])
def test_a_damaged_position_is_mended_from_the_inbox(tmp_path: Path, how: str) -> None:
    made = follow(tmp_path, ("a",), start="begin")
    made.write("a\n1\n2\n")
    assert made.look() == [[1], [2]]
    position = tmp_path / "position.json"
    whole = position.read_bytes()
    digit = whole.index(b'"offset":') + 9
    changed = whole[:digit] + bytes([whole[digit] ^ 1]) + whole[digit + 1 :]
    position.write_bytes({"cut": whole[:20], "no text": b"\x80\xff", "one digit": changed, "empty": b""}[how])
    made.write("3\n")
    assert made.look() == [[3]]
    assert made.host.counts == {"damaged positions, mended from the inbox": 1} and not made.host.problems
    assert made.look() == []


@pytest.mark.parametrize("start", ["begin", "end"])
def test_a_file_that_has_to_be_started_over_is_read_from_its_beginning_and_announced(
    tmp_path: Path, start: str
) -> None:
    made = follow(tmp_path, ("a",), start=start)
    made.write("a\n1\n")
    made.look()
    made.write("2\n")
    assert made.look()[-1] == [2]
    (tmp_path / "position.json").write_text("{")
    made.host.stored.clear()  # the inbox is lost, too
    assert made.look() == [[1], [2]]
    assert made.host.counts == {"positions started over": 1}
    assert "is damaged; the file is read from its beginning" in made.host.problems["started over"]


def test_a_position_that_was_deleted_is_begun_as_start_says_and_announced(tmp_path: Path) -> None:
    made = follow(tmp_path, ("a",), start="begin")
    made.write("a\n1\n")
    assert made.look() == [[1]] and not made.host.problems
    (tmp_path / "position.json").unlink()
    assert made.look() == [[1]] and made.host.counts == {"positions started over": 1}
    assert "is gone, but rows were read before" in made.host.problems["started over"]


def test_a_kill_before_the_first_position_is_no_file_that_is_started_over(tmp_path: Path) -> None:
    made = follow(tmp_path, ("a",), start="begin")
    made.write("a\n")
    assert made.look() == []
    (tmp_path / "position.json").unlink()
    made = follow(tmp_path, ("a",), start="begin")
    assert made.look() == []  # the position is there before the first row
    begun = recovered(tmp_path / "other.json", [])
    assert not begun.continues and not begun.started_over
    made.write("1\n")
    assert made.look() == [[1]]
    (tmp_path / "position.json").write_bytes((tmp_path / "other.json").read_bytes())
    made.write("2\n")
    assert made.look() == [[2]] and not made.host.counts and not made.host.problems


def test_a_position_of_an_earlier_version_has_no_check_and_counts(tmp_path: Path) -> None:
    made = follow(tmp_path, ("a",), start="begin")
    made.write("a\n1\n")
    assert made.look() == [[1]]
    position = tmp_path / "position.json"
    old = json.loads(position.read_text())
    del old["check"]
    position.write_text(json.dumps(old))
    made.host.stored.clear()
    made.write("2\n")
    assert made.look() == [[2]] and not made.host.counts


def test_a_file_that_is_copied_again_and_again_is_not_read_twice(tmp_path: Path) -> None:
    made = follow(tmp_path, ("a",), start="begin", time_column="t")
    rows = [f"2026-03-02T08:00:{i:02}Z,{i}\n" for i in range(9)]
    for many in (3, 5, 9):
        copy = tmp_path / ".press.csv.tmp"
        copy.write_text("t,a\n" + "".join(rows[:many]))
        copy.replace(made.path)
        assert [[i] for i in range({3: 0, 5: 3, 9: 5}[many], many)] == made.look()
    (tmp_path / "other").write_text("t,a\n" + "".join(row.replace("-02T", "-03T") for row in rows))
    (tmp_path / "other").replace(made.path)
    assert len(made.look()) == 9  # another day


def test_a_file_without_dates_that_looks_alike_is_another_one(tmp_path: Path) -> None:
    made = follow(tmp_path, ("a",), start="begin", time_column="t")
    rows = "".join(f"1970-01-01T08:00:{i:02}Z,7\n" for i in range(20))
    for _ in range(2):
        (tmp_path / "new").write_text("t,a\n" + rows)
        (tmp_path / "new").replace(made.path)
        assert len(made.look()) == 20


def test_rows_with_times_of_their_own_say_what_they_are_stored_in(tmp_path: Path) -> None:
    made = follow(tmp_path, ("a",), start="begin")
    made.write("a\n1\n")
    made.look()
    assert made.host.origins == [None]  # read again, they have another time
    (tmp_path / "log_1.csv").write_text("t,a\n2026-03-02T08:00:00Z,1\n")
    for pattern, origin in (("log_1.csv", ""), ("log_*.csv", "log_1.csv")):
        (tmp_path / "position.json").unlink()
        other = follow(tmp_path, ("a",), start="begin", time_column="t")
        other.config = msgspec.structs.replace(other.config, path=tmp_path / pattern)
        assert other.look() == [[1]] and other.host.origins == [origin]


@pytest.mark.parametrize("how", ["renamed", "deleted", "copied and cut", "rewritten", "the same inode and longer"])
def test_rotation_and_truncation_while_stopped(tmp_path: Path, how: str) -> None:
    made = follow(tmp_path, ("a",), start="begin")
    made.write("a\n1\n2\n3\n")
    assert made.look() == [[1], [2], [3]]
    if how == "renamed":
        made.path.rename(tmp_path / "press.csv.1")
        made.write("a\n4\n")
    elif how == "deleted":
        made.path.unlink()
        made.write("a\n4\n")
    elif how == "copied and cut":
        made.write("", "wb")
        made.write("a\n4\n")
    elif how == "rewritten":
        made.write("a\n4\n", "wb")
    else:
        made.write("a\n4\n5\n6\n7\n8\n", "wb")
    assert made.look() == ([[4], [5], [6], [7], [8]] if "longer" in how else [[4]])


def tail(path: Path, position: Path) -> tails.Tail:
    return tails.Tail(path, position, False, TableForm(), Faults())


def all_lines(made: tails.Tail) -> list[str]:
    """Until there are none three times: rotation takes a look of its own."""
    found: list[str] = []
    for _ in range(3):
        while new := made.lines():
            found += new
    return found


def test_rotated_while_it_is_followed_the_old_file_is_read_to_its_end(tmp_path: Path) -> None:
    path = tmp_path / "press.csv"
    path.write_text("a\n1\n")
    made = tail(path, tmp_path / "position")
    assert all_lines(made) == ["1"]
    with path.open("a") as file:
        path.rename(tmp_path / "press.csv.1")
        file.write("2\n3")  # the writer has not noticed yet
        file.flush()
        path.write_text("a\n4\n")
        assert all_lines(made) == ["2", "3", "4"]
    made.close()


@pytest.mark.parametrize("running", [False, True])
def test_copy_that_takes_the_place_of_a_file_is_read_on_where_rows_have_times(tmp_path: Path, running: bool) -> None:
    """As rsync and network shares write: the whole file anew under another name, then renamed."""
    rows = [f"2026-11-24T08:00:0{i}Z,{i}\n" for i in range(6)]
    made = follow(tmp_path, ("a",), start="begin", time_column="t")
    made.write("t,a\n" + "".join(rows[:2]))
    tail = tails.Tail(made.path, tmp_path / "p", False, TableForm(time_column="t"), Faults())
    assert len(all_lines(tail)) == 2 and made.look() == [[0], [1]]
    (tmp_path / "new").write_text("t,a\n" + "".join(rows[:4]))
    (tmp_path / "new").rename(made.path)
    assert all_lines(tail) == [r.strip() for r in rows[2:4]] if running else made.look() == [[2], [3]]
    (tmp_path / "new").write_text("t,a\n" + "".join(rows[4:]))  # another file
    (tmp_path / "new").rename(made.path)
    assert all_lines(tail) == [r.strip() for r in rows[4:]] if running else made.look() == [[4], [5]]
    tail.close()


@pytest.mark.parametrize("packed", [False, True])
def test_rows_of_a_file_that_was_rotated_away_while_the_agent_was_down_are_read(tmp_path: Path, packed: bool) -> None:
    made = follow(tmp_path, ("a",), start="begin")
    made.write("a\n1\n2\n")
    assert made.look() == [[1], [2]]
    made.write("3\n")
    old = tmp_path / "press.csv.1"
    made.path.rename(old)
    if packed:
        (tmp_path / "press.csv.1.gz").write_bytes(gzip.compress(old.read_bytes()))
        old.unlink()
    made.write("a\n4\n")
    assert made.look() == [[3], [4]]


def test_file_that_goes_away_and_comes_back(tmp_path: Path) -> None:
    made = follow(tmp_path, ("a",), start="begin")
    with pytest.raises(UnreachableError, match=r"press\.csv: cannot be read: No such file"):
        made.look()
    made.write("a\n1\n")
    assert made.look() == [[1]]
    made.path.unlink()
    with pytest.raises(UnreachableError):
        made.look()
    made.write("a\n2\n")
    assert made.look() == [[2]]


def test_changed_header_is_refused_until_it_is_mended(tmp_path: Path) -> None:
    made = follow(tmp_path, ("a",), start="begin")
    made.write("a,b\n1,1\n")
    assert made.look() == [[1]]
    made.write("b,a\n2,2\n", "wb")
    for _ in range(2):
        with pytest.raises(ConfigError, match=r"header changed from 'a,b' to 'b,a'.*delete .*position\.json"):
            made.look()
    made.write("a,b\n3,3\n", "wb")
    assert made.look() == [[3]]
    made.write("b,a\n4,5\n", "wb")
    (tmp_path / "position.json").unlink()
    assert made.look() == [[5]]


def test_column_that_is_not_there_and_gzip(tmp_path: Path) -> None:
    made = follow(tmp_path, ("presure",), start="begin")
    made.write("pressure\n1\n")
    with pytest.raises(ConfigError, match="did you mean 'pressure'"):
        made.look()
    with pytest.raises(ConfigError, match="compressed file cannot be followed"):
        FilesSource("csv", FilesConfig(Path("x.csv.gz"), tail=True))


def test_header_that_is_not_whole_yet(tmp_path: Path) -> None:
    made = follow(tmp_path, ("ab",))
    made.write("\ufeffa")
    assert made.look() == []
    made.write("b\r\n1\r\n")
    assert made.look() == []
    made.write("2\r\n")
    assert made.look() == [[2]]


def test_long_lines_are_left_out_and_cost_no_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tails, "CHUNK", 100)
    monkeypatch.setattr(tails, "MAX_LINE", 1000)
    path = tmp_path / "press.csv"
    counted: list[str] = []
    path.write_text("a\n1\n" + "x" * 5000 + "\n2\n" + "y" * 500 + "\n3\n" + "z" * 2000)
    made = tails.Tail(
        path, tmp_path / "position", False, TableForm(), Faults(lambda what, by=1, example="": counted.append(what))
    )
    assert all_lines(made) == ["1", "2", "y" * 500, "3"]
    with path.open("a") as file:
        file.write("z\n4\n")
    assert all_lines(made) == ["4"] and counted == ["lines of more than 1000 bytes"] * 2
    made.close()


def test_times_of_followed_rows_are_their_own(tmp_path: Path) -> None:
    made = follow(tmp_path, ("a",), start="begin", time_column="t")
    made.write("t,a\n1700000000.5,1\nnever,2\n2023-11-14T22:13:22Z,3\n")
    assert made.look() == [[1], [3]]
    assert [r.time_ns for r in made.host.readings] == [1_700_000_000_500_000_000, 1_700_000_002_000_000_000]
    assert made.host.alive == []  # nothing is known between two rows
    assert made.host.counts == {"column 't': no time": 1}


def test_gap_is_not_a_number_of_any_kind(tmp_path: Path) -> None:
    host = replay(tmp_path / "d.csv", "a\nnan\n1\n", ("a",))
    first = host.readings[0].value
    assert isinstance(first, float) and math.isnan(first) and not host.counts


def test_counts_are_in_the_status(tmp_path: Path) -> None:
    (tmp_path / "d.csv").write_text("a,b\n1,2\n3\nx,4\n")
    hosted = HostedSource("csv", FilesSource("csv", FilesConfig(tmp_path / "d.csv", speed=1e9)), ["a", "b"], Queue(99))
    hosted.start()
    until(lambda: hosted.status()["readings"] == 4)  # of two rows
    hosted.join(LONGEST_S)
    counts = {CELLS: 1, "column 'a': no number": 1}
    assert hosted.status()["counts"] == counts and hosted.status()["examples"]["column 'a': no number"] == "x"


PIECES = st.lists(st.sampled_from(["1", "22", "\n", "3\n", "4\n55\n6", "\r\n", "7" * 40, " "]), max_size=30)
EVENTS = st.lists(st.tuples(st.sampled_from(["append", "append", "append", "restart", "rotate"]), PIECES), max_size=12)


@seed(7)
@settings(max_examples=examples(80), deadline=None, database=None, suppress_health_check=list(HealthCheck))
@given(EVENTS)
def test_every_line_once_however_it_is_written_rotated_and_restarted(events: list[tuple[str, list[str]]]) -> None:
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setattr(tails, "CHUNK", 16)
        path, position = Path(folder) / "press.csv", Path(folder) / "position"
        path.write_text("a\n")
        made, text, wanted, found = tail(path, position), "", [], []
        for what, pieces in events:
            if what == "restart":
                made.save()
                made.close()
                made = tail(path, position)
            if what == "rotate":
                wanted += [*text.split("\n")]  # nobody will end the last line any more
                text = ""
                path.rename(path.with_suffix(".1"))
                path.write_text("a\n")
            with path.open("a", newline="") as file:
                file.write("".join(pieces))
            text += "".join(pieces)
            found += all_lines(made)
        wanted += text.split("\n")[:-1]
        made.close()
    assert found == [line.rstrip("\r") for line in wanted if line.strip()]


def test_a_position_that_the_disk_does_not_take_stops_no_row(tmp_path: Path) -> None:
    with SmallDisk(tmp_path / "disk") as disk:
        made = follow(disk.folder, ("a",))
        made.path = tmp_path / "press.csv"
        made.config = FilesConfig(made.path, tail=True, poll=Positive(0), start="begin")
        made.write("a\n" + "".join(f"{i}\n" for i in range(100_000)))  # more than is read at once
        disk.read_only()
        assert made.look()[-1] == [99_999]
        assert "Read-only file system" in made.host.problems["position"]
        disk.writable()
        made.look()
        assert "position" not in made.host.problems and made.look() == []


def test_symbolic_link_to_the_current_file_is_followed_when_it_points_to_another(tmp_path: Path) -> None:
    made, today, tomorrow = follow(tmp_path, ("a",), start="begin"), tmp_path / "day1", tmp_path / "day2"
    today.write_text("a\n1\n")
    made.path.symlink_to(today)
    reader = tail(made.path, tmp_path / "p")
    assert all_lines(reader) == ["1"] and made.look() == [[1]]
    with today.open("a") as file:
        file.write("2\n")
    tomorrow.write_text("a\n3\n")
    made.path.unlink()
    made.path.symlink_to(tomorrow)
    assert all_lines(reader) == ["2", "3"]
    reader.close()
    assert made.look()[-1] == [3]


def test_file_that_nobody_may_read_says_so_and_heals(tmp_path: Path) -> None:
    """As Excel and some loggers lock it."""
    if os.geteuid() == 0:
        pytest.skip("root may read everything")
    made = follow(tmp_path, ("a",), start="begin")
    made.write("a\n1\n")
    made.path.chmod(0)
    with pytest.raises(UnreachableError, match="cannot be read: Permission denied"):
        made.look()
    assert "cannot be read" in FilesSource("csv", made.config).check(["a"])[0]
    made.path.chmod(0o600)
    assert made.look() == [[1]]
