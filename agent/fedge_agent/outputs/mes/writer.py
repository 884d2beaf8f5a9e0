"""One writer per target: searching before creating is only exact while nobody else creates in between.

A lock file in the state folder, named by the target: a second output with the same target, or a second agent on the
same state folder, is refused for as long as the first one runs, and takes over when that ends. The kernel gives the
lock back when its process dies.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
from pathlib import Path

from fedge_models.errors import RetryError, StorageError


class Writer:
    """The right to write to one target. Without a folder there is nobody to share it with."""

    def __init__(self, folder: Path | None, target: str) -> None:
        name = hashlib.sha256(target.encode()).hexdigest()[:16]
        self._path = folder / f"{name}.lock" if folder else None
        self._target = target
        self._handle: int | None = None

    def hold(self) -> None:
        """Take the right, if it is not ours yet. Raises RetryError when another has it."""
        if self._path is None or self._handle is not None:
            return
        try:
            handle = os.open(self._path, os.O_RDWR | os.O_CREAT, 0o600)
        except OSError as e:
            raise StorageError(f"{self._path}: cannot be opened: {e.strerror}") from e
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as e:
            os.close(handle)
            text = f"{self._target}: another output or agent writes there (lock {self._path})"
            raise RetryError(f"{text}; keep one of them, or wait until it ends") from e
        self._handle = handle

    def release(self) -> None:
        """Give it back."""
        if self._handle is not None:
            os.close(self._handle)
            self._handle = None
