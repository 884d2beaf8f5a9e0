# SPDX-License-Identifier: Apache-2.0
"""Windows of a stored past that came before the model had its first samples: learnt from at once, decided on later.

A model needs samples before it decides, and those of all its machines count. So what is read of one machine meanwhile
cannot wait unread: the others may need it. It waits here, bounded by its size.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from typing import Any, NamedTuple

from numpy.typing import NDArray

from ..samples.label_values import TargetValue
from ..types import Window

MOST_BYTES = 32 * 2**20  # of all machines
LEAST_BYTES = 256 * 2**10  # of one


class Learnt(NamedTuple):
    """A window that was put as a sample, and what the decision on it needs."""

    window: Window
    features: NDArray[Any]
    actual: TargetValue
    context: dict[str, str]

    @property
    def nbytes(self) -> int:
        """What its arrays take."""
        return self.window.values.nbytes + self.features.nbytes


class EarlyWindows:
    """Those of one of so many machines, oldest first."""

    def __init__(self, machines: int) -> None:
        self._most = max(LEAST_BYTES, MOST_BYTES // max(1, machines))
        self._waiting, self._bytes = deque[Learnt](), 0
        self.given_up = 0  # windows for which there was no room: the oldest ones

    def __len__(self) -> int:
        return len(self._waiting)

    @property
    def all_wait(self) -> bool:
        """Whether some wait, and none was given up: then it is worth reading them again after a restart."""
        return bool(self._waiting) and not self.given_up

    def append(self, learnt: Learnt) -> None:
        """Let one wait; the oldest ones are given up where there is no room."""
        self._waiting.append(learnt)
        self._bytes += learnt.nbytes
        while self._bytes > self._most:
            self._pop()
            self.given_up += 1

    def take(self) -> Iterator[Learnt]:
        """Take out those that wait."""
        while self._waiting:
            yield self._pop()

    def _pop(self) -> Learnt:
        learnt = self._waiting.popleft()
        self._bytes -= learnt.nbytes
        return learnt
