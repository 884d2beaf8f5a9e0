# SPDX-License-Identifier: Apache-2.0
"""Who uses a folder, also where its lock file cannot be opened: an abstract unix socket (unix(7)) named by the folder.

A lock file that belongs to root must not keep a program from its work, nor let two of them work on one folder. Every
program takes the socket besides its lock, so that one that may not open the lock file finds who has it. The kernel
frees the name with the process. Limits: it is seen within one network namespace, and any user of the machine can take
it, which the caller can tell from `Holder.uid`.
"""

from __future__ import annotations

import errno
import os
import socket
import struct
from pathlib import Path
from typing import NamedTuple

QUEUE = 128  # who asks waits there; nobody is answered
_CREDENTIALS = struct.Struct("3i")  # of SO_PEERCRED: process, user, group


class Holder(NamedTuple):
    """Who has the socket; None where too many have asked."""

    pid: int | None
    uid: int | None

    def is_trusted(self, folder: Path) -> bool:
        """Whether it is root, this user or the folder's owner."""
        return self.uid in (None, 0, os.geteuid(), folder.stat().st_uid)


class FolderSocket:
    """The socket of a folder, free until `take`."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._socket: socket.socket | None = None

    def take(self) -> Holder | None:
        """Take the socket; who has it, or None when it is taken now, or cannot be: there is no such folder."""
        name = _name(self._folder)
        if self._socket is not None or name is None:
            return None
        made = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            made.bind(name)
            made.listen(QUEUE)
        except OSError:
            made.close()
            return holder(self._folder)
        self._socket = made
        return None

    def release(self) -> None:
        """Let another take it; does nothing when it is not held."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None


class NameSocket:
    """A name that one holder at a time has, within one machine and network namespace; free until `take`."""

    def __init__(self, name: str) -> None:
        self._name = f"\0{name}"
        self._socket: socket.socket | None = None

    def take(self) -> bool:
        """Take the name unless another has it; whether we have it."""
        if self._socket is None:
            made = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
            try:
                made.bind(self._name)
            except OSError as e:
                made.close()
                return e.errno != errno.EADDRINUSE  # where there are no such names, nobody else has it
            self._socket = made
        return True

    def release(self) -> None:
        """Let another take it; does nothing when it is not held."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None


def holder(folder: Path) -> Holder | None:
    """Who has the socket of a folder; None: nobody, or there is no such folder."""
    name = _name(folder)
    if name is None:
        return None
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as asking:
        asking.setblocking(False)
        try:
            asking.connect(name)
        except BlockingIOError:
            return Holder(None, None)
        except OSError:
            return None
        found = asking.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
        pid, uid, _ = _CREDENTIALS.unpack(found)
        return Holder(pid or None, uid)


def _name(folder: Path) -> str | None:
    """The name; the folder may have several paths."""
    try:
        found = folder.stat()
    except OSError:
        return None
    return f"\0fedge-folder-{found.st_dev:x}-{found.st_ino:x}"
