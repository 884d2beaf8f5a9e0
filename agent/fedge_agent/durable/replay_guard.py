# SPDX-License-Identifier: Apache-2.0
"""Find the stored row whose replay ends the process, so that the third start leaves it out.

A row of the inbox is read again at each start until it is decided on: one that ends the process would end every later
one. A kill leaves no time to say what it happened at, so the number of the row at hand is in a file while it is
replayed. The file is not fsynced: it has to survive the process, and a power cut is no fault of a row.
"""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import msgspec
from fedge_models.system.structs import known

FILE = "replay.json"
LIMIT = 2  # processes that ended at a row


@known
class AtHand(msgspec.Struct):
    """What is known of earlier replays."""

    row: int = 0  # that is being replayed; 0: none
    ended: dict[str, int] = {}  # row -> how many processes ended while it was replayed


class ReplayGuard:
    """The guard of one replay; folder: the agent's state. A disk that takes nothing ends the guard, not the replay."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / FILE
        self._known = _load(self._path)
        if self._known.row:
            row = str(self._known.row)
            self._known.ended[row], self._known.row = self._known.ended.get(row, 0) + 1, 0
            self._write()

    @property
    def left_out(self) -> frozenset[int]:
        """The rows that are not to be replayed."""
        return frozenset(int(row) for row, count in self._known.ended.items() if count >= LIMIT)

    def mark(self, row: int) -> None:
        """Note that a row is replayed now."""
        self._known.row = row
        self._write()

    def end(self) -> None:
        """Note that the replay is over: every row did no harm, or was left out."""
        self._known = AtHand()
        with suppress(OSError):
            self._path.unlink(missing_ok=True)

    def _write(self) -> None:
        with suppress(OSError):
            fresh = self._path.with_suffix(".new")
            fresh.write_bytes(msgspec.json.encode(self._known))
            fresh.replace(self._path)


def _load(path: Path) -> AtHand:
    try:
        return msgspec.json.decode(path.read_bytes(), type=AtHand)
    except (OSError, msgspec.DecodeError):
        return AtHand()
