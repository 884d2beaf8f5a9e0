# SPDX-License-Identifier: Apache-2.0
"""Opening a database: whose it is, and what its errors mean."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

import pytest
from fedge_models.errors import StorageError
from fedge_models.system import database

SCHEMA = "CREATE TABLE IF NOT EXISTS t (x)"


@pytest.mark.parametrize(
    ("made", "words"),
    [
        ("CREATE TABLE notes (x); PRAGMA application_id = 0x12345678", "it belongs to another program; move it away"),
        ("CREATE TABLE notes (x)", "it belongs to another program; move it away"),
        (
            "CREATE TABLE t (x); PRAGMA user_version = 2",
            "a newer version of fedge wrote it: format 2, this version knows up to 1; install that version again",
        ),
        ("CREATE TABLE t (y)", "another version made it: table t has no column x; move it away"),
    ],
)
def test_a_file_of_another_program_or_version_is_refused_and_left_as_it_is(
    tmp_path: Path, made: str, words: str
) -> None:
    path = tmp_path / "store.sqlite"
    with closing(sqlite3.connect(path)) as db:
        db.executescript(made)
    before = path.read_bytes()
    with pytest.raises(StorageError, match=words):
        database.open_database(path, SCHEMA)
    assert path.read_bytes() == before


def test_a_file_of_an_earlier_version_is_ours_and_marked(tmp_path: Path) -> None:
    path = tmp_path / "store.sqlite"
    with closing(sqlite3.connect(path)) as db:
        db.executescript(SCHEMA)
    for _ in range(2):
        with closing(database.open_database(path, SCHEMA)) as db:
            assert db.execute("PRAGMA application_id").fetchone() == (database.APPLICATION,)
            assert db.execute("PRAGMA user_version").fetchone() == (database.FORMAT,)


@pytest.mark.parametrize(("code", "failing"), [(13, True), (8, True), (14, True), (5, False), (11, False), (1, False)])
def test_a_disk_that_takes_nothing_is_told_from_other_errors(code: int, failing: bool) -> None:
    class Coded(sqlite3.OperationalError):
        sqlite_errorcode = code

    assert database.is_disk_failure(Coded("x")) is failing


def test_without_codes_the_texts_of_sqlite_tell_it() -> None:  # Python 3.10
    assert database.is_disk_failure(sqlite3.OperationalError("database or disk is full"))
    assert not database.is_disk_failure(sqlite3.OperationalError("database is locked"))


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
