# SPDX-License-Identifier: Apache-2.0
"""Files that are rotated faster than they are read, and files that always hold the newest rows: each row once."""

from __future__ import annotations

import gzip
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fedge_agent.protocols.csv import tail as tails
from fedge_agent.protocols.csv.faults import Faults
from fedge_agent.protocols.csv.form import TableForm
from fedge_agent.protocols.csv.opened import open_file
from fedge_agent.protocols.csv.rotated import Rotation
from fedge_agent.sources.files import FilesSource
from fedge_agent.sources.files_config import FilesConfig
from fedge_models.system.settings import Positive
from support.recording_host import RecordingHost

HEADER = "t,a\n"
READ_BEFORE = "rows that were read before, in a file written anew"


def rows(begin: int, end: int) -> str:
    return "".join(f"2026-11-24T{8 + i // 3600:02}:{i // 60 % 60:02}:{i % 60:02}Z,{i}\n" for i in range(begin, end))


class Running:
    """A tail that goes on reading, and what it counted."""

    def __init__(self, folder: Path, timed: bool = True) -> None:
        self.path, self.counts = folder / "press.csv", dict[str, int]()
        form = TableForm(time_column="t" if timed else "")
        self.tail = tails.Tail(self.path, folder / "position", False, form, Faults(self._count))

    def _count(self, what: str, by: int = 1, example: str = "") -> None:
        self.counts[what] = self.counts.get(what, 0) + by

    def look(self) -> list[int]:
        """The values of all rows that are new: a rotation takes some polls without any."""
        found: list[str] = []
        quiet = 0
        while quiet < 8:
            new = self.tail.lines()
            quiet = 0 if new else quiet + 1
            found += new
        return [int(line.rpartition(",")[2]) for line in found]


@pytest.fixture
def made(tmp_path: Path) -> Iterator[Running]:
    running = Running(tmp_path)
    yield running
    running.tail.close()


def started(folder: Path, **keys: Any) -> tuple[list[float], RecordingHost]:
    """The values that one start of the source reads, and its host."""
    host = RecordingHost(folder)
    left = [10]

    def wait(timeout: float | None = None) -> bool:
        left[0] -= 1
        if left[0] <= 0:
            host.stop.set()
        return host.stop.is_set()

    host.stop.wait = wait  # type: ignore[method-assign]
    config = FilesConfig(folder / "press.csv", tail=True, start="begin", poll=Positive(0), time_column="t", **keys)
    FilesSource("csv", config).run(["a"], host)
    return [float(r.value) for r in host.readings], host


NAMES = {
    "numbers that rise with age": ["press.csv.3", "press.csv.2", "press.csv.1"],
    "numbers that fall with age": ["press.csv.0", "press.csv.1", "press.csv.2"],
    "days": ["press.csv-20261122", "press.csv-20261123", "press.csv-20261124"],
    "days before the extension": ["press_2026-11-22.csv", "press_2026-11-23.csv", "press_2026-11-24.csv"],
    "compressed": ["press.csv.3.gz", "press.csv.2.gz", "press.csv.1"],
}


def rotate(folder: Path, name: str, text: str) -> None:
    """Write a file that was rotated away; the first one is what is there, which goes on."""
    here = folder / "press.csv"
    if here.exists():
        with here.open("a") as file:
            file.write(text)
        here.rename(folder / name.removesuffix(".gz"))
    else:
        (folder / name.removesuffix(".gz")).write_text(HEADER + text)
    if name.endswith(".gz"):
        plain = folder / name.removesuffix(".gz")
        (folder / name).write_bytes(gzip.compress(plain.read_bytes()))
        plain.unlink()


@pytest.mark.parametrize("names", NAMES)
@pytest.mark.parametrize("running", [True, False])
def test_files_that_were_rotated_away_before_they_were_read_are_read_in_order(
    tmp_path: Path, made: Running, names: str, running: bool
) -> None:
    path = tmp_path / "press.csv"
    path.write_text(HEADER + rows(0, 5))
    assert made.look() == list(range(5)) if running else started(tmp_path)[0] == list(range(5))
    for i, name in enumerate(NAMES[names]):
        rotate(tmp_path, name, rows(5 + 10 * i, 15 + 10 * i))
    (tmp_path / "press_2.csv").write_text(HEADER + rows(7, 40))  # of another machine
    path.write_text(HEADER + rows(35, 40))
    if running:
        assert made.look() == list(range(5, 40)) and not made.counts and not made.tail.lost
    else:
        found, host = started(tmp_path)
        assert found == list(range(5, 40)) and not host.problems and not host.counts
        assert started(tmp_path)[0] == []


def test_files_that_are_rotated_before_the_first_row_are_read(tmp_path: Path, made: Running) -> None:
    made.path.write_text(HEADER)
    assert made.look() == []
    for i in range(6):
        made.path.rename(tmp_path / f"press.csv.{i}")
        made.path.write_text(HEADER + rows(10 * i, 10 * i + 10))
    assert made.look() == list(range(60))
    made.path.rename(tmp_path / "press.csv.6")
    made.path.write_text(HEADER + rows(60, 70))
    assert made.look() == list(range(60, 70))


