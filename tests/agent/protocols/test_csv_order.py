# SPDX-License-Identifier: Apache-2.0
"""The order of rows: what cannot be followed is replayed, and check says so with the words of browse."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from fedge_agent.protocols.csv import snippet
from fedge_agent.protocols.csv.guess import understand
from fedge_agent.protocols.csv.order import AGREE, Forward, Order, of_rows
from fedge_agent.sources.files import FilesSource
from fedge_agent.sources.files_config import FilesConfig
from fedge_models.errors import ConfigError
from fedge_models.system import settings as toml

HOUR = 3600 * 10**9
ORDERS: dict[str, tuple[list[int], list[str], Order]] = {
    "forward, with equal times": ([1, 1, 2, 3], [], Order("forward")),
    "newest first": ([9, 8, 7, 7, 6], [], Order("newest first", 1)),
    "an hour again": ([HOUR // 2, HOUR, 9, HOUR // 2, HOUR], [], Order("hour again", 2)),
    "clock set back by a day": ([30 * HOUR, 31 * HOUR, 2 * HOUR, 3 * HOUR], [], Order("unsorted", 2)),
    "mixed": ([1, 5, 2, 6, 3], [], Order("unsorted", 2)),
    "tags of one moment in any order": ([2, 1, 3, 4, 3, 5], ["a", "b", "a", "b", "b", "a"], Order("unsorted", 1)),
    "each tag forward, a little late": ([2, 1, 4, 3], ["a", "b", "a", "b"], Order("forward")),
    "tag by tag": ([*range(20), *range(20)], ["a"] * 20 + ["b"] * 20, Order("tag by tag", 20)),
    "tag by tag, newest first": ([*range(20, 0, -1)] * 2, ["a"] * 20 + ["b"] * 20, Order("newest first", 1)),
}


@pytest.mark.parametrize("name", ORDERS)
def test_order_of_rows(name: str) -> None:
    times, tags, wanted = ORDERS[name]
    assert of_rows(times, tags) == wanted


FORWARD: dict[str, tuple[list[int], list[int]]] = {
    "one time far ahead": ([1, 2, 900, *range(3, 40)], [*range(3, 3 + AGREE)]),
    "a clock that was put back": ([*range(500, 520), *range(40)], [*range(AGREE)]),
    "newest first": ([9, 8, 7, 6, 5, 4], [8, 7, 6, 5, 4]),
    "two writers": ([100, 1, 101, 2, 102, 3, 103, 4, 104, 5, 105, 6], [1, 2, 3, 4, 5, 6]),
    "equal times": ([1, 1, 2, 2], []),
}


@pytest.mark.parametrize("name", FORWARD)
def test_rows_behind_one_wild_time_are_right_again_after_a_few(name: str) -> None:
    times, back = FORWARD[name]
    order = Forward()
    assert [t for t in times if order.goes_back(t)] == back


def at(seconds: int) -> str:
    return f"2026-11-24 08:{seconds // 60:02}:{seconds % 60:02}"


TABLES = {
    "newest first": "time,temp\n" + "".join(f"{at(99 - i)},{i}\n" for i in range(30)),
    "goes tag by tag": "tag,time,value\n" + "".join(f"{t},{at(i)},{i}\n" for t in "xy" for i in range(30)),
    "not in the order": "time,temp\n" + "".join(f"{at(i * 7 % 30)},{i}\n" for i in range(30)),
}


@pytest.mark.parametrize("words", ["newest rows are first", "goes tag by tag", "not in the order"])
def test_browse_writes_what_start_takes_and_check_refuses_to_follow(tmp_path: Path, words: str) -> None:
    path = tmp_path / "e.csv"
    path.write_text(next(text for name, text in TABLES.items() if name.split()[0] in words))
    found = understand(path)
    assert [d for d in found.doubts if words in d and "cannot be followed (tail)" in d]
    (tmp_path / "c.toml").write_text("\n".join(snippet.lines(path, found, "e")))
    table = toml.read(tmp_path / "c.toml")["source"]["e"]
    assert table.pop("type") == "files" and "tail" not in table
    keys: dict[str, Any] = {**table, "path": path}
    assert FilesSource("e", FilesConfig(**keys)).check(found.tags) == []
    said = FilesSource("e", FilesConfig(**keys, tail=True)).check(found.tags)
    assert len(said) == 1 and words in said[0] and "Without tail, it is sorted and replayed" in said[0]


def test_hour_that_comes_again_asks_for_the_zone(tmp_path: Path) -> None:
    path = tmp_path / "e.csv"
    rows = [f"25.10.2026 02:{m:02}:00;{m}\n" for m in [*range(0, 60, 10)] * 2]
    path.write_text("Zeit;T\n" + "".join(rows))
    found = understand(path)
    assert [d for d in found.doubts if "has an hour again at '25.10.2026 02:00:00'" in d and "say time_zone" in d]
    keys: dict[str, Any] = {"time_column": "Zeit", "time_format": "%d.%m.%Y %H:%M:%S", "tail": True}
    assert "if clocks were set back there, say time_zone" in FilesSource("e", FilesConfig(path, **keys)).check(["T"])[0]
    assert FilesSource("e", FilesConfig(path, **keys, time_zone="Europe/Berlin")).check(["T"]) == []


def test_table_without_rows_is_followed_and_one_without_numbers_is_none(tmp_path: Path) -> None:
    path = tmp_path / "e.csv"
    path.write_text("Zeit;temp;press;\n")
    found = understand(path)
    assert found.tags == ["temp", "press"] and found.form.time_column == "Zeit"
    written = "\n".join(snippet.lines(path, found, "e"))
    assert "\ntail = true" in written and "has a header and no rows" in written and "channels.press" in written
    path.write_text("a word\nand another\nand one more\n")
    with pytest.raises(ConfigError, match="no column has numbers or times"):
        understand(path)


@pytest.mark.parametrize("header", ["t,a,b", "t,a,b,", "t,a,b,,"])
@pytest.mark.parametrize("behind", ["", ",", ",,"])
def test_delimiters_at_the_ends_of_lines_cost_no_name(tmp_path: Path, header: str, behind: str) -> None:
    path = tmp_path / "e.csv"
    path.write_text(f"{header}\n" + "".join(f"{at(i)},{i},1.5{behind}\n" for i in range(9)))
    found = understand(path)
    assert found.tags == ["a", "b"] and not found.form.columns
    assert FilesSource("e", FilesConfig(path, time_column="t", tail=True)).check(["a", "b"]) == []
