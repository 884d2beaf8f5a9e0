# SPDX-License-Identifier: Apache-2.0
"""Whether a folder is a copy of the one that was last used: restored from a backup, or made from an image.

A file that nobody writes has a number (inode) and a time of change (ctime) that no program can set. A copy has others.
Changing the owner or mode changes that time, too; then these differ as well. In an image of a whole disk all are alike.

Promises: a record that is damaged or gone is reported, and started over; one that this user may not read is left as it
is. Then it is not known whether the folder is a copy.
"""

from __future__ import annotations

from pathlib import Path

import msgspec
from fedge_models.system import damage, files
from fedge_models.system.structs import known

MARK, RECORD = "folder.mark", "folder.json"
UNKNOWN = "whether this folder was restored from a backup or copied is not known; a new one is begun"


@known
class Record(msgspec.Struct, frozen=True):
    """What was known of the mark, and how often it was another one."""

    inode: int = 0
    changed_ns: int = 0
    owner: tuple[int, int, int] = (0, 0, 0)  # uid, gid, mode
    copies: int = 0
    new: bool = False  # found at this look


def look(folder: Path, used: bool = False) -> Record:
    """Look at the mark, and record what is found. Raises OSError or StorageError.

    used: whether an agent ran here before: a mark without a record is then no first start that was killed.
    """
    mark, record = folder / MARK, folder / RECORD
    before = _load(record)
    if before is None:
        if used and mark.exists():
            damage.report_gone(record, f"it was gone; {UNKNOWN}")
        before = Record()
    if not mark.exists():
        mark.write_text("Its number and time show whether this folder was copied.\n")
    stat = mark.stat()
    here = Record(stat.st_ino, stat.st_ctime_ns, (stat.st_uid, stat.st_gid, stat.st_mode), before.copies)
    if here == before:
        return here
    same_file = here.inode == before.inode and (here.owner != before.owner or here.changed_ns == before.changed_ns)
    copied = before.inode != 0 and not same_file
    found = msgspec.structs.replace(here, copies=before.copies + copied)
    files.write(record, msgspec.json.encode(found))
    return msgspec.structs.replace(found, new=copied)


def _load(path: Path) -> Record | None:
    """The record; None: there is none. A damaged one is set aside. Raises OSError, StorageError."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=Record)
    except FileNotFoundError:
        return None
    except (IsADirectoryError, msgspec.MsgspecError, UnicodeDecodeError) as e:
        damage.report(path, damage.set_aside(path), f"{e}; {UNKNOWN}")
        return Record()
