# SPDX-License-Identifier: Apache-2.0
"""Which databases the state folder held, so that one that was deleted or emptied is noticed at the next start.

Promises: SQLite takes a file that is gone or empty for a new one; here it is reported as lost until a person has
looked, as a damaged one is. A new folder, and one of a version that knew fewer files, report nothing. Leaves to
`damage` what stands for the lost file, and to the room of each file to begin it anew.
"""

from __future__ import annotations

import logging
from collections.abc import Collection
from contextlib import suppress
from pathlib import Path

import msgspec
from fedge_models.errors import StorageError
from fedge_models.system import damage, files

logger = logging.getLogger(__name__)

FILE = "databases.json"  # in the state folder
ALWAYS = ("inbox.sqlite", "samples.sqlite", "spool.sqlite")  # every version has these
RAN = ("status.addr", "sources")  # made once these are open, also by versions that write no `FILE`
PLACES = ("*.sqlite", "outputs/*.sqlite", "sources/*/*.sqlite")
LOST = {
    "spool.sqlite": "events that waited for an output are lost, but for those still open, which are sent again; "
    "compare fedge-agent event list --all with the orders at the MES",
    "inbox.sqlite": "readings that were not decided on are lost, and windows begin again",
    "samples.sqlite": "samples, labels and the list of events are lost, with what people noted; samples come again",
    "outputs": "which order belongs to which event is lost; orders are found at the MES by their key",
    "sources": "what was read before may be read again",
}


class KnownDatabases:
    """The list of one state folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._known = _load(folder)
        self.unmarked: list[str] = []  # lost, and the disk does not take the file that would say so later

    def take_lost(self, used: Collection[str]) -> frozenset[str]:
        """Report the files that are gone or empty; which. Before they are opened.

        used: those that a removed part of the configuration left are not missed, if they are not among these, or in
        one of these folders.
        """
        wanted = (name for name in sorted(self._known) if name in used or str(Path(name).parent) in used)
        lost = {name: why for name in wanted if (why := _lack(self._folder / name))}
        for name, why in lost.items():
            self._report(name, why)
        return frozenset(lost)

    def _report(self, name: str, why: str) -> None:
        path = self._folder / name
        text = f"{why}; a new one is begun: {LOST.get(name) or LOST[name.partition('/')[0]]}"
        try:
            files.make_folder(path.parent)
            damage.report_gone(path, text)
        except (OSError, StorageError) as e:
            logger.error("%s %s: %s (%s)", path, damage.LOST, text, e)
            self.unmarked.append(f"{path} {damage.LOST}: {text}")

    def note(self) -> None:
        """Store which databases there are now, if that is new. A disk that takes nothing is tried again."""
        found = {name for name in self._found() if _lack(self._folder / name) is None}
        if found == self._known:
            return
        with suppress(StorageError):
            files.write(self._folder / FILE, msgspec.json.encode(sorted(found)), 0o600)
            self._known = frozenset(found)

    def _found(self) -> list[str]:
        with suppress(OSError):
            return [str(p.relative_to(self._folder)) for place in PLACES for p in self._folder.glob(place)]
        return []


def _load(folder: Path) -> frozenset[str]:
    try:
        return frozenset(msgspec.json.decode((folder / FILE).read_bytes(), type=list[str]))
    except (OSError, msgspec.MsgspecError, UnicodeDecodeError):
        with suppress(OSError):
            return frozenset(ALWAYS if any((folder / name).exists() for name in RAN) else ())
        return frozenset()


def _lack(path: Path) -> str | None:
    """What is wrong with a file that holds nothing; None for any other, also for one that cannot be seen."""
    try:
        return "it was empty" if path.stat().st_size == 0 else None
    except FileNotFoundError:
        return "it was gone"
    except OSError:
        return None
