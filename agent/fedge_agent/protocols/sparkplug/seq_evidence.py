# SPDX-License-Identifier: Apache-2.0
"""Whether an edge node counts the seq of its messages at all: evidence from the messages themselves. Pure.

A host drops what comes too late, by seq. A node that does not count (the same seq in each message, or downwards) would
be dropped for ever. So many late messages in a row are asked about; when births change nothing, its messages are used
in the order in which they arrive, which the broker keeps.
"""

from __future__ import annotations

MOST_LATE = 4  # in a row; a broker that repeats itself after a break sends fewer, or newer ones in between
TRUSTED = 64  # messages in order after which a node counts again


class SeqEvidence:
    """What the messages of one node say of its seq."""

    def __init__(self) -> None:
        self.uncounted = False  # its messages are to be used as they arrive
        self._late = self._in_order = 0  # in a row
        self._doubted = self._reborn = False

    def birth(self) -> None:
        """Births came, with which the seq begins anew."""
        self._reborn, self._late = self._doubted, 0

    def in_order(self) -> bool:
        """The expected message came. Whether that ends `uncounted`."""
        self._late, self._in_order = 0, self._in_order + 1
        if self._in_order < TRUSTED:
            return False
        ends, self.uncounted = self.uncounted, False
        self._doubted = self._reborn = False
        return ends

    def late(self) -> bool:
        """A message came that is too late by its seq. Whether this is one too many."""
        self._late, self._in_order = self._late + 1, 0
        if self._late < MOST_LATE:
            return False
        self._late, self.uncounted, self._doubted = 0, self._reborn, True
        return True

    def out_of_order(self) -> None:
        """One came out of order, and is used as it came."""
        self._in_order = 0
