# SPDX-License-Identifier: Apache-2.0
"""A database of the state folder that is deleted or emptied is reported as lost; a new folder reports nothing."""

from __future__ import annotations

import random
import shutil
from contextlib import closing
from pathlib import Path

import pytest
from fedge_agent.durable import known_databases, state_folder
from fedge_agent.durable.known_databases import ALWAYS, FILE, RAN
from fedge_agent.durable.spool import Spool
from fedge_agent.durable.state_folder import StateFolder
from fedge_models.system import damage
from support.disks import SmallDisk

MES, PICTURES = "outputs/mes.sqlite", "sources/camera/pictures.sqlite"
ALL = (*ALWAYS, MES, PICTURES)
USED = (*ALWAYS, MES, "sources/camera")


def run(folder: Path, used: tuple[str, ...] = USED) -> tuple[frozenset[str], list[str]]:
    """Start and stop: what was lost before, and what `status` says."""
    opened = StateFolder(folder, "fedge-agent", used)
    found = opened.lost, opened.damaged()
    for name in ALL:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Spool(folder / name).close()
    opened.publish(RAN[0], "127.0.0.1:4000")
    opened.release()
    return found


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    assert run(tmp_path / "state") == (frozenset(), []) == run(tmp_path / "state")
    return tmp_path / "state"


@pytest.mark.parametrize("name", ALL)
@pytest.mark.parametrize("how", ["gone", "empty"])
def test_what_is_gone_or_empty_is_said_until_a_person_has_looked(folder: Path, name: str, how: str) -> None:
    (folder / name).unlink()
    if how == "empty":
        (folder / name).touch()
    lost, said = run(folder)
    assert lost == {name} and len(said) == 1 and f"{Path(name).name} was lost: it was {how}" in said[0]
    assert run(folder) == (frozenset(), said)
    for path in folder.rglob(f"*{damage.MARK}*"):
        path.unlink()
    assert run(folder) == (frozenset(), [])


@pytest.mark.parametrize("how", ["gone", "empty", "zeros", "a random header", "half"])
def test_each_lost_database_is_counted_alike_once(folder: Path, how: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(state_folder, "LOOK_S", -1.0)
    path = folder / "spool.sqlite"
    whole = path.read_bytes()
    opened = StateFolder(folder, "fedge-agent", USED)
    assert opened.lost_databases() == 0
    opened.release()
    damaged = {"empty": b"", "zeros": bytes(len(whole)), "half": whole[: len(whole) // 2]}
    path.write_bytes(damaged.get(how, random.Random(0).randbytes(4096) + whole[4096:]))
    if how == "gone":
        path.unlink()
    opened = StateFolder(folder, "fedge-agent", USED)
    spool = Spool(path)
    assert opened.lost_databases() == len(opened.damaged()) == 1
    for aside in folder.rglob(f"*{damage.MARK}*"):
        aside.unlink()
    assert opened.lost_databases() == 1 and opened.damaged() == []  # a count never falls
    spool.close()
    opened.release()
    again = StateFolder(folder, "fedge-agent", USED)
    assert again.lost_databases() == 0
    again.release()


def test_a_folder_that_is_gone_with_its_files(folder: Path) -> None:
    shutil.rmtree(folder / "outputs")
    assert run(folder)[0] == {MES}


def test_all_are_gone(folder: Path) -> None:
    for name in ALL:
        (folder / name).unlink()
    lost, said = run(folder)
    assert lost == set(ALL) and len(said) == len(ALL)


def test_what_is_used_no_more_is_not_missed(folder: Path) -> None:
    (folder / MES).unlink()
    (folder / PICTURES).unlink()
    assert run(folder, ALWAYS) == (frozenset(), [])


@pytest.mark.parametrize("listed", [None, b"", b"[1]", b"\xff"])
def test_without_the_list_those_of_every_version_are_expected(folder: Path, listed: bytes | None) -> None:
    (folder / FILE).unlink()
    if listed is not None:
        (folder / FILE).write_bytes(listed)
    for name in ("spool.sqlite", MES):
        (folder / name).unlink()
    assert run(folder)[0] == {"spool.sqlite"}


def test_a_first_start_that_was_killed_before_all_was_there_is_no_loss(tmp_path: Path) -> None:
    (tmp_path / "state").mkdir()
    with closing(Spool(tmp_path / "state/spool.sqlite")):
        (tmp_path / "state/inbox.sqlite").touch()  # SQLite had not written to it yet
        assert run(tmp_path / "state") == (frozenset(), [])


def test_what_came_later_is_noted_while_the_agent_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    opened = StateFolder(tmp_path, "fedge-agent", USED)  # and never released: it is killed
    Spool(tmp_path / "spool.sqlite").close()
    opened.retry()
    opened._let_go()
    (tmp_path / "spool.sqlite").unlink()
    assert run(tmp_path)[0] == {"spool.sqlite"}


def test_a_loss_is_said_also_when_the_disk_takes_nothing(tmp_path: Path) -> None:
    with SmallDisk(tmp_path / "disk", mib=8) as small:
        state = small.folder / "state"
        run(state)
        (state / "spool.sqlite").unlink()
        small.read_only()
        opened = StateFolder(state, "fedge-agent", USED)
        [said] = opened.damaged()
        assert "spool.sqlite was lost: it was gone" in said and opened.lost == {"spool.sqlite"}
        assert opened.lost_databases() == 1
        opened.release()


def test_each_file_says_what_is_lost_with_it() -> None:
    assert {name.partition("/")[0] for name in ALL} == set(known_databases.LOST)
