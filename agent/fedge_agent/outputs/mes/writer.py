# SPDX-License-Identifier: Apache-2.0
"""Allow one writer per target: a search before a create is exact only while nobody else creates.

A lock file in the state folder is named after the target. A second output with the same target, or a second agent on
the same state folder, is refused while the first one runs, and takes over when it ends. The kernel releases the lock
when its process dies.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
from pathlib import Path

from fedge_models.errors import RetryError, StorageError


class Writer:
    """The right to write to one target. Without a folder, it is always granted."""

    def __init__(self, folder: Path | None, target: str) -> None:
        name = hashlib.sha256(target.encode()).hexdigest()[:16]
        self._path = folder / f"{name}.lock" if folder else None
        self._target = target
        self._handle: int | None = None

    def hold(self) -> None:
        """Take the right unless we have it. Raises RetryError when another process or output has it."""
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
        """Release the right."""
        if self._handle is not None:
            os.close(self._handle)
            self._handle = None
