# SPDX-License-Identifier: Apache-2.0
"""Who uses a folder is found without its lock file; a killed process uses none."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

from fedge_models.system import folder_socket
from fedge_models.system.folder_socket import QUEUE, FolderSocket, Holder

TAKER = """
import sys
from pathlib import Path
from fedge_models.system.folder_socket import FolderSocket
held = FolderSocket(Path(sys.argv[1]))
print(held.take(), flush=True)
sys.stdin.readline()
"""


def test_the_second_finds_the_first_under_any_name_of_the_folder(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "folder")
    one, two, other = (FolderSocket(tmp_path / name) for name in ("folder", "link", "."))
    assert one.take() is None and one.take() is None and other.take() is None
    found = two.take()
    assert found == Holder(os.getpid(), os.geteuid()) and found.is_trusted(tmp_path)
    one.release()
    one.release()
    assert folder_socket.holder(tmp_path / "folder") is None and two.take() is None
    two.release()
    other.release()


def test_kill_9_gives_it_back(tmp_path: Path) -> None:
    line = [sys.executable, "-c", TAKER, str(tmp_path)]
    with subprocess.Popen(line, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None and process.stdout.readline() == "None\n"
        assert folder_socket.holder(tmp_path) == Holder(process.pid, os.geteuid())
        process.send_signal(signal.SIGKILL)
        process.wait()
    assert folder_socket.holder(tmp_path) is None


def test_it_is_held_however_many_have_asked(tmp_path: Path) -> None:
    held = FolderSocket(tmp_path)
    assert held.take() is None
    found = [folder_socket.holder(tmp_path) for _ in range(QUEUE + 5)]
    assert all(found) and found[0] == Holder(os.getpid(), os.geteuid()) and found[-1] == Holder(None, None)
    held.release()


def test_a_folder_that_is_not_there_has_none(tmp_path: Path) -> None:
    missing = FolderSocket(tmp_path / "no")
    assert missing.take() is None and folder_socket.holder(tmp_path / "no") is None
