# SPDX-License-Identifier: Apache-2.0
"""A database that goes on: set aside only when it is damaged, continued in memory while the disk takes nothing."""

from __future__ import annotations

import errno
import os
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from pathlib import Path

import pytest
from fedge_models.errors import StorageError
from fedge_models.system import damage, database_file, healing
from fedge_models.system.healing import HealingDatabase
from fedge_models.system.moved import MovedError
from support.at_end import AtEnd
from support.databases import Disk, locked, rows
from support.disks import SmallDisk
from support.rights import as_nobody, folder_of_nobody

SCHEMA = "CREATE TABLE IF NOT EXISTS t (id INTEGER PRIMARY KEY, x); CREATE TABLE IF NOT EXISTS k (key PRIMARY KEY, x)"
MANY = 400


@pytest.fixture
def tried_at_once(monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Call it when the disk has healed."""
    return lambda: monkeypatch.setattr(healing, "TRY_S", 0.0)


@pytest.fixture
def opened(at_end: AtEnd) -> Callable[..., HealingDatabase]:
    def make(path: Path, **options: object) -> HealingDatabase:
        return at_end(HealingDatabase(path, SCHEMA, "the store", **options))  # type: ignore[arg-type]

    return make


def filled(path: Path, count: int = MANY) -> bytes:
    """A sound database of many pages; its bytes."""
    with closing(HealingDatabase(path, SCHEMA, "the store")) as db, db.transaction() as to:
        to.executemany("INSERT INTO t (x) VALUES (?)", [(f"{i:04}" * 200,) for i in range(count)])
    return path.read_bytes()


def aside(folder: Path) -> list[str]:
    return sorted(p.name for p in folder.iterdir() if p.name.rpartition(".damaged-")[2].isdigit())


def ids(db: HealingDatabase) -> list[int]:
    return [number for (number,) in db.rows("SELECT id FROM t ORDER BY id")]


KINDS: dict[str, Callable[[bytes], bytes]] = {
    "no database": lambda _: b"pages of a manual" * 500,
    "a page overwritten": lambda whole: whole[: 4096 * 20] + b"\xff" * 8192 + whole[4096 * 22 :],
    "cut off": lambda whole: whole[: len(whole) // 2],
    "its header zeroed": lambda whole: bytes(100) + whole[100:],
    "a byte of its tables": lambda whole: whole[:4200] + b"\xee" + whole[4201:],
}


@pytest.mark.parametrize("kind", KINDS)
def test_a_damaged_file_is_set_aside_said_and_a_new_one_begun(
    tmp_path: Path, opened: Callable[..., HealingDatabase], kind: str
) -> None:
    path = tmp_path / "store.sqlite"
    path.write_bytes(damaged := KINDS[kind](filled(path)))
    db = opened(path)
    with db.transaction() as to:
        to.execute("INSERT INTO k VALUES ('new', 1)")
    if kind == "a byte of its tables" and not aside(tmp_path):
        assert len(ids(db)) == MANY  # SQLite has no use for that byte
        return
    assert aside(tmp_path) == [damage.before(path)] and (tmp_path / aside(tmp_path)[0]).read_bytes() == damaged
    assert ["store.sqlite was damaged: " in line for line in damage.reports(tmp_path)] == [True]
    assert db.problem is None


def test_rows_on_sound_pages_are_saved(tmp_path: Path, opened: Callable[..., HealingDatabase]) -> None:
    path = tmp_path / "store.sqlite"
    path.write_bytes(KINDS["a page overwritten"](filled(path)))
    found = ids(opened(path))
    assert MANY - 20 < len(found) < MANY and found[0] == 1 and found[-1] == MANY
    assert f"{len(found)} t" in damage.reports(tmp_path)[0]


def test_damage_that_shows_while_it_runs_is_healed_too(
    tmp_path: Path, opened: Callable[..., HealingDatabase], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database_file, "CHECK_S", -1.0)  # the check at the start is over before it has found anything
    monkeypatch.setattr(database_file, "STEPS", 1)
    path = tmp_path / "store.sqlite"
    path.write_bytes(KINDS["a page overwritten"](filled(path)))
    db = opened(path)
    assert aside(tmp_path) == []
    assert MANY - 20 < len(ids(db)) < MANY
    assert len(aside(tmp_path)) == 1
    with pytest.raises(MovedError), db.transaction() as to:  # as the next damage would
        raise sqlite3.DatabaseError("database disk image is malformed")
    assert len(aside(tmp_path)) == 2 and to


def test_both_connections_of_a_process_go_to_the_new_file(
    tmp_path: Path, opened: Callable[..., HealingDatabase]
) -> None:
    path = tmp_path / "store.sqlite"
    one = opened(path)
    other = opened(path, beside=one)
    with one.transaction() as to:
        to.execute("INSERT INTO t VALUES (1, 'x')")
    with pytest.raises(MovedError), other.reading():
        raise sqlite3.DatabaseError("database disk image is malformed")
    for number, db in ((2, one), (3, other), (4, one)):
        db.run("INSERT INTO t VALUES (?, 'x')", number)
    one.close()
    other.close()
    assert rows(path, "SELECT id FROM t ORDER BY id") == [(1,), (2,), (3,), (4,)]  # row 1: from the log set aside


def test_a_log_is_set_aside_with_its_file_and_read(tmp_path: Path, opened: Callable[..., HealingDatabase]) -> None:
    path = tmp_path / "store.sqlite"
    db = opened(path)
    db.run("INSERT INTO t VALUES (1, 'only in the log')")
    log = path.with_name("store.sqlite-wal").read_bytes()
    whole = path.read_bytes()
    db.close()
    path.write_bytes(whole[:50] + b"\xff" * 20 + whole[70:])
    path.with_name("store.sqlite-wal").write_bytes(log)
    opened(path).run("INSERT INTO t VALUES (2, 'new')")
    assert all((tmp_path / f"{name}-wal").exists() for name in aside(tmp_path))


def test_a_second_process_leaves_a_damaged_file_to_the_agent(
    tmp_path: Path, opened: Callable[..., HealingDatabase]
) -> None:
    path = tmp_path / "store.sqlite"
    path.write_bytes(damaged := b"no database" * 1000)
    db = opened(path, heals=False)
    with pytest.raises(StorageError, match=r"file is not a database\); the agent sets it aside"):
        db.rows("SELECT * FROM t")
    assert path.read_bytes() == damaged and aside(tmp_path) == []


def test_only_the_newest_are_kept(tmp_path: Path, opened: Callable[..., HealingDatabase]) -> None:
    path = tmp_path / "store.sqlite"
    for i in range(damage.MOST + 2):
        path.write_bytes(b"%d is no database" % i * 1000)
        opened(path).close()
    assert len(aside(tmp_path)) == damage.MOST
    assert (tmp_path / aside(tmp_path)[-1]).read_bytes().startswith(b"4 is")


@pytest.mark.parametrize("made", ["CREATE TABLE notes (x)", "CREATE TABLE t (y)"])
def test_a_file_of_another_program_is_never_touched(
    tmp_path: Path, opened: Callable[..., HealingDatabase], made: str
) -> None:
    path = tmp_path / "store.sqlite"
    with closing(sqlite3.connect(path)) as other:
        other.execute(made)
    before = path.read_bytes()
    db = opened(path, memory=True)
    db.run("INSERT INTO t (x) VALUES (1)")
    assert db.in_memory and db.problem and "move it away" in db.problem and ids(db) == [1]
    db.close()
    assert path.read_bytes() == before and aside(tmp_path) == []


def test_a_folder_in_its_place_is_not_damaged(
    tmp_path: Path, opened: Callable[..., HealingDatabase], tried_at_once: Callable[[], None]
) -> None:
    (tmp_path / "store.sqlite").mkdir()
    db = opened(tmp_path / "store.sqlite")
    with pytest.raises(StorageError, match=r"store\.sqlite: cannot be opened"):
        ids(db)
    assert aside(tmp_path) == []
    (tmp_path / "store.sqlite").rmdir()
    tried_at_once()
    assert ids(db) == []


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anything")
def test_a_file_without_permission_is_not_damaged(tmp_path: Path, opened: Callable[..., HealingDatabase]) -> None:
    filled(tmp_path / "store.sqlite")
    tmp_path.chmod(0o500)
    with pytest.raises(StorageError):
        opened(tmp_path / "store.sqlite").run("INSERT INTO t VALUES (1, 1)")
    tmp_path.chmod(0o700)
    assert aside(tmp_path) == []


@pytest.mark.parametrize("memory", [True, False])
def test_a_file_that_this_user_may_only_read_is_named_with_the_command_that_helps(
    tried_at_once: Callable[[], None], memory: bool
) -> None:
    tried_at_once()
    with folder_of_nobody() as folder, as_nobody():
        path = folder / "store.sqlite"
        with closing(sqlite3.connect(path)) as made:
            made.executescript(SCHEMA)
        path.chmod(0o400)
        db = HealingDatabase(path, SCHEMA, "s", memory=memory)
        for _ in range(2):  # opened again, without success
            with suppress(StorageError):
                db.run("INSERT INTO t (x) VALUES ('during')")
            assert db.problem and db.in_memory is memory
            assert db.problem.startswith(f"{path}: no permission") and db.problem.count(f"{path}:") == 1
            assert f"sudo chmod u+rwX {path}*" in db.problem and "kernel" not in db.problem
        assert path.stat().st_mode & 0o777 == 0o400 and aside(folder) == []
        path.chmod(0o600)  # not what SQLite left beside it
        db.run("INSERT INTO t (x) VALUES ('after')")
        assert db.problem is None and not db.in_memory
        db.close()
        assert len(rows(path, "SELECT x FROM t")) == (3 if memory else 1)


def test_a_busy_file_is_waited_for_and_never_moved(
    tmp_path: Path, opened: Callable[..., HealingDatabase], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fedge_models.system.database.BUSY_MS", 10)
    db = opened(tmp_path / "store.sqlite", memory=True)
    with locked(tmp_path / "store.sqlite"), pytest.raises(StorageError, match="locked"):
        db.run("INSERT INTO t VALUES (1, 1)")
    assert not db.in_memory and aside(tmp_path) == []
    db.run("INSERT INTO t VALUES (1, 1)")


def test_a_full_disk_is_outlived_in_memory_and_written_when_there_is_room(
    tmp_path: Path, opened: Callable[..., HealingDatabase], disk: Disk, tried_at_once: Callable[[], None]
) -> None:
    db = opened(tmp_path / "store.sqlite", memory=True)
    db.run("INSERT INTO t (x) VALUES (?)", "before")
    disk.fill()
    db.run("INSERT INTO t (x) VALUES (?)", "during" * 2000)
    db.run("DELETE FROM t WHERE x = 'before'")
    assert db.in_memory and db.problem and "full" in db.problem and ids(db) == [2]
    disk.free()
    tried_at_once()
    db.run("INSERT INTO t (x) VALUES (?)", "after")
    assert not db.in_memory and db.problem is None
    assert [n for (n,) in rows(tmp_path / "store.sqlite", "SELECT id FROM t ORDER BY id")] == [2, 3]


def test_without_memory_a_full_disk_is_an_error_that_heals(
    tmp_path: Path, opened: Callable[..., HealingDatabase], disk: Disk, tried_at_once: Callable[[], None]
) -> None:
    db = opened(tmp_path / "store.sqlite")
    disk.fill()
    with pytest.raises(StorageError, match=r"the store cannot be written: the disk .*database or disk is full"):
        db.run("INSERT INTO t (x) VALUES (?)", "x" * 9000)
    assert db.problem
    disk.free()
    tried_at_once()
    db.run("INSERT INTO t (x) VALUES (?)", "x" * 9000)
    assert db.problem is None


MALFORMED = sqlite3.DatabaseError(
    "database disk image is malformed"
)  # what SQLite says of a page that is not read, too


def test_a_file_that_the_disk_does_not_read_is_never_set_aside_and_not_used_until_it_does(
    tmp_path: Path,
    opened: Callable[..., HealingDatabase],
    tried_at_once: Callable[[], None],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def failing(_handle: int, _size: int, _place: int) -> bytes:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    db = opened(tmp_path / "store.sqlite", memory=True)
    db.run("INSERT INTO t (x) VALUES ('before')")
    tried_at_once()
    with monkeypatch.context() as patched:
        patched.setattr(os, "pread", failing)
        with pytest.raises(MovedError, match="the disk does not read the file: Input/output error"), db.reading():
            raise MALFORMED
        for _ in range(3):
            db.run("INSERT INTO t (x) VALUES ('during')")
            assert db.in_memory and "the disk does not read the file" in str(db.problem)
    db.run("INSERT INTO t (x) VALUES ('after')")
    assert not db.in_memory and db.problem is None and aside(tmp_path) == []
    assert [x for (x,) in rows(tmp_path / "store.sqlite", "SELECT x FROM t")] == ["before", *3 * ["during"], "after"]


def test_connections_to_one_file_continue_in_one_memory_and_return_together(
    small: SmallDisk, opened: Callable[..., HealingDatabase], tried_at_once: Callable[[], None]
) -> None:
    small.fill()
    path = small.folder / "store.sqlite"
    one = opened(path, memory=True)
    other = opened(path, beside=one)
    one.run("INSERT INTO t (x) VALUES ('one')")
    other.run("INSERT INTO t (x) VALUES ('other')")
    assert one.in_memory and other.in_memory and one.problem == other.problem is not None
    assert ids(one) == ids(other) == [1, 2]
    small.free()
    tried_at_once()
    other.run("INSERT INTO t (x) VALUES ('after')")
    assert not one.in_memory and one.problem is None and ids(one) == [1, 2, 3]
    other.close()
    one.run("INSERT INTO t (x) VALUES ('alone')")
    assert len(rows(path, "SELECT x FROM t")) == 4


def test_a_disk_that_fails_again_and_again_is_tried_less_often(
    tmp_path: Path, opened: Callable[..., HealingDatabase], disk: Disk, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = [1000.0]
    monkeypatch.setattr("time.monotonic", lambda: clock[0])
    db = opened(tmp_path / "store.sqlite", memory=True)
    waited = list[float]()
    for _ in range(3):
        disk.fill()
        db.run("INSERT INTO t (x) VALUES (?)", "x" * 9000)
        assert db.in_memory
        disk.free()
        began = clock[0]
        while db.in_memory:
            clock[0] += 1.0
            db.run("INSERT INTO t (x) VALUES ('y')")
        waited.append(clock[0] - began)
    assert waited == [healing.TRY_S, 2 * healing.TRY_S, 4 * healing.TRY_S]


def test_a_file_that_is_removed_is_written_again(tmp_path: Path, opened: Callable[..., HealingDatabase]) -> None:
    db = opened(tmp_path / "store.sqlite", memory=True)
    db.run("INSERT INTO t VALUES (1, 'x')")
    (tmp_path / "store.sqlite").unlink()
    db.run("INSERT INTO t VALUES (2, 'x')")
    assert rows(tmp_path / "store.sqlite", "SELECT id FROM t") == [(1,), (2,)]


def test_a_file_that_is_removed_with_what_it_held_is_said(
    tmp_path: Path, opened: Callable[..., HealingDatabase]
) -> None:
    db = opened(tmp_path / "store.sqlite")
    db.run("INSERT INTO t VALUES (1, 'x')")
    (tmp_path / "store.sqlite").unlink()
    db.run("INSERT INTO t VALUES (2, 'x')")
    assert rows(tmp_path / "store.sqlite", "SELECT id FROM t") == [(2,)] and db.renewed == 1
    [said] = damage.reports(tmp_path)
    assert said.startswith("store.sqlite was lost: it was removed; a new one is begun without what it held")


def test_what_is_said_of_a_damaged_file_is_one_line(tmp_path: Path, opened: Callable[..., HealingDatabase]) -> None:
    path = tmp_path / "store.sqlite"
    path.write_bytes(KINDS["a page overwritten"](filled(path)))
    opened(path).rows("SELECT count(*) FROM t")
    assert ["\n" in line for line in damage.reports(tmp_path)] == [False]


@pytest.fixture
def small(tmp_path: Path) -> Iterator[SmallDisk]:
    with SmallDisk(tmp_path / "disk") as made:
        yield made


@pytest.mark.parametrize("log", ["with its log", "closed well"])
def test_a_read_only_disk_is_read_at_the_start_and_outlived(
    small: SmallDisk, opened: Callable[..., HealingDatabase], log: str, tried_at_once: Callable[[], None]
) -> None:
    path = small.folder / "store.sqlite"
    script = f"""
import os
from pathlib import Path
from fedge_models.system.healing import HealingDatabase
db = HealingDatabase(Path({str(path)!r}), {SCHEMA!r}, "s")
db.run("INSERT INTO t VALUES (1, 'before')")
{"os._exit(0)" if log == "with its log" else "db.close()"}"""
    subprocess.run([sys.executable, "-c", script], check=True)
    path.with_name("store.sqlite-shm").unlink(missing_ok=True)
    small.read_only()
    db = opened(path, memory=True)
    db.run("INSERT INTO t VALUES (2, 'during')")
    assert ids(db) == [1, 2] and db.in_memory and db.problem
    small.writable()
    tried_at_once()
    db.run("INSERT INTO t VALUES (3, 'after')")
    assert not db.in_memory and db.problem is None
    assert rows(path, "SELECT id FROM t") == [(1,), (2,), (3,)] and aside(small.folder) == []


def test_a_disk_that_is_full_at_the_start_is_outlived(
    small: SmallDisk, opened: Callable[..., HealingDatabase], tried_at_once: Callable[[], None]
) -> None:
    small.fill()
    db = opened(small.folder / "store.sqlite", memory=True)
    db.run("INSERT INTO t (x) VALUES ('during')")
    assert db.in_memory and db.problem
    small.free()
    tried_at_once()
    db.run("INSERT INTO t (x) VALUES ('after')")
    assert rows(small.folder / "store.sqlite", "SELECT x FROM t") == [("during",), ("after",)]


@pytest.mark.parametrize("memory", [True, False])
def test_a_file_that_was_opened_read_only_is_opened_again(
    small: SmallDisk, opened: Callable[..., HealingDatabase], tried_at_once: Callable[[], None], memory: bool
) -> None:
    path = small.folder / "store.sqlite"
    filled(path, 3)
    with closing(sqlite3.connect(path)) as other:  # a log and its index are there, so that it can be read
        other.execute("UPDATE t SET x = 'log'")
        other.commit()
        path.with_name("kept-wal").write_bytes(path.with_name("store.sqlite-wal").read_bytes())
        path.with_name("kept-shm").write_bytes(path.with_name("store.sqlite-shm").read_bytes())
    for end in ("-wal", "-shm"):
        path.with_name(f"kept{end}").replace(path.with_name(f"store.sqlite{end}"))
    small.read_only()
    db = opened(path, memory=memory)
    other_connection = opened(path, beside=db)
    assert ids(db) == ids(other_connection) == [1, 2, 3] and not db.in_memory
    with suppress(StorageError):
        db.run("INSERT INTO t (x) VALUES ('during')")
    assert db.in_memory is memory and db.problem and "readonly" in db.problem
    tried_at_once()
    for _ in range(3):  # opened again, without success
        assert len(ids(db)) == (4 if memory else 3)
        with suppress(StorageError):
            db.run("UPDATE t SET x = 'again'")
    small.writable()
    db.run("INSERT INTO t (x) VALUES ('after')")
    assert not db.in_memory and db.problem is None
    other_connection.run("INSERT INTO t (x) VALUES ('after')")
    assert len(rows(path, "SELECT id FROM t")) == (6 if memory else 5)
