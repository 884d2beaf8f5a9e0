# SPDX-License-Identifier: Apache-2.0
"""A state folder has one program at a time, and the one who is refused learns which."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from fedge_models.errors import ConfigError
from fedge_models.system import lock

HOLDER = """
import sys, time
from pathlib import Path
from fedge_models.system import lock
held = lock.claim(Path(sys.argv[1]), "fedge-agent")
print("held", flush=True)
time.sleep(600)
"""


@contextmanager
def held_by_another(folder: Path) -> Iterator[subprocess.Popen[str]]:
    line = [sys.executable, "-c", HOLDER, str(folder)]
    with subprocess.Popen(line, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None and process.stdout.readline() == "held\n"
        yield process
        process.kill()


def test_the_second_is_refused_with_the_pid_of_the_first(tmp_path: Path) -> None:
    with held_by_another(tmp_path) as process:
        with pytest.raises(ConfigError, match=rf"another fedge-agent \(pid {process.pid}\) uses {tmp_path}"):
            lock.claim(tmp_path, "fedge-agent")
        assert lock.holder(tmp_path) == process.pid


def test_kill_9_gives_the_folder_back(tmp_path: Path) -> None:
    with held_by_another(tmp_path) as process:
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        assert lock.holder(tmp_path) is None
        lock.claim(tmp_path, "fedge-agent").release()


def test_who_asks_does_not_keep_a_program_from_starting(tmp_path: Path) -> None:
    assert lock.holder(tmp_path) is None
    lock.claim(tmp_path, "fedge-agent").release()
    assert lock.holder(tmp_path) is None
    mine = lock.claim(tmp_path, "fedge-agent")
    assert mine.take() and lock.holder(tmp_path) == os.getpid()  # its own again, and no other
    with pytest.raises(ConfigError, match=f"pid {os.getpid()}"):
        lock.claim(tmp_path, "fedge-agent")
    mine.release()
    mine.release()
    assert lock.holder(tmp_path) is None


def test_a_child_of_the_holder_does_not_inherit_the_lock(tmp_path: Path) -> None:
    mine = lock.claim(tmp_path, "fedge-agent")
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE, text=True) as child:
        mine.release()
        lock.claim(tmp_path, "fedge-agent").release()
        child.communicate("\n")
