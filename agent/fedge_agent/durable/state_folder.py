# SPDX-License-Identifier: Apache-2.0
"""The agent's state folder: one agent at a time, what killed writes left, where the status page is, what is damaged or
lost.

Promises: a disk that is full, read-only or failing keeps no agent from starting: only a folder that the operator has to
correct does. Leaves each file in it to the room that writes it.
"""

from __future__ import annotations

import hashlib
import logging
import math
import re
import time
from collections.abc import Collection
from contextlib import suppress
from pathlib import Path

from fedge_models.errors import ConfigError, StorageError
from fedge_models.system import damage, files, lock
from fedge_models.system.folder_socket import FolderSocket

from . import copies
from .known_databases import RAN, KnownDatabases

logger = logging.getLogger(__name__)

MACHINE_FILE = "machine"
NOT_KNOWN = "not known"  # what it holds where the machine has no id
ANNOUNCED_S = 86400.0  # how long it is a problem that the folder is a copy
TRY_S = 10.0  # how often the address is written again while the disk fails
NOTE_S = 10.0  # how often it is looked which databases there are
LOOK_S = 5.0  # how long the list of damaged files is repeated


class StateFolder:
    """The folder of a running agent; it is locked until `release`."""

    def __init__(self, path: Path, program: str, used: Collection[str] = ()) -> None:
        """used: databases in it, and folders of databases, that this configuration uses.

        Raises ConfigError naming another agent that uses it, or OSError for a folder that cannot be used.
        """
        self.path = path
        self.problem: str | None = None
        self._address_file, self._address, self._tried = path, "", -math.inf
        self._published = False  # the address of this process was written
        self._damaged: list[str] = []
        self._looked = self._noted = float("-inf")
        files.try_folder(path, of_another=False)
        self._program, self._socket = program, FolderSocket(path)
        self._lock: lock.Lock | None = None
        self.unlocked: str | None = None  # why the lock protects the folder from no other agent
        self._claim()
        damage.forget_removed(path)
        self.unreadable: dict[str, str] = {}  # file -> why it cannot be read, and what is not known without it
        self.moved = self._note_machine()
        self.copies, self._copied = 0, ""
        self._began = time.monotonic()
        self._note_copy()
        if removed := files.remove_leftovers(path):
            logger.warning("%s: %d files of writes that were killed are deleted", path, removed)
        self._databases = KnownDatabases(path)
        self._old = self._seen = damage.databases(path)  # set aside before this start, and ever since
        self.lost = self._databases.take_lost(used)  # databases that were deleted or emptied since the last start

    def _claim(self) -> None:
        """Take the lock and the socket; without rights on the lock file, the socket alone. Raises ConfigError."""
        try:
            self._lock = lock.claim(self.path, self._program)
            self.unlocked = None
        except StorageError as e:
            if self.unlocked is None:
                logger.error("%s", e)
            self.unlocked = f"{e}; an agent of another container would not be seen"
        other = self._socket.take()
        if other is None:
            return
        if self._lock is None or other.is_trusted(self.path):
            self._let_go()
            raise lock.in_use(self.path, self._program, other.pid)
        logger.warning("%s: process %s of user %s claims to use it, and is no agent", self.path, *other)

    def _claim_again(self) -> None:
        """Take the lock once its file can be opened."""
        try:
            self._claim()
        except ConfigError as e:
            self.unlocked = str(e)

    def _let_go(self) -> None:
        self._socket.release()
        if self._lock is not None:
            self._lock.release()
            self._lock = None

    def _note_machine(self) -> str | None:
        """What to say of a folder that another machine used last; this one is noted in it then."""
        here, file = machine() or NOT_KNOWN, self.path / MACHINE_FILE
        try:
            before = _read_machine(file, used=(self.path / copies.RECORD).exists())
        except OSError as e:
            self._say_unreadable(file, e, "whether another machine used this folder is not known")
            return None
        except StorageError as e:
            logger.error("%s", e)
            return None
        self.unreadable.pop(MACHINE_FILE, None)
        if before == here or (before and here == NOT_KNOWN):
            return None
        try:
            files.write(file, here.encode())
        except StorageError as e:
            logger.error("%s", e)
        if before in ("", NOT_KNOWN):
            return None
        text = f"{self.path} was last used on another machine; if that still runs, give each a name and an identity"
        logger.error("%s", text)
        return text

    def _say_unreadable(self, file: Path, error: OSError, lost: str) -> None:
        why = files.explain_denied(file) if isinstance(error, PermissionError) else files.explain(error, file)
        text = f"{why}; {lost}"
        if self.unreadable.get(file.name) != text:
            logger.error("%s", text)
        self.unreadable[file.name] = text

    @property
    def copied(self) -> str | None:
        """What to say, for a day, of a folder that was restored from a backup or copied."""
        return self._copied if self._copied and time.monotonic() - self._began < ANNOUNCED_S else None

    def _note_copy(self) -> None:
        """Find out whether the folder is a copy, and count."""
        try:
            found = copies.look(self.path, used=any((self.path / name).exists() for name in RAN))
        except (OSError, StorageError) as e:
            lost, record = "whether this folder is a copy is not known", self.path / copies.RECORD
            if isinstance(e, OSError) and e.filename == str(record):
                self._say_unreadable(record, e, lost)
            else:
                logger.error("%s: %s: %s", self.path, lost, e)
            return
        self.copies = found.copies
        if found.new and not self.moved:
            self._copied = (
                f"{self.path} was restored from a backup, or copied: what was decided since that backup may be decided "
                "again. Alarms of followed files keep their keys; look for second orders of other sources"
            )
            logger.error("%s", self._copied)

    def release(self) -> None:
        """Let another agent use the folder."""
        self._databases.note()
        self._let_go()

    def publish(self, file: str, address: str) -> None:
        """Write where the status page is."""
        self._address_file, self._address = self.path / file, address
        self.retry()

    def retry(self) -> None:
        """Write the address again if the disk did not take it, or it was removed; note which databases there are."""
        if time.monotonic() - self._noted > NOTE_S:
            self._noted = time.monotonic()
            self._databases.note()
            if self._lock is None:
                self._claim_again()
            if MACHINE_FILE in self.unreadable:
                self.moved = self._note_machine()
        if not self._address or time.monotonic() - self._tried < TRY_S:
            return
        self._tried = time.monotonic()
        with suppress(OSError):  # without rights on the folder
            if self._published and self._address_file.exists():
                return
        try:
            _write(self._address_file, self._address.encode())
        except StorageError as e:
            if self.problem is None:
                logger.error("%s; the status page is at %s", e, self._address)
            self.problem, self._published = str(e), False
        else:
            self.problem, self._published = None, True

    def damaged(self) -> list[str]:
        """What was damaged or lost, until a person has moved or deleted what is set aside."""
        self._look()
        return [*self._damaged, *self._databases.unmarked]

    def lost_databases(self) -> int:
        """How many databases were deleted or emptied before this start, or found damaged since: what they held may be
        lost, also where rows could be read."""
        self._look()
        return len(self._seen - self._old) + len(self._databases.unmarked)

    def _look(self) -> None:
        if time.monotonic() - self._looked <= LOOK_S:
            return
        self._looked = time.monotonic()
        self._seen |= damage.databases(self.path)
        try:
            self._damaged = damage.reports(self.path)
        except OSError as e:
            self._damaged = [f"{self.path}: cannot be looked at: {e.strerror}"]


