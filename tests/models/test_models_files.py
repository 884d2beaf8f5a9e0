"""What an operator's command leaves in a service's folder is the service's."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from fedge_models.system import files

SERVICE = 10001


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can make files for somebody else")
def test_what_root_writes_belongs_to_the_owner_of_the_folder(tmp_path: Path) -> None:
    os.chown(tmp_path, SERVICE, SERVICE)
    files.make_folder(tmp_path / "models" / "pump")
    files.write(tmp_path / "models" / "pump" / "release", b"")
    database = files.open_database(tmp_path / "store.sqlite", "CREATE TABLE t (x)")
    made = {str(p.relative_to(tmp_path)): p.stat() for p in tmp_path.rglob("*")}
    database.close()
    assert {"models", "models/pump", "models/pump/release", "store.sqlite", "store.sqlite-wal"} <= set(made)
    assert {(s.st_uid, s.st_gid) for s in made.values()} == {(SERVICE, SERVICE)}
    assert made["models/pump"].st_mode & 0o777 == 0o700


def test_a_folder_may_be_there_already(tmp_path: Path) -> None:
    (tmp_path / "kept").mkdir(mode=0o750)
    files.make_folder(tmp_path / "kept" / "new")
    assert (tmp_path / "kept").stat().st_mode & 0o777 == 0o750
    assert (tmp_path / "kept" / "new").stat().st_mode & 0o777 == 0o700
