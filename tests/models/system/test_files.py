# SPDX-License-Identifier: Apache-2.0
"""What is written is durable before it is acknowledged, and belongs to the service whose folder it is in."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import NamedTuple

import pytest
from fedge_models.errors import StorageError
from fedge_models.system import files
from fedge_models.system.database import open_database

SERVICE = 10001


class Synced(NamedTuple):
    """A call of fsync: what it made durable, and what the written path held at that moment."""

    inode: int
    is_folder: bool
    size: int
    path_held: bytes | None


@pytest.fixture
def syncs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Synced]:
    """Every fsync from now on, in order, seen from outside; the calls themselves are real."""
    found: list[Synced] = []
    path, fsync = tmp_path / "release.cbor", os.fsync

    def record(descriptor: int) -> None:
        fsync(descriptor)
        what = os.fstat(descriptor)
        held = path.read_bytes() if path.exists() else None
        found.append(Synced(what.st_ino, stat.S_ISDIR(what.st_mode), what.st_size, held))

    monkeypatch.setattr(os, "fsync", record)
    return found


@pytest.mark.parametrize("old", [None, b"the release before"])
def test_the_bytes_are_durable_before_the_name_is_and_the_name_before_the_return(
    tmp_path: Path, syncs: list[Synced], old: bytes | None
) -> None:
    path, new = tmp_path / "release.cbor", b"the new release" * 1000
    if old is not None:
        path.write_bytes(old)
    files.write(path, new)
    contents, name = syncs
    assert contents == Synced(path.stat().st_ino, False, len(new), old)  # the whole file, under another name yet
    assert name[:2] == (tmp_path.stat().st_ino, True) and name.path_held == new


def test_a_new_database_is_durable_by_name(tmp_path: Path, syncs: list[Synced]) -> None:
    open_database(tmp_path / "store.sqlite", "CREATE TABLE t (x)").close()
    assert syncs[-1][:2] == (tmp_path.stat().st_ino, True)


def test_a_write_that_fails_leaves_the_old_file_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    path = tmp_path / "release.cbor"
    path.write_bytes(b"old")
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StorageError, match=r"release\.cbor: cannot be written: No space left"):
        files.write(path, b"new")
    assert [p.name for p in tmp_path.iterdir()] == ["release.cbor"] and path.read_bytes() == b"old"


def test_no_other_user_reads_a_database(tmp_path: Path) -> None:
    open_database(tmp_path / "store.sqlite", "CREATE TABLE t (x)").close()
    assert (tmp_path / "store.sqlite").stat().st_mode & 0o777 == 0o600


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can make files for somebody else")
def test_what_root_writes_belongs_to_the_owner_of_the_folder(tmp_path: Path) -> None:
    os.chown(tmp_path, SERVICE, SERVICE)
    files.make_folder(tmp_path / "models" / "pump")
    files.write(tmp_path / "models" / "pump" / "release", b"")
    database = open_database(tmp_path / "store.sqlite", "CREATE TABLE t (x)")
    made = {str(p.relative_to(tmp_path)): p.stat() for p in tmp_path.rglob("*")}
    database.close()
    assert {"models", "models/pump", "models/pump/release", "store.sqlite", "store.sqlite-wal"} <= set(made)
    assert {(s.st_uid, s.st_gid) for s in made.values()} == {(SERVICE, SERVICE)}
    assert made["models/pump"].st_mode & 0o777 == 0o700


def test_a_folder_may_be_there_already(tmp_path: Path) -> None:
    (tmp_path / "existing").mkdir(mode=0o750)
    files.make_folder(tmp_path / "existing" / "new")
    assert (tmp_path / "existing").stat().st_mode & 0o777 == 0o750
    assert (tmp_path / "existing" / "new").stat().st_mode & 0o777 == 0o700


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can make files for somebody else")
def test_without_permission_the_owner_is_named(tmp_path: Path) -> None:
    denied = PermissionError(13, "Permission denied")
    assert files.explain(denied, tmp_path / "key").endswith("key: no permission as user root; run this with sudo")
    os.chown(tmp_path, SERVICE, SERVICE)
    assert files.explain(denied, tmp_path / "key").endswith(f"run this as {SERVICE} (sudo -u {SERVICE} ...)")


def test_any_other_refusal_of_the_system_names_the_path(tmp_path: Path) -> None:
    assert files.explain(FileNotFoundError(2, "No such file"), tmp_path / "x") == f"{tmp_path}/x: No such file"