def machine() -> str:
    """A digest of this board's serial number and of its installation's id; empty where neither is known."""
    found = b""
    for path in ("/proc/device-tree/serial-number", "/etc/machine-id"):
        with suppress(OSError):
            found += Path(path).read_bytes()
    return hashlib.sha256(found).hexdigest() if found.strip() else ""


def _read_machine(file: Path, used: bool) -> str:
    """The machine that used the folder last, NOT_KNOWN, or empty at a first start. Raises OSError, StorageError.

    A file that is damaged is reported; so is one that is gone from a folder that was used by a version that writes it.
    """
    unknown = "whether another machine used this folder last is not known; this machine is noted in a new one"
    try:
        found = file.read_bytes()
    except FileNotFoundError:
        if used:
            damage.report_gone(file, f"it was gone; {unknown}")
        return ""
    except IsADirectoryError:
        found = b""
    if re.fullmatch(rb"[0-9a-f]{64}|" + NOT_KNOWN.encode(), found):
        return found.decode()
    damage.report(file, damage.set_aside(file), f"it holds no digest of a machine; {unknown}")
    return ""


def _write(path: Path, data: bytes) -> None:
    """Replace the file; on a full disk, overwrite it where it is. Raises StorageError."""
    try:
        files.write(path, data)
    except StorageError as e:
        try:
            with path.open("r+b") as file:
                file.write(data)
                file.truncate()
        except OSError:
            raise e from None
