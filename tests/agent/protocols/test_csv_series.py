# SPDX-License-Identifier: Apache-2.0
"""A new file each day: which files, in which order, over restarts, without losing or repeating a row."""

from __future__ import annotations

import gzip
import os
import sys
import tracemalloc
from collections.abc import Iterator
from pathlib import Path

import pytest
from fedge_agent.protocols.csv import listing, series
from fedge_agent.protocols.csv.faults import Faults
from fedge_agent.protocols.csv.form import TableForm
from fedge_models.errors import DataError


class Counted:
    def __init__(self) -> None:
        self.kinds: list[str] = []

    def __call__(self, what: str, by: int = 1, example: str = "") -> None:
        self.kinds.append(what)


OPEN: list[series.Series] = []


@pytest.fixture(autouse=True)
def closed() -> Iterator[None]:
    """Close what a test has opened."""
    yield
    while OPEN:
        OPEN.pop().close()


def begin(folder: Path, from_end: bool = False, counted: Counted | None = None) -> series.Series:
    faults = Faults(counted or Counted())
    OPEN.append(series.Series(folder / "log_*.csv", folder / "position", from_end, TableForm(), faults))
    return OPEN[-1]


def rows(made: series.Series) -> list[str]:
    """What can be read now, the position stored after each look."""
    found: list[str] = []
    while lines := made.lines():
        found += lines
        made.save()
    made.save()
    return found


def write(folder: Path, day: str, text: str, mode: str = "a") -> Path:
    path = folder / f"log_{day}.csv"
    with path.open(mode) as file:
        file.write(text)
    return path


def test_names_sort_as_people_sort_days_and_numbers() -> None:
    for names in (
        ["log_9.csv", "log_10.csv", "log_100.csv"],
        ["log_2026-09-30.csv", "log_2026-10-01.csv"],
        ["log_30.09.2026.csv", "log_01.10.2026.csv", "log_02.01.2027.csv"],
        ["24-11-2026", "01-12-2026"],
    ):
        mixed = names[::-1]
        assert sorted(mixed, key=listing.name_key) == names
    month_first = ["log_11-24-2026.csv", "log_12-01-2026.csv"]
    mixed = month_first[::-1]
    assert sorted(mixed, key=lambda n: listing.name_key(n, True)) == month_first


def test_files_are_read_in_order_and_followed_into_the_next_day(tmp_path: Path) -> None:
    made = begin(tmp_path)
    assert rows(made) == []
    write(tmp_path, "2026-11-24", "t,a\n1,1\n")
    write(tmp_path, "2026-11-23", "t,a\n0,0\n")
    assert rows(made) == ["0,0", "1,1"]
    write(tmp_path, "2026-11-24", "2,2\n3,")
    assert rows(made) == ["2,2"]
    write(tmp_path, "2026-11-24", "3\n4,4")  # its last line will never end
    assert rows(made) == ["3,3"]
    write(tmp_path, "2026-11-25", "t,a\n5,5\n")
    assert rows(made) == ["4,4", "5,5"]


@pytest.mark.parametrize("gone", [False, True])
def test_restart_resumes_in_its_file_or_in_the_next_one(tmp_path: Path, gone: bool) -> None:
    write(tmp_path, "2026-11-24", "t,a\n1,1\n")
    made = begin(tmp_path)
    assert rows(made) == ["1,1"]
    made.close()
    if gone:
        (tmp_path / "log_2026-11-24.csv").unlink()
    else:
        write(tmp_path, "2026-11-24", "2,2\n")
    for day in (25, 26, 27):
        write(tmp_path, f"2026-11-{day}", f"t,a\n{day},0\n")
    again = begin(tmp_path)
    assert rows(again) == [*([] if gone else ["2,2"]), "25,0", "26,0", "27,0"]
    again.close()
    assert rows(begin(tmp_path)) == []


def test_removed_file_is_waited_for_until_the_next_one_comes(tmp_path: Path) -> None:
    path = write(tmp_path, "1", "t,a\n1,1\n")
    made = begin(tmp_path)
    assert rows(made) == ["1,1"]
    path.unlink()
    assert rows(made) == []
    made.close()
    assert rows(again := begin(tmp_path)) == []
    write(tmp_path, "2", "t,a\n2,2\n")
    assert rows(made) == ["2,2"] and rows(again) == ["2,2"]


def test_from_the_end_only_of_the_newest_file_that_is_there_first(tmp_path: Path) -> None:
    write(tmp_path, "1", "t,a\n1,1\n")
    write(tmp_path, "2", "t,a\n2,2\n")
    made = begin(tmp_path, from_end=True)
    assert rows(made) == []
    write(tmp_path, "2", "3,3\n")
    write(tmp_path, "3", "t,a\n4,4\n")
    assert rows(made) == ["3,3", "4,4"]


def test_rows_that_come_into_a_file_that_was_left_are_counted(tmp_path: Path) -> None:
    counted = Counted()
    write(tmp_path, "1", "t,a\n1,1\n")
    write(tmp_path, "2", "t,a\n2,2\n")
    made = begin(tmp_path, counted=counted)
    assert rows(made) == ["1,1", "2,2"]
    write(tmp_path, "1", "9,9\n")
    assert rows(made) == [] and counted.kinds == ["bytes written to a file after the next one had begun"]
    rows(made)
    assert len(counted.kinds) == 1


