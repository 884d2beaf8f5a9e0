# SPDX-License-Identifier: Apache-2.0
"""Where a followed file is read on: the stored position, brought up to the rows that the inbox has.

The position of the newest rows is in the inbox as their receipt, and on its own in `position.json`. So a damaged file
costs nothing. Without both, the file is started over, which is announced: its rows were read before. `position.json`
exists from before the first rows on, so a kill while they are handed over is told from a file that somebody deleted.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import msgspec
from fedge_models.errors import StorageError
from fedge_models.system import files

from ..protocols.csv import listing
from ..protocols.csv.tail import Position, parse_position

LAST_BYTES = 64 * 1024  # of a file, that a look goes back by
ANNOUNCED_S = 86400.0  # how long it is a problem that a file was started over
BEGUN = Position().encode()  # before the first rows


class Found(NamedTuple):
    """What is known of a position at the start."""

    continues: bool  # there is one
    what: str = ""  # to count
    started_over: str = ""  # why, in words
    damaged: bool = False


def recovered(path: Path, receipts: Sequence[bytes]) -> Found:
    """Bring a stored position up to the rows that were stored last.

    The agent may have been killed between the two, and rows that are read twice look like a clock that was set back. A
    position that a person deleted is to be started over.
    """
    try:
        data: bytes | None = path.read_bytes()
    except FileNotFoundError:
        data = None
    except OSError:
        data = b""
    at = parse_position(data) if data is not None else None
    stored = parse_position(receipts[-1]) if receipts else None
    if data == BEGUN or (data is None and stored is None):
        if stored is None:
            _write(path, Position())
        return Found(stored is not None and _write(path, stored))
    if at is not None:
        if stored is not None and _is_behind(at, stored):
            _write(path, stored)
        return Found(True)
    if data is None:
        why = (
            "is gone, but rows were read before; the file is started over, as `start` says. Its alarms keep their keys"
        )
        return Found(False, "positions started over", why)
    if stored is not None and _write(path, stored):
        return Found(True, "damaged positions, mended from the inbox")
    why = "is damaged; the file is read from its beginning. Alarms in it keep their keys, so they make no second orders"
    return Found(False, "positions started over", why, damaged=True)


def rewind(position: Path, path: Path) -> None:
    """Set a stored position back by the last rows of the file, for a look that is to see some.

    A file that is not there, is packed, or has no lines in its last bytes is left as it is.
    """
    at = None
    with suppress(OSError):
        at = parse_position(position.read_bytes())
    if at is None or at.header is None:
        return
    if listing.is_pattern(path):
        path = path.parent / at.name
    if at.offset <= LAST_BYTES:
        _write(position, msgspec.structs.replace(at, offset=0, mark=b"", columns=None))
        return
    begin = at.offset - LAST_BYTES
    with suppress(OSError), path.open("rb") as file:
        file.seek(begin)
        data = file.read(LAST_BYTES)
        line = data.find(b"\n") + 1
        if line and b"\0" not in data and data.endswith(at.mark):
            mark = data[max(0, line - len(at.mark)) : line]
            _write(position, msgspec.structs.replace(at, offset=begin + line, mark=mark))


def _is_behind(at: Position, stored: Position) -> bool:
    same = (at.inode, at.name, at.header) == (stored.inode, stored.name, stored.header)
    return same and at.offset < stored.offset


def _write(path: Path, position: Position) -> bool:
    """Store a position; whether it is: else rows are read twice."""
    with suppress(StorageError):
        files.write_with_folder(path, position.encode())
        return True
    return False