@pytest.mark.parametrize("which", ["the next one", "the one that was read", "one of numbers"])
def test_rows_that_nobody_can_find_are_a_problem(tmp_path: Path, which: str) -> None:
    path = tmp_path / "press.csv"
    path.write_text(HEADER + rows(0, 5))
    assert started(tmp_path)[0] == [0, 1, 2, 3, 4]
    if which == "the one that was read":
        path.unlink()
    elif which == "the next one":
        rotate(tmp_path, "press.csv.2", rows(5, 15))
    else:
        rotate(tmp_path, "press.csv.3", rows(5, 15))
        (tmp_path / "press.csv.1").write_text(HEADER + rows(30, 40))
    path.write_text(HEADER + rows(40, 45))
    found, host = started(tmp_path)
    assert found[-5:] == [40, 41, 42, 43, 44]
    last = "08:00:04" if which == "the one that was read" else "08:00:14"
    first = "08:00:30" if which == "one of numbers" else "08:00:40"
    assert f"rows between 2026-11-24 {last} and 2026-11-24 {first} were never seen" in host.problems["rows"]
    assert host.counts["stretches of rows that were never seen"] == 1


@pytest.mark.parametrize("how", ["replaced", "in place", "in two parts"])
def test_a_file_that_always_has_the_newest_rows_gives_each_row_once(tmp_path: Path, made: Running, how: str) -> None:
    made.path.write_text(HEADER + rows(0, 50))
    found = made.look()
    for begin in (10, 20, 30, 35, 80, 130, 140):
        text = HEADER + rows(begin, begin + 50)
        if how == "replaced":
            (tmp_path / "new").write_text(text)
            (tmp_path / "new").replace(made.path)
        elif how == "in place":
            made.path.write_text(text)
        else:
            made.path.write_text(text[:200])
            found += made.look()
            made.path.write_text(text)
        found += made.look()
    assert found == list(range(190)) and set(made.counts) <= {READ_BEFORE}


def test_a_file_of_the_newest_rows_is_read_on_after_a_restart(tmp_path: Path) -> None:
    path, all_rows = tmp_path / "press.csv", list[float]()
    for begin in (0, 10, 20, 40):
        path.write_text(HEADER + rows(begin, begin + 50))
        found, host = started(tmp_path)
        all_rows += found
        assert not host.problems
    assert all_rows == list(range(90))
    path.write_text(HEADER + rows(120, 170))
    found, host = started(tmp_path)
    assert found == list(range(120, 170)) and "08:01:29 and 2026-11-24 08:02:00" in host.problems["rows"]


def test_a_file_of_a_fixed_length_that_is_written_over_from_its_start_gives_each_row_once(
    tmp_path: Path, made: Running
) -> None:
    made.path.write_text(HEADER + rows(100, 160))
    found, length = made.look(), len(rows(100, 101))
    with made.path.open("r+b", buffering=0) as file:
        file.seek(len(HEADER))
        for i in range(160, 200):
            if i == 180:
                found += made.look()
            before = made.path.stat().st_mtime_ns
            while made.path.stat().st_mtime_ns == before:  # a coarse clock of the file system
                file.seek(len(HEADER) + (i - 160) * length)
                file.write(rows(i, i + 1).encode())
    assert found + made.look() == list(range(100, 200))
    made.path.touch()
    assert made.look() == []


def test_rows_without_a_time_may_be_alike(tmp_path: Path) -> None:
    made = Running(tmp_path, timed=False)
    made.path.write_text("a\n1\n2\n")
    assert made.look() == [1, 2]
    made.path.write_text("a\n1\n")
    assert made.look() == [1]
    made.tail.close()


def test_what_was_written_before_a_copy_and_a_cut_is_read_in_the_copy(tmp_path: Path, made: Running) -> None:
    made.path.write_text(HEADER + rows(0, 20))
    assert made.look() == list(range(20))
    with made.path.open("a") as file:
        file.write(rows(20, 30))
    (tmp_path / "press.csv.1").write_bytes(made.path.read_bytes())
    made.path.write_text(HEADER + rows(30, 35))
    assert made.look() == list(range(20, 35))


def test_a_file_that_is_removed_when_it_was_read_and_comes_later_has_lost_no_row(tmp_path: Path, made: Running) -> None:
    made.path.write_text(HEADER + rows(0, 5))
    assert made.look() == [0, 1, 2, 3, 4]
    made.path.unlink()
    assert made.tail.lines() == []
    with pytest.raises(FileNotFoundError):
        made.tail.lines()
    made.path.write_text(HEADER + rows(9, 12))
    assert made.look() == [9, 10, 11] and not made.tail.lost


