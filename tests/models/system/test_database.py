# SPDX-License-Identifier: Apache-2.0
"""Opening a database: what SQLite's error code calls damaged is set aside, and nothing else."""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from fedge_models.errors import StorageError
from fedge_models.system import database

SCHEMA = "CREATE TABLE IF NOT EXISTS t (x)"


def filled(path: Path) -> bytes:
    """A sound database of many pages; its bytes."""
    with closing(database.open_database(path, SCHEMA)) as db, database.transaction(db, "t"):
        db.executemany("INSERT INTO t VALUES (?)", [(bytes(900),)] * 100)
    return path.read_bytes()


def aside(folder: Path) -> list[str]:
    return sorted(p.name for p in folder.iterdir() if ".damaged-" in p.name)


@pytest.mark.parametrize("kind", ["no database", "a page overwritten", "cut off", "its header zeroed"])
def test_a_damaged_file_is_set_aside_and_a_new_one_begun(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "store.sqlite"
    whole = filled(path)
    path.write_bytes(
        {
            "no database": b"pages of a manual" * 500,
            "a page overwritten": whole[:4096] + b"\xff" * 8192 + whole[12288:],
            "cut off": whole[: len(whole) // 2],
            "its header zeroed": bytes(100) + whole[100:],
        }[kind]
    )
    with closing(database.open_or_set_aside(path, SCHEMA)) as db:
        assert db.execute("SELECT count(*) FROM t").fetchone() == (0,)
    assert aside(tmp_path) == [database.damaged_before(path)]


def test_a_sound_file_is_never_set_aside(tmp_path: Path) -> None:
    path = tmp_path / "store.sqlite"
    before = filled(path)
    with pytest.raises(StorageError, match="no such column: y"):
        database.open_or_set_aside(path, "CREATE INDEX IF NOT EXISTS i ON t (y)")
    assert aside(tmp_path) == [] and database.damaged_before(path) is None
    assert path.read_bytes()[100:] == before[100:]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anything")
def test_a_file_without_permission_is_not_damaged(tmp_path: Path) -> None:
    path = tmp_path / "store.sqlite"
    filled(path)
    tmp_path.chmod(0o500)
    with pytest.raises(StorageError):
        database.open_or_set_aside(path, SCHEMA)
    tmp_path.chmod(0o700)
    assert aside(tmp_path) == []


def test_a_folder_in_its_place_is_not_damaged(tmp_path: Path) -> None:
    (tmp_path / "store.sqlite").mkdir()
    with pytest.raises(StorageError, match=r"store\.sqlite: cannot be opened"):
        database.open_or_set_aside(tmp_path / "store.sqlite", SCHEMA)
    assert aside(tmp_path) == []


def test_damage_is_recognised_by_the_error_code_and_not_by_the_words(tmp_path: Path) -> None:
    full = sqlite3.OperationalError("database or disk is full")
    assert not database.is_damage(full) and not database.is_damage(OSError("database disk image is malformed"))
    path = tmp_path / "x"
    path.write_bytes(b"no database at all, but long enough to have a header of 100 bytes" * 3)
    with closing(sqlite3.connect(path)) as db, pytest.raises(sqlite3.DatabaseError) as found:
        db.execute("SELECT * FROM sqlite_master")
    assert database.is_damage(found.value)


def test_a_transaction_that_fails_changes_nothing(tmp_path: Path) -> None:
    with closing(database.open_database(tmp_path / "s", SCHEMA)) as db:
        with (
            pytest.raises(StorageError, match="the book cannot be written: no such table"),
            database.transaction(db, "the book"),
        ):
            db.execute("INSERT INTO t VALUES (1)")
            db.execute("INSERT INTO u VALUES (1)")
        assert db.execute("SELECT count(*) FROM t").fetchone() == (0,)
