# SPDX-License-Identifier: Apache-2.0
"""What the connections of one process to one file have in common: whose turn it is, and what stands in for the file."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Mapping

from .stand_in import Holding, StandIn

FLAPS_S = 60.0  # a disk that fails again so soon is tried half as often: each time, what is in memory is copied
RAREST = 64


class Sharing:
    """The common state of those connections; they hold `lock` while they use it."""

    def __init__(self, to_memory: bool, holding: Holding) -> None:
        self.lock = threading.RLock()
        self.to_memory, self.holding = to_memory, holding
        self.stand_in: StandIn | None = None
        self.problem: str | None = None  # why the file is not written now
        self.unread = False  # the disk did not read the file: only when it does, the stand-in may end
        self.rarer = 1  # how many times as long as at first the disk is left alone
        self.moved: Counter[str] = Counter()  # table -> rows that came from memory to the file
        self.began = 0.0  # when the stand-in began, monotonic s
        self._ended = float("-inf")  # when the last one ended

    def begin(self, made: StandIn) -> StandIn:
        """Take a stand-in."""
        self.rarer = min(2 * self.rarer, RAREST) if time.monotonic() - self._ended < FLAPS_S else 1
        self.stand_in, self.began = made, time.monotonic()
        return made

    def end(self, moved: Mapping[str, int]) -> None:
        """Use the file again, which has what was in memory."""
        assert self.stand_in is not None
        self.stand_in.connection.close()
        self.stand_in, self.problem, self.unread = None, None, False
        self.moved.update(moved)
        self._ended = time.monotonic()
