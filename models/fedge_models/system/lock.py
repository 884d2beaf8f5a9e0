# SPDX-License-Identifier: Apache-2.0
"""One process at a time: a lock on a file that the kernel releases when its process dies, kill -9 included (flock(2)).

The file holds the process id of the holder, so that the one who is refused can name it. The file stays where it is:
a file that is removed while somebody opens it would be locked twice.
"""

from __future__ import annotations

import fcntl
import os
import time
from contextlib import suppress
from pathlib import Path

from ..errors import ConfigError, StorageError
from . import files, folder_socket

LOCK_FILE = "running.lock"  # in a state folder
TRIES, TRY_S = 10, 0.02


class Lock:
    """The right to use what a file stands for."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._handle: int | None = None

    def take(self, folder_too: bool = True) -> bool:
        """Take the lock unless another process, or another Lock of this one, has it; folder_too: the folder is locked
        where the file cannot be made. Raises StorageError."""
        if self._handle is not None:
            return True
        try:
            handle = self._open(folder_too)
        except OSError as e:
            raise StorageError(files.explain(e, self.path, ours=self.path.parent)) from e
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            self._note_process(handle)
        except BlockingIOError:
            os.close(handle)
            return False
        except OSError as e:
            os.close(handle)
            raise StorageError(f"{self.path}: cannot be locked: {e.strerror}") from e
        self._handle = handle
        return True

    def _open(self, folder_too: bool) -> int:
        """The file, which a read-only disk need not let us write; where it cannot be made, perhaps its folder."""
        try:
            return os.open(self.path, os.O_RDWR | os.O_CREAT, 0o600)
        except OSError as e:
            if not files.is_disk_failure(e) and not isinstance(e, IsADirectoryError):
                raise
        try:
            return os.open(self.path, os.O_RDONLY)
        except FileNotFoundError:
            if not folder_too:
                raise
        return os.open(self.path.parent, os.O_RDONLY)

    def _note_process(self, handle: int) -> None:
        """Write our process id, for whoever is refused; the lock holds without it."""
        with suppress(OSError):
            files.hand_over(self.path)
            os.ftruncate(handle, 0)
            os.pwrite(handle, f"{os.getpid()}\n".encode(), 0)

    def release(self) -> None:
        """Let another take it; does nothing when it is not held."""
        if self._handle is not None:
            os.close(self._handle)
            self._handle = None


def claim(folder: Path, program: str) -> Lock:
    """The lock on a state folder, held until it is released. Raises ConfigError naming the process that has it."""
    lock = Lock(folder / LOCK_FILE)
    for _ in range(TRIES):  # `holder` has it for a moment
        if lock.take():
            return lock
        time.sleep(TRY_S)
    raise in_use(folder, program, _written(lock.path))


def in_use(folder: Path, program: str, pid: int | None) -> ConfigError:
    """What is raised when another process uses the folder."""
    advice = "stop it first, or give this one a state folder of its own"
    return ConfigError(f"another {program} (pid {pid or 'unknown'}) uses {folder}; {advice}")


def holder(folder: Path) -> int | None:
    """Process id of the program that uses a state folder now; None: nobody does. Raises PermissionError."""
    try:
        handle = os.open(folder / LOCK_FILE, os.O_RDONLY)
    except FileNotFoundError:
        found = folder_socket.holder(folder)
        return found.pid if found else None
    except PermissionError:
        if found := folder_socket.holder(folder):
            return found.pid
        raise
    try:
        fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return _written(folder / LOCK_FILE)
    finally:
        os.close(handle)
    return None


def _written(path: Path) -> int | None:
    with suppress(OSError, ValueError):
        return int(path.read_text())
    return None
