# SPDX-License-Identifier: Apache-2.0
"""Line breaks inside quotes and carriage returns between rows are read everywhere, and cost no other row."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from fedge_agent.protocols.csv.guess import understand
from fedge_agent.protocols.csv.records import MOST, mended
from fedge_agent.sources.files import FilesSource
from fedge_agent.sources.files_config import FilesConfig
from fedge_agent.types import Quality
from fedge_models.system.settings import Positive
from hypothesis import given, settings
from hypothesis import strategies as st
from support.recording_host import RecordingHost

NOTED = 'time,"temp\n[C]",note\n' + "".join(
    f'2026-11-24 08:00:{i:02},{i},"changed\r\nthe ""oil"", was 5"" low"\n' for i in range(9)
)


def read(path: Path, tags: list[str], looks: int = 4, **keys: Any) -> RecordingHost:
    host = RecordingHost(path.parent)
    left = [looks]

    def wait(timeout: float | None = None) -> bool:
        left[0] -= 1
        if left[0] <= 0:
            host.stop.set()
        return host.stop.is_set()

    host.stop.wait = wait  # type: ignore[method-assign]
    FilesSource("csv", FilesConfig(path=path, start="begin", poll=Positive(0), speed=1e9, **keys)).run(tags, host)
    return host


@pytest.mark.parametrize("tail", [False, True])
def test_rows_with_line_breaks_inside_quotes_are_read_whole(tmp_path: Path, tail: bool) -> None:
    path = tmp_path / "d.csv"
    path.write_text(NOTED, newline="")
    assert understand(path).tags == ["temp [C]"]
    host = read(path, ["temp [C]", "note"], looks=4 if tail else 1000, tail=tail, time_column="time")
    assert [r.value for r in host.readings if r.tag == "temp [C]"] == list(range(9))
    assert {r.value for r in host.readings if r.tag == "note"} == {'changed\nthe "oil", was 5" low'}
    assert not host.counts


def test_row_that_is_written_in_parts_is_waited_for(tmp_path: Path) -> None:
    path, host = tmp_path / "d.csv", RecordingHost(tmp_path)
    path.write_text('a,note\n1,"one\n')
    parts = iter(['two"\n2,x\n', "", "", ""])

    def wait(timeout: float | None = None) -> bool:
        if (text := next(parts, None)) is None:
            host.stop.set()
        else:
            with path.open("a") as file:
                file.write(text)
        return host.stop.is_set()

    host.stop.wait = wait  # type: ignore[method-assign]
    FilesSource("csv", FilesConfig(path=path, tail=True, start="begin", poll=Positive(0))).run(["a", "note"], host)
    assert [r.value for r in host.readings] == [1, "one\ntwo", 2, "x"] and not host.counts


@pytest.mark.parametrize("tail", [False, True])
def test_quote_that_is_never_closed_costs_its_row_alone(tmp_path: Path, tail: bool) -> None:
    path = tmp_path / "d.csv"
    path.write_text('a,b\n1,1\n2,"oops\n' + "".join(f"{i},{i}\n" for i in range(3, 60)))
    host = read(path, ["a", "b"], looks=5 if tail else 1000, tail=tail)
    assert [r.value for r in host.readings if r.tag == "a"] == list(range(1, 60))
    for end in ("3,3\n", '3,3\n4,4" pipe\n'):  # the second closes it in no form of CSV
        path.write_text('a,b\n1,1\n2,"oops\n' + end)
        (tmp_path / "position.json").unlink(missing_ok=True)
        host = read(path, ["a", "b"], looks=5 if tail else 1000, tail=tail)
        assert [r.value for r in host.readings if r.tag == "a"] == [1, 2, 3, 4][: 2 + end.count("\n")]


def test_rows_that_only_a_carriage_return_parts_are_read_and_damage_is_not(tmp_path: Path) -> None:
    path = tmp_path / "d.csv"
    path.write_bytes(b"a,b\n1,1\n2,2\r3,3\r\n4,4\n5,\r5\n6,6\n")
    host = read(path, ["a"], tail=True)
    assert [r.value for r in host.readings] == [1, 2, 3, 4, 6]
    assert dict(host.counts) == {"lines that are no CSV": 1}


CELL = st.text(st.sampled_from('ab1.\n",; '), max_size=6)


@settings(max_examples=200, deadline=None, database=None)
@given(st.lists(st.tuples(CELL, CELL), max_size=12), st.integers(1, 7))
def test_rows_come_out_whole_however_their_lines_are_cut_into_batches(rows: list[tuple[str, str]], size: int) -> None:
    quoted = [",".join('"' + cell.replace('"', '""') + '"' for cell in row) for row in rows]
    lines = "\n".join(quoted).split("\n") if quoted else []
    found: list[str] = []
    rest: list[str] = []
    for i in range(0, len(lines), size):
        made, rest = mended(rest + lines[i : i + size], 2, ",")
        found += made
    assert found + rest == quoted and len(rest) < MOST


def test_gaps_stay_gaps(tmp_path: Path) -> None:
    (tmp_path / "d.csv").write_text('a,note\n,"x\ny"\n1,z\n')
    host = read(tmp_path / "d.csv", ["a"], tail=True)
    assert [r.quality for r in host.readings] == [Quality.BAD, Quality.GOOD]
