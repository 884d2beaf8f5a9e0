# SPDX-License-Identifier: Apache-2.0
"""What a place lacks for a write is said in words, and nothing is left there."""

from __future__ import annotations

import os
import sqlite3
from pathlib import Path

import pytest
from fedge_models.errors import StorageError
from fedge_models.system import database, disk
from fedge_models.system.copies import open_to_read
from fedge_models.system.database import open_database
from support.disks import SmallDisk

SCHEMA = "CREATE TABLE IF NOT EXISTS t (id INTEGER PRIMARY KEY, x)"


@pytest.mark.parametrize("place", [".", "new", "new/deep/er"])
def test_a_folder_that_can_be_made_has_no_problem_and_is_not_made(tmp_path: Path, place: str) -> None:
    before = sorted(tmp_path.rglob("*"))
    assert disk.folder_problem(tmp_path / place) is None
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize("place", ["/proc/fedge", "/proc/self/fd/fedge/deep", "/sys/fedge"])
def test_a_place_that_holds_no_folders(place: str) -> None:
    problem = disk.folder_problem(Path(place))
    assert problem and problem.startswith(place.removesuffix("/deep"))


def test_a_full_disk_says_its_free_bytes(tmp_path: Path) -> None:
    with SmallDisk(tmp_path / "disk") as small:
        assert disk.folder_problem(small.folder) is None
        small.fill()
        assert disk.folder_problem(small.folder / "state") == (
            f"{small.folder}/state: the disk is full: 0 bytes free, expected at least 1,048,576; make room on it"
        )


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs Linux")
def test_sqlites_errors_in_words(tmp_path: Path) -> None:
    path = tmp_path / "x.sqlite"
    path.write_bytes(b"no database" * 1000)
    with pytest.raises(StorageError, match=r"x\.sqlite: cannot be read: the file is damaged \(file is not a database"):
        open_to_read(path, SCHEMA)
    path.unlink()
    with open_database(path, SCHEMA) as db:
        db.execute("BEGIN IMMEDIATE")
        with pytest.raises(sqlite3.OperationalError) as busy:
            sqlite3.connect(path, timeout=0).execute("BEGIN IMMEDIATE")
        assert "another program writes to it" in database.explain(busy.value, path)
        db.execute("ROLLBACK")
    db.close()
    assert database.explain(sqlite3.ProgrammingError("no such thing"), path) == "no such thing"


def test_what_is_read_beside_a_writer_is_not_locked(tmp_path: Path) -> None:
    path = tmp_path / "x.sqlite"
    db = open_database(path, SCHEMA)
    db.execute("INSERT INTO t VALUES (1, 'a')")
    db.execute("BEGIN IMMEDIATE")
    reader = open_to_read(path, SCHEMA)
    assert reader.execute("SELECT x FROM t").fetchall() == [("a",)]
    with pytest.raises(sqlite3.OperationalError, match="readonly"):
        reader.execute("DELETE FROM t")
    reader.close()
    db.close()


@pytest.mark.parametrize("made", ["CREATE TABLE notes (x)", ""])
def test_a_file_of_another_program_or_an_empty_one_is_not_shown_as_ours(tmp_path: Path, made: str) -> None:
    path = tmp_path / "x.sqlite"
    path.touch()
    if made:
        other = sqlite3.connect(path)
        other.execute(made)
        other.close()
    with pytest.raises(StorageError, match="another program" if made else "holds nothing"):
        open_to_read(path, SCHEMA)
    assert os.listdir(tmp_path) == ["x.sqlite"]  # noqa: PTH208
