# SPDX-License-Identifier: Apache-2.0
"""Know the newest rows of a file again when it is written anew: files that always hold the last rows. Pure.

Only rows with a date are known: others may be alike and yet new.
"""

from __future__ import annotations

import re
from collections import deque

from .faults import Faults

MOST = 10_000  # rows that are known again
_DATED = r"(?<!\d)20\d\d(?:\d{4})?(?!\d)|(?<!\d)1\d{9}"  # a year, a day, or seconds since 1970
DATED_BYTES = re.compile(_DATED.encode())
_DATED_TEXT = re.compile(_DATED)


class Recent:
    """The newest rows of one file, by their hashes. `timed`: rows have times."""

    def __init__(self, timed: bool, faults: Faults) -> None:
        self._timed, self._faults = timed, faults
        self._newest: deque[int] = deque(maxlen=MOST)
        self._known: frozenset[int] = frozenset()  # of rows that were read before the file was written anew
        self._rows = 0  # since the file's beginning

    def begin(self) -> None:
        """Note that a file begins: rows that were read may stand in it."""
        self._known, self._rows = frozenset(self._newest), 0

    def is_whole(self) -> bool:
        """Whether every row of the file is known."""
        return self._timed and 0 < self._rows <= MOST

    def new(self, lines: list[str]) -> list[str]:
        """The lines that were not read before this file was written anew; the others are counted."""
        if not self._timed:
            return lines
        self._rows += len(lines)
        if self._known and (old := {i for i in lines if hash(i) in self._known and _DATED_TEXT.search(i)}):
            lines, before = [line for line in lines if line not in old], len(lines)
            what = "rows that were read before, in a file written anew"
            self._faults.note(what, repr(max(old)[:60]), before - len(lines))
        self._newest.extend(map(hash, lines))
        return lines