def copied(folder: Path, text: str) -> None:
    """Rotate as logrotate does with copytruncate: earlier copies move on, the file is copied and cut, text follows."""
    for i in range(8, 0, -1):
        if (old := folder / f"press.csv.{i}").exists():
            old.rename(folder / f"press.csv.{i + 1}")
    path = folder / "press.csv"
    (folder / "press.csv.1").write_bytes(path.read_bytes())
    path.write_text(text)


@pytest.mark.parametrize("seen", ["", HEADER])
def test_a_copy_that_is_cut_twice_around_one_look_loses_no_row(tmp_path: Path, made: Running, seen: str) -> None:
    """The look sees the file when it is empty, or has only its header: those bytes are in every copy."""
    made.path.write_text(HEADER + rows(0, 20))
    assert made.look() == list(range(20))
    copied(tmp_path, seen)
    assert made.look() == []
    made.path.write_text(HEADER + rows(20, 40))
    copied(tmp_path, HEADER + rows(40, 50))
    copied(tmp_path, HEADER + rows(50, 70))
    assert made.look() == list(range(20, 70))
    with made.path.open("a") as file:
        file.write(rows(70, 75))
    assert made.look() == list(range(70, 75)) and not made.counts and not made.tail.lost


@pytest.mark.parametrize("number", [3, 7])
def test_a_file_that_was_read_is_found_behind_many_that_were_compressed_since(tmp_path: Path, number: int) -> None:
    path = tmp_path / "press.csv"
    path.write_text(HEADER + rows(0, 5))
    assert started(tmp_path)[0] == [0, 1, 2, 3, 4]
    for i in range(number):
        rotate(tmp_path, f"press.csv.{number - i}.gz", rows(5 + 10 * i, 15 + 10 * i))
    path.write_text(HEADER + rows(5 + 10 * number, 10 + 10 * number))
    found, host = started(tmp_path)
    assert found == list(range(5, 10 + 10 * number)) and not host.problems and not host.counts


@pytest.mark.parametrize("how", ["copied", "renamed", "compressed"])
def test_files_that_were_rotated_while_only_a_header_had_been_read_are_read_after_a_restart(
    tmp_path: Path, how: str
) -> None:
    """The position stands behind the header: those bytes are in every file."""
    path, running = tmp_path / "press.csv", Running(tmp_path)
    path.write_text(HEADER + rows(0, 20))
    assert running.look() == list(range(20))
    copied(tmp_path, HEADER)
    assert running.look() == []
    running.tail.save()
    running.tail.close()
    if how == "copied":
        path.write_text(HEADER + rows(20, 40))
        copied(tmp_path, HEADER + rows(40, 50))
        copied(tmp_path, HEADER + rows(50, 70))
    else:
        end = ".gz" if how == "compressed" else ""
        rotate(tmp_path, f"press.csv.2{end}", rows(20, 40))
        rotate(tmp_path, f"press.csv.1{end}", rows(40, 50))
        path.write_text(HEADER + rows(50, 70))
    running = Running(tmp_path)
    assert running.look() == list(range(20, 70)) and not running.tail.lost
    running.tail.close()


def test_a_position_of_an_earlier_version_is_whole() -> None:
    before = b'{"inode":5,"offset":7,"mark":"eHk=","header":"t,a","name":"","columns":null,"check":3679598452}'
    found = tails.parse_position(before)
    assert found is not None and found.offset == 7 and found.last_ns is None
    assert tails.parse_position(before.replace(b'"offset":7', b'"offset":8')) is None


def test_a_file_that_is_renamed_during_the_look_is_not_passed_over(tmp_path: Path) -> None:
    path, begins = tmp_path / "press.csv", {"20": 20, "30": 30, "40": 40}
    for name, text in (("", "40"), (".1", "30"), (".2", "20"), (".3", "10")):
        (tmp_path / f"press.csv{name}").write_text(text)
    looks = list[Path]()

    def begin(of: Path) -> int | None:
        if not looks:  # the rotation goes on: what was .2 is .3 now
            for i in (3, 2, 1):
                (tmp_path / f"press.csv.{i}").rename(tmp_path / f"press.csv.{i + 1}")
        looks.append(of)
        return begins.get(of.read_text()) if of.exists() else None

    read = open_file(tmp_path / "press.csv.3")
    found, _ = Rotation(path, True, begin).next(read, 15)
    assert found is not None and found.pread(2, 0) == b"20"
    found.close()
    read.close()


def test_a_copy_that_is_cut_between_the_end_of_a_file_and_the_first_look_at_the_next_one_loses_no_row(
    tmp_path: Path, made: Running
) -> None:
    made.path.write_text(HEADER + rows(0, 20))
    assert made.look() == list(range(20))
    copied(tmp_path, HEADER + rows(20, 30))
    while made.tail.at.offset:  # until the file that was read is left
        assert made.tail.lines() == []
    with made.path.open("a") as file:
        file.write(rows(30, 40))
    copied(tmp_path, HEADER + rows(40, 50))
    assert made.look() == list(range(20, 50))
