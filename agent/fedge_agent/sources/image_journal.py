# SPDX-License-Identifier: Apache-2.0
"""Record which pictures of a folder were read, so that none is read twice, whatever happens in between.

A picture is a name together with its file: another file that is moved over the same name is another picture. Names are
stored as the bytes on disk. Pictures that are no longer in the folder are forgotten.
"""

from __future__ import annotations

import os
from collections.abc import Collection
from pathlib import Path
from types import TracebackType
from typing import NamedTuple

from fedge_models.system.healing import HealingDatabase
from fedge_models.system.moved import retried

_SCHEMA = """
CREATE TABLE IF NOT EXISTS taken (
    name BLOB PRIMARY KEY, inode INTEGER NOT NULL, mtime_ns INTEGER NOT NULL, size INTEGER NOT NULL,
    finished INTEGER NOT NULL) WITHOUT ROWID;
"""


class Seen(NamedTuple):
    """State of a file when it was looked at."""

    inode: int
    mtime_ns: int
    size: int


@retried
class Journal:
    """The journal of one folder, for one thread. While the disk takes nothing, it goes on in memory."""

    def __init__(self, path: Path) -> None:
        self._db = HealingDatabase(path, _SCHEMA, "the journal of pictures", memory=True)
        self._taken: dict[str, Seen] = {}
        self._unfinished: list[str] = []
        for name, inode, mtime_ns, size, finished in self._db.rows("SELECT * FROM taken WHERE typeof(name) = 'blob'"):
            self._taken[os.fsdecode(name)] = Seen(inode, mtime_ns, size)
            if not finished:
                self._unfinished.append(os.fsdecode(name))

    def __enter__(self) -> Journal:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._db.close()

    def interrupted(self) -> list[str]:
        """Pictures that were read and not finished when the process ended; returned once."""
        names, self._unfinished = self._unfinished, []
        self._db.run("UPDATE taken SET finished = 1")
        return names

    def has(self, name: str, seen: Seen) -> bool:
        """Whether exactly this picture was read."""
        return self._taken.get(name) == seen

    def take(self, name: str, seen: Seen) -> None:
        """Record that a picture is read; durable on return."""
        self._db.run("INSERT OR REPLACE INTO taken VALUES (?, ?, ?, ?, 0)", os.fsencode(name), *seen)
        self._taken[name] = seen

    def finish(self, name: str) -> None:
        """Record that the agent has decided on a picture."""
        self._db.run("UPDATE taken SET finished = 1 WHERE name = ?", os.fsencode(name))

    def forget_all_but(self, names: Collection[str]) -> None:
        """Forget pictures that are no longer in the folder."""
        gone = [name for name in self._taken if name not in names]
        if not gone:
            return
        with self._db.transaction() as db:
            db.executemany("DELETE FROM taken WHERE name = ?", [(os.fsencode(n),) for n in gone])
        for name in gone:
            del self._taken[name]