def test_header_of_the_next_file_may_differ(tmp_path: Path) -> None:
    write(tmp_path, "1", "t,a\n1,1\n")
    write(tmp_path, "2", "a,t\n2,2\n")
    made = begin(tmp_path)
    assert made.lines() == ["1,1"] and made.current is not None and made.current.at.header == "t,a"
    assert made.lines() == ["2,2"] and made.current.at.header == "a,t"


def test_file_that_comes_with_an_earlier_name_or_as_a_workbook_is_counted(tmp_path: Path) -> None:
    counted = Counted()
    write(tmp_path, "0", "t,a\n0,0\n")
    write(tmp_path, "5", "t,a\n5,5\n")
    made = begin(tmp_path, from_end=True, counted=counted)
    assert rows(made) == [] and counted.kinds == []
    write(tmp_path, "4", "t,a\n4,4\n")
    assert rows(made) == [] and counted.kinds == ["files whose names come before the one that is read"]
    (tmp_path / "log_6.csv.gz").write_bytes(b"")
    assert rows(made) == [] and len(counted.kinds) == 1  # the pattern is of .csv
    os.utime(tmp_path / "log_0.csv")
    assert rows(made) == []
    every = series.Series(tmp_path / "log_*", tmp_path / "p", True, TableForm(), Faults(counted))
    OPEN.append(every)
    assert rows(every) == []
    (tmp_path / "log_7.xlsx").write_bytes(b"")
    (tmp_path / "log_0.csv").rename(tmp_path / "log_0.csv.gz")  # packed after it was read: the same file
    assert rows(every) == [] and counted.kinds[1:] == ["workbooks that came and cannot be followed"]


def pack(path: Path) -> Path:
    """Compress a file as logrotate does."""
    packed = path.with_name(f"{path.name}.gz")
    packed.write_bytes(gzip.compress(path.read_bytes()))
    path.unlink()
    return packed


@pytest.mark.parametrize("at", ["never read", "half read", "read"])
@pytest.mark.parametrize("restart", [False, True])
def test_days_that_were_compressed_are_read_once(tmp_path: Path, at: str, restart: bool) -> None:
    pattern = tmp_path / "log_*"
    write(tmp_path, "1", "t,a\n1,1\n")
    write(tmp_path, "2", "t,a\n2,2\n" + ("3,3" if at == "half read" else ""))
    pack(tmp_path / "log_1.csv")
    counted = Counted()
    made = series.Series(pattern, tmp_path / "p", False, TableForm(), Faults(counted))
    OPEN.append(made)
    if at != "never read":
        assert rows(made) == ["1,1", "2,2"]
        made.save()
    if restart:
        made.close()
        made = series.Series(pattern, tmp_path / "p", False, TableForm(), Faults(counted))
        OPEN.append(made)
    pack(tmp_path / "log_2.csv")
    write(tmp_path, "4", "t,a\n4,4\n")
    old = {"never read": ["1,1", "2,2"], "half read": ["3,3"], "read": []}[at]
    assert rows(made) == [*old, "4,4"]
    pack(tmp_path / "log_4.csv")
    write(tmp_path, "5", "t,a\n5,5\n")
    assert rows(made) == ["5,5"] and counted.kinds == []


def test_hundreds_of_days_are_read_without_listing_them_for_each(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for day in range(400):
        write(tmp_path, f"{day}", f"t,a\n{day},{day}\n")
    looks, scandir = [0], os.scandir

    def counted(path: Path) -> object:
        looks[0] += 1
        return scandir(path)

    monkeypatch.setattr(os, "scandir", counted)
    made = begin(tmp_path)
    assert rows(made) == [f"{day},{day}" for day in range(400)] and looks[0] <= 5
    write(tmp_path, "400", "t,a\n400,400\n")
    assert rows(made) == ["400,400"]


def test_a_compressed_day_is_read_in_bounded_memory_and_a_damaged_one_says_so(tmp_path: Path) -> None:
    wanted = [f"{i},{i * 7}" for i in range(200_000)]
    path = tmp_path / "log_1.csv.gz"
    path.write_bytes(gzip.compress(("t,a\n" + "\n".join(wanted)).encode()))
    made = series.Series(tmp_path / "log_*", tmp_path / "p", False, TableForm(), Faults(Counted()))
    OPEN.append(made)
    tracemalloc.start()
    count = 0
    while found := made.lines():
        assert found == wanted[count : count + len(found)]
        count += len(found)
    peak = tracemalloc.get_traced_memory()[1] - sys.getsizeof(wanted)
    tracemalloc.stop()
    assert count == len(wanted) and peak < 16 * 2**20
    (tmp_path / "log_2.csv.gz").write_bytes(path.read_bytes()[:-30])
    with pytest.raises(DataError, match="cannot be unpacked"):
        while made.lines():
            pass


def test_month_first_names_are_continued_after_the_file_is_gone(tmp_path: Path) -> None:
    path = write(tmp_path, "11-24-2026", "t,a\n1,1\n")
    made = begin(tmp_path)
    assert rows(made) == ["1,1"]
    path.unlink()
    write(tmp_path, "12-01-2026", "t,a\n2,2\n")
    assert rows(made) == ["2,2"]
