# SPDX-License-Identifier: Apache-2.0
"""When which asset's oldest event may be tried again. Pure; the clock is passed in.

Each asset that failed is a lane with a back-off of its own, so an order that fails holds up its own asset only. The
target as a whole has a back-off too, so that a target that is down gets the tries of one, however many assets have
events: it begins with a failure of the whole target (no connection, a login that is not accepted), or when several
assets failed in a row, and ends with the first success. Until then an asset that has not failed yet waits `FRESH_S` at
most: whatever fails for one asset for ever, it delays another by so long.
"""

from __future__ import annotations

import math

from fedge_models.system.worker import BackOff

from ..protocols.http import client

FIRST_S, LONGEST_S = 1.0, 300.0  # between two tries of an event; doubling
FRESH_S = 10.0  # the longest that an event waits for its first try because others failed
SEVERAL = 3  # assets that fail in a row: then it is the target
LONGEST_ASKED_S = float(client.LONGEST_ASKED_S)
MAX_ANSWERS = 5  # kept of one event, the newest


class Lane:
    """The oldest event of an asset that failed, and when it may be tried again (monotonic, s)."""

    def __init__(self, number: int, first_s: float, longest_s: float) -> None:
        self.number = number  # of the event
        self.tries = 0
        self.limited = 0  # of the tries, and of those of earlier runs, how many failed in a way that has a limit
        self.due = -math.inf
        self.answers: list[str] = []
        self.back_off = BackOff(first_s, longest_s)


class Lanes:
    """The lanes of one output. Times are monotonic, s."""

    def __init__(self, first_s: float = FIRST_S, longest_s: float = LONGEST_S) -> None:
        self._range = first_s, longest_s
        self.lanes: dict[str, Lane] = {}  # asset -> its lane; only of assets that failed
        self._failed: set[str] = set()  # assets that failed since the last success
        self._back_off = BackOff(first_s, longest_s)
        self._gate, self._gate_of_fresh = -math.inf, -math.inf  # before them nothing is tried

    def blocked(self, now: float) -> list[str]:
        """The assets whose events have to wait."""
        return [asset for asset, lane in self.lanes.items() if max(lane.due, self._gate) > now]

    def closed_s(self, now: float) -> float:
        """For how many more seconds the target gets no tries but of assets that have not failed yet."""
        return max(0.0, self._gate - now)

    def closed_to_fresh_s(self, now: float) -> float:
        """For how many more seconds the target gets no try at all."""
        return max(0.0, self._gate_of_fresh - now)

    def wait_s(self, asset: str, now: float) -> float:
        """Seconds until an asset's event may be tried again."""
        lane = self.lanes.get(asset)
        return max(0.0, self._gate_of_fresh - now if lane is None else max(lane.due, self._gate) - now)

    def next_s(self, now: float) -> float:
        """Seconds until something that is blocked now may be tried; infinite when nothing is."""
        due = [max(lane.due, self._gate) for lane in self.lanes.values()]
        return min((t - now for t in due if t > now), default=math.inf)

    def failed(self, asset: str, number: int, answer: str, now: float, before: int = 0) -> Lane:
        """Note a failed try of an event; the lane counts the tries. before: those that are stored, of earlier runs."""
        lane = self.lanes.get(asset)
        if lane is None or lane.number != number:
            lane = self.lanes[asset] = Lane(number, *self._range)
        lane.tries = max(lane.tries, before) + 1
        lane.answers = [*lane.answers[1 - MAX_ANSWERS :], answer]
        lane.due = now + lane.back_off.next()
        self._failed.add(asset)
        if len(self._failed) >= SEVERAL:
            self.target_failed(now)
        return lane

    def target_failed(self, now: float, asked_s: float = 0.0) -> None:
        """Note that the target as a whole failed; `asked_s`: how long it asks to wait."""
        asked_s = min(asked_s, LONGEST_ASKED_S)
        wait = max(self._back_off.next(), asked_s)
        self._gate = now + wait
        self._gate_of_fresh = now + max(min(wait, FRESH_S), asked_s)

    def answered(self) -> None:
        """Note that the target served a request."""
        self._failed.clear()
        self._back_off.reset()
        self._gate = self._gate_of_fresh = -math.inf

    def done(self, asset: str) -> None:
        """Forget an asset's lane: its event needs no further try."""
        self.lanes.pop(asset, None)
        self._failed.discard(asset)

    def keep(self, numbers: set[int]) -> None:
        """Forget the lanes of events that are not among these: somebody dropped them."""
        self.lanes = {asset: lane for asset, lane in self.lanes.items() if lane.number in numbers}
