# SPDX-License-Identifier: Apache-2.0
"""Which files are which site, and what is said where that is not clear."""

from __future__ import annotations

from pathlib import Path

import pytest
from fedge_fleet.data.site_files import find
from fedge_models.errors import DataError


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    for name in (
        "plant1.csv",
        "plant2.csv.gz",
        "plant10.xlsx",
        "a/press.csv",
        "b/press.csv",
        "line/1.csv",
        "line/2.csv",
    ):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("a,label\n")
    return tmp_path


def test_every_file_is_a_site_by_its_name_in_the_order_of_numbers(folder: Path) -> None:
    assert list(find(["plant*"], pictures=False)) == ["plant1", "plant2", "plant10"]
    assert find([str(folder / "plant1.csv")], pictures=False) == {"plant1": (folder / "plant1.csv",)}


def test_a_folder_is_a_site_of_its_tables_or_of_its_pictures(folder: Path) -> None:
    assert find(["line"], pictures=False) == {"line": (Path("line/1.csv"), Path("line/2.csv"))}
    assert find(["line"], pictures=True) == {"line": (Path("line"),)}


def test_a_name_makes_one_site_of_all_that_its_pattern_matches(folder: Path) -> None:
    found = find(["press=*/press.csv", "plant1.csv"], pictures=False)
    assert found == {"press": (Path("a/press.csv"), Path("b/press.csv")), "plant1": (Path("plant1.csv"),)}


def test_a_file_that_two_patterns_match_counts_once(folder: Path) -> None:
    assert len(find(["plant*", "plant1.csv", "./plant1.csv"], pictures=False)) == 3


def test_characters_that_no_gateway_has_in_its_name_are_replaced(folder: Path) -> None:
    (folder / "Werk 1 (Süd).csv").write_text("a,label\n")
    assert list(find(["Werk*"], pictures=False)) == ["Werk-1-S-d"]


@pytest.mark.parametrize(
    ("patterns", "words"),
    [
        (["plnt*.csv"], r"--data 'plnt\*.csv': matches no file or folder in .*; it has a, b, line, plant1.csv"),
        (["no/such/*.csv"], "matches no file or folder in"),
        (["a/press.csv", "b/press.csv"], r"would both be the site 'press'; name them, .* --data press-1=a/press.csv"),
        (["."], r"is a folder without tables; .* it has 3 folders: --data './\*' takes each as a site"),
    ],
)
def test_what_is_not_clear_is_said_in_words(folder: Path, patterns: list[str], words: str) -> None:
    for name in ("plant1.csv", "plant2.csv.gz", "plant10.xlsx") if patterns == ["."] else ():
        (folder / name).unlink()
    with pytest.raises(DataError, match=words):
        find(patterns, pictures=False)
