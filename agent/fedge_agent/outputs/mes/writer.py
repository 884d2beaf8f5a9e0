# SPDX-License-Identifier: Apache-2.0
"""Allow one writer per target: a search before a create is exact only while nobody else creates.

A lock file in the state folder is named after the target. A second output with the same target, or a second agent on
the same state folder, is refused while the first one runs, and takes over when it ends. The kernel releases the lock
when its process dies. Where the folder takes no lock file (a full or read-only disk, rights), a socket without a file
stands for it: an order must not wait for a disk.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from urllib.parse import urlsplit

from fedge_models.errors import RetryError, StorageError
from fedge_models.system.addresses import HIDDEN, shown
from fedge_models.system.folder_socket import NameSocket
from fedge_models.system.lock import Lock

PORTS = {"http": 80, "https": 443}


def target_claim(target: str) -> str:
    """What one output has for itself, for messages: what is not shown of the address is told apart by its digest."""
    address = _one_name(target)
    text = shown(address)
    return f"{text} ({_digest(address)[:6]})" if text.endswith(HIDDEN) else text


class Writer:
    """The right to write to one target. Without a folder, it is always granted."""

    def __init__(self, folder: Path | None, target: str) -> None:
        self._lock = Lock(folder / f"{_digest(_one_name(target))[:16]}.lock") if folder else None
        self._socket = NameSocket(f"fedge-target-{_digest(f'{folder}: {_one_name(target)}')}")
        self._target = target

    def hold(self) -> None:
        """Take the right unless we have it. Raises RetryError when another process or output has it."""
        if self._lock is not None and not self._take(self._lock):
            text = f"{shown(self._target)}: another output or agent writes there (lock {self._lock.path})"
            raise RetryError(f"{text}; keep one of them, or wait until it ends")

    def _take(self, lock: Lock) -> bool:
        try:
            return lock.take(folder_too=False)
        except StorageError:
            return self._socket.take()

    def release(self) -> None:
        """Release the right."""
        if self._lock is not None:
            self._lock.release()
        self._socket.release()


def _one_name(target: str) -> str:
    """A target under one of the names that it may be written with: letters of any case, default ports, this machine."""
    parts = urlsplit(target)
    host = parts.hostname or ""
    host = "localhost" if host.startswith("127.") or host == "::1" else f"[{host}]" if ":" in host else host
    port = "" if parts.port in (None, PORTS.get(parts.scheme)) else f":{parts.port}"
    return parts._replace(netloc=host + port, path=parts.path.rstrip("/")).geturl()


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()
