# SPDX-License-Identifier: Apache-2.0
"""The state folder: locked, cleared of what killed writes left, and usable on a disk that takes nothing."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from fedge_agent.durable import state_folder
from fedge_agent.durable.state_folder import StateFolder
from fedge_models.errors import ConfigError
from fedge_models.system import damage, files
from support.disks import SmallDisk
from support.rights import as_nobody, folder_of_nobody

WRITER = """
import sys
from pathlib import Path
from fedge_models.system import files
hold = files.hand_over
files.hand_over = lambda path: (hold(path), print("half way", flush=True), sys.stdin.readline())
files.write(Path(sys.argv[1]), b"x" * 10_000)
"""

AS_NOBODY = """
import os, sys
from pathlib import Path
from fedge_agent.durable.state_folder import StateFolder
os.setgid(65534); os.setuid(65534)
try:
    folder = StateFolder(Path(sys.argv[1]), "fedge-agent")
except Exception as e:
    print(type(e).__name__, e, flush=True)
else:
    print("started:", folder.unlocked, flush=True)
    sys.stdin.readline()
    folder.release()
"""
NOBODY = 65534


@contextmanager
def nobody_starts(folder: Path) -> Iterator[tuple[str, int]]:
    """What an agent of user nobody says, and its process id; it runs until the block ends."""
    line = [sys.executable, "-c", AS_NOBODY, str(folder)]
    with subprocess.Popen(line, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        yield process.stdout.readline(), process.pid
        process.communicate("\n")


@pytest.fixture
def seen_by_all() -> Iterator[Path]:
    """A folder that every user may look into."""
    made = Path(tempfile.mkdtemp())
    made.chmod(0o755)
    yield made
    shutil.rmtree(made)


@pytest.fixture
def small(tmp_path: Path) -> Iterator[SmallDisk]:
    with SmallDisk(tmp_path / "disk", mib=1) as made:
        yield made


def writer(path: Path) -> subprocess.Popen[str]:
    """A process in the middle of replacing a file."""
    made = subprocess.Popen(
        [sys.executable, "-c", WRITER, path], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert made.stdout is not None and made.stdout.readline() == "half way\n"
    return made


def test_what_a_killed_write_left_is_removed_and_what_is_being_written_is_not(tmp_path: Path) -> None:
    (tmp_path / "identity").mkdir()
    killed, going_on = writer(tmp_path / "identity/killed"), writer(tmp_path / "identity/going_on")
    os.kill(killed.pid, signal.SIGKILL)
    killed.communicate()
    assert len(list(tmp_path.rglob(f".*{files.TEMPORARY}"))) == 2
    StateFolder(tmp_path, "fedge-agent").release()
    assert [p.name.startswith(".going_on.") for p in tmp_path.rglob(f".*{files.TEMPORARY}")] == [True]
    going_on.communicate("\n")
    assert going_on.returncode == 0 and (tmp_path / "identity/going_on").stat().st_size == 10_000


def test_damage_is_a_problem_until_a_person_has_moved_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(state_folder, "LOOK_S", 0.0)
    (tmp_path / "f").mkdir()
    (tmp_path / "f/head.cbor").write_bytes(b"x")
    aside = damage.set_aside(tmp_path / "f/head.cbor")
    damage.report(tmp_path / "f/head.cbor", aside, "its digest is another")
    for _ in range(2):  # also after a restart
        folder = StateFolder(tmp_path, "fedge-agent")
        assert folder.damaged() == [
            f"head.cbor was damaged: its digest is another; look at {aside}, then move or delete it"
        ]
        folder.release()
    aside.unlink()
    folder = StateFolder(tmp_path, "fedge-agent")
    assert folder.damaged() == [] and list((tmp_path / "f").iterdir()) == []
    folder.release()


def test_two_agents_are_kept_apart_also_on_a_read_only_disk(small: SmallDisk) -> None:
    small.read_only()
    one = StateFolder(small.folder, "fedge-agent")
    with pytest.raises(ConfigError, match="another fedge-agent"):
        StateFolder(small.folder, "fedge-agent")
    one.release()
    StateFolder(small.folder, "fedge-agent").release()


def test_the_address_is_written_over_the_old_one_on_a_full_disk(small: SmallDisk) -> None:
    (small.folder / "status.addr").write_text("127.0.0.1:59999, the last time")
    small.fill()
    folder = StateFolder(small.folder, "fedge-agent")
    folder.publish("status.addr", "127.0.0.1:4000")
    assert (small.folder / "status.addr").read_text() == "127.0.0.1:4000" and folder.problem is None
    folder.release()


def test_the_address_is_written_when_the_disk_can_be(small: SmallDisk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(state_folder, "TRY_S", 0.0)
    small.read_only()
    folder = StateFolder(small.folder, "fedge-agent")
    folder.publish("status.addr", "127.0.0.1:4000")
    assert folder.problem is not None and "Read-only file system" in folder.problem
    small.writable()
    folder.retry()
    assert (small.folder / "status.addr").read_text() == "127.0.0.1:4000" and folder.problem is None
    folder.release()


def test_the_address_is_written_again_when_it_was_removed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(state_folder, "TRY_S", 0.0)
    folder = StateFolder(tmp_path / "state", "fedge-agent")
    folder.publish("status.addr", "127.0.0.1:4000")
    (tmp_path / "state/status.addr").unlink()
    folder.retry()
    assert (tmp_path / "state/status.addr").read_text() == "127.0.0.1:4000"
    folder.release()


def test_a_folder_of_another_machine_is_said_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said = []
    for name in ("a", "a", "b", "b", ""):  # the last one: where no id is known
        monkeypatch.setattr(state_folder, "machine", lambda name=name: name and name * 64)
        folder = StateFolder(tmp_path, "fedge-agent")
        said.append(folder.moved)
        folder.release()
    assert [text is not None for text in said] == [False, False, True, False, False]
    assert "was last used on another machine" in str(said[2])


def test_a_folder_that_was_restored_or_copied_is_announced_once_and_counted(tmp_path: Path) -> None:
    folder, backup = tmp_path / "state", tmp_path / "backup"
    for _ in range(2):
        made = StateFolder(folder, "fedge-agent")
        made.release()
        assert made.copied is None and made.copies == 0
    shutil.copytree(folder, backup)
    for copies in (1, 2):
        shutil.rmtree(folder)
        shutil.copytree(backup, folder)
        shutil.rmtree(backup)
        made = StateFolder(folder, "fedge-agent")
        made.release()
        assert made.copied is not None and "was restored from a backup" in made.copied and made.copies == copies
        shutil.copytree(folder, backup)
    shutil.move(folder, tmp_path / "moved")
    made = StateFolder(tmp_path / "moved", "fedge-agent")
    made.release()
    assert made.copied is None and made.copies == 2  # it is the same folder under another name


@pytest.mark.parametrize("how", ["gone", "empty", "zeros", "half", "a folder"])
def test_a_lost_record_of_copies_is_said_and_started_over(tmp_path: Path, how: str) -> None:
    state = tmp_path / "state"
    first = StateFolder(state, "fedge-agent")
    first.publish("status.addr", "127.0.0.1:1")
    first.release()
    record = state / "folder.json"
    whole = record.read_bytes()
    record.unlink()
    if how == "a folder":
        record.mkdir()
    elif how != "gone":
        record.write_bytes({"empty": b"", "zeros": bytes(len(whole)), "half": whole[: len(whole) // 2]}[how])
    second = StateFolder(state, "fedge-agent")
    [said] = second.damaged()
    assert said.startswith("folder.json was ") and "restored from a backup or copied is not known" in said
    second.release()
    shutil.copytree(state, tmp_path / "copy")
    third = StateFolder(tmp_path / "copy", "fedge-agent")
    third.release()
    assert third.copied is not None and third.copies == 1


@pytest.mark.parametrize("how", ["gone", "empty", "zeros", "half", "flipped", "a folder"])
def test_a_lost_note_of_the_machine_is_said_and_started_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    monkeypatch.setattr(state_folder, "machine", lambda: "a" * 64)
    StateFolder(tmp_path, "fedge-agent").release()
    note = tmp_path / "machine"
    whole = note.read_bytes()
    note.unlink()
    if how == "a folder":
        note.mkdir()
    elif how != "gone":
        wrong = {"empty": b"", "zeros": bytes(64), "half": whole[:32], "flipped": b"\xe1" + whole[1:]}
        note.write_bytes(wrong[how])
    second = StateFolder(tmp_path, "fedge-agent")
    [said] = [text for text in second.damaged() if text.startswith("machine was ")]
    assert "whether another machine used this folder last is not known" in said and second.moved is None
    second.release()
    assert note.read_bytes() == whole
    monkeypatch.setattr(state_folder, "machine", lambda: "b" * 64)
    third = StateFolder(tmp_path, "fedge-agent")
    third.release()
    assert third.moved is not None


def test_a_note_of_the_machine_that_could_not_be_read_is_looked_at_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(state_folder, "machine", lambda: "a" * 64)
    monkeypatch.setattr(state_folder, "NOTE_S", 0.0)
    with folder_of_nobody() as folder, as_nobody():
        (folder / "machine").write_text("b" * 64)
        (folder / "machine").chmod(0)
        state = StateFolder(folder, "fedge-agent")
        state.retry()
        assert "no permission" in state.unreadable["machine"] and state.moved is None
        (folder / "machine").chmod(0o600)
        state.retry()
        assert state.unreadable == {} and "was last used on another machine" in str(state.moved)
        state.release()


def test_a_machine_without_an_id_loses_no_note(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("", "", "a" * 64, "", "a" * 64):
        monkeypatch.setattr(state_folder, "machine", lambda name=name: name)
        folder = StateFolder(tmp_path, "fedge-agent")
        folder.release()
        assert folder.moved is None and not [text for text in folder.damaged() if text.startswith("machine")]
    assert (tmp_path / "machine").read_text() == "a" * 64


def test_a_first_start_that_was_killed_before_its_record_is_no_loss(tmp_path: Path) -> None:
    (tmp_path / "folder.mark").touch()
    made = StateFolder(tmp_path, "fedge-agent")
    made.release()
    assert made.damaged() == [] and made.copied is None and (tmp_path / "folder.json").is_file()


@pytest.mark.parametrize("name", ["machine", "folder.json"])
def test_a_record_that_this_user_may_not_read_stays_and_is_said(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(state_folder, "machine", lambda: "a" * 64)
    with folder_of_nobody() as folder, as_nobody():
        StateFolder(folder, "fedge-agent").release()
        before = (folder / name).stat().st_ino
        (folder / name).chmod(0)
        made = StateFolder(folder, "fedge-agent")
        made.release()
        assert list(made.unreadable) == [name] and f"sudo chmod u+rwX {folder / name}*" in made.unreadable[name]
        assert "is not known" in made.unreadable[name] and made.damaged() == []
        assert (folder / name).stat().st_ino == before
        (folder / name).chmod(0o600)
        made = StateFolder(folder, "fedge-agent")
        made.release()
        assert made.unreadable == {} and made.moved is None


def test_the_announcement_of_a_copy_ends_after_a_day(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    StateFolder(tmp_path / "a", "fedge-agent").release()
    shutil.copytree(tmp_path / "a", tmp_path / "b")
    made = StateFolder(tmp_path / "b", "fedge-agent")
    made.release()
    assert made.copied
    monkeypatch.setattr(state_folder, "ANNOUNCED_S", 0.0)
    assert made.copied is None and made.copies == 1


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may become another user")
@pytest.mark.parametrize("whose", ["lock of root", "lock of nobody's rights", "all of root"])
def test_a_lock_that_cannot_be_opened_keeps_no_agent_from_starting_nor_lets_two_start(
    seen_by_all: Path, whose: str
) -> None:
    state = seen_by_all / "state"
    state.mkdir(mode=0o700)
    (state / "running.lock").touch(0o600)
    if whose != "all of root":
        os.chown(state, NOBODY, NOBODY)
    if whose == "lock of nobody's rights":
        os.chown(state / "running.lock", NOBODY, NOBODY)
        (state / "running.lock").chmod(0)
    with nobody_starts(state) as (said, pid):
        command = "chmod -R u+rwX" if whose == "lock of nobody's rights" else "chown -R nobody"
        assert said.startswith("started: ") and f"sudo {command} {state}" in said
        with nobody_starts(state) as (second, _):
            assert second.startswith(f"ConfigError another fedge-agent (pid {pid}) uses {state}")
        if whose != "all of root":  # of whose folder nobody is not the owner: anybody could claim it
            with pytest.raises(ConfigError, match=rf"another fedge-agent \(pid {pid}\)"):
                StateFolder(state, "fedge-agent")
    mine = StateFolder(state, "fedge-agent")  # as root
    with nobody_starts(state) as (said, _):
        assert said.startswith(f"ConfigError another fedge-agent (pid {os.getpid()})")
    mine.release()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may become another user")
def test_another_user_who_claims_a_locked_folder_stops_no_agent(seen_by_all: Path) -> None:
    with nobody_starts(seen_by_all) as (said, _):
        assert said.startswith("started: ")
        mine = StateFolder(seen_by_all, "fedge-agent")
        assert mine.unlocked is None
        mine.release()


def test_the_lock_is_taken_once_it_can_be(small: SmallDisk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(state_folder, "NOTE_S", 0.0)
    small.read_only()
    folder = StateFolder(small.folder / "state", "fedge-agent")
    assert folder.unlocked is not None and "running.lock" in folder.unlocked
    small.writable()
    (small.folder / "state").mkdir()
    folder.retry()
    assert folder.unlocked is None
    with pytest.raises(ConfigError, match="another fedge-agent"):
        StateFolder(small.folder / "state", "fedge-agent")
    folder.release()
