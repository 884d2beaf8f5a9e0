# SPDX-License-Identifier: Apache-2.0
"""How far what people found of alarms moves the limit of a machine, as a factor of the limit that was learnt. Pure.

A false alarm raises it by `UP`, a confirmed fault lowers it by `DOWN`: it comes to rest where about one alarm in three
is false. Steps are small, and there are at most `A_DAY` of them a day of the machine's own clock. So one wrong code
changes little, and many cannot blind the gateway: the factor stays within bounds, and the limit below what a confirmed
fault scored. A factor of the learnt limit carries over to another release, whose scores have another scale.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from fedge_models.system import times

from ..samples.closings import Closing

UP, DOWN = 1.04, 1.02
A_DAY = 2  # steps
LEAST = 0.9  # how far faults may lower a limit
REMEMBERED_NS = 180 * times.DAY_NS  # before the newest closing: machines change
BELOW_FAULT = 0.95  # of what a confirmed fault scored: the limit stays below it


class Move(NamedTuple):
    """A factor of a learnt limit, and why."""

    factor: float = 1.0
    false_alarms: int = 0  # closings that count
    faults: int = 0
    most: float = 1.0  # bound of the factor
    below: float = float("inf")  # what the factor stays below, because of a confirmed fault

    def text(self, factor: float) -> str:
        """Why the limit is `factor` times the learnt one, in words; empty where it is not moved."""
        if self.false_alarms + self.faults == 0 or abs(factor - 1.0) < 0.005:
            return ""
        found = ((self.false_alarms, "false alarm"), (self.faults, "confirmed fault"))
        said = [f"{n} {what}{'s' * (n > 1)}" for n, what in found if n]
        held = "; kept below a confirmed fault" if 1 <= factor < 0.999 * self.factor else ""
        how, bound = ("raised", f"at most {self.most:g}") if factor > 1 else ("lowered", f"at least {LEAST:g}")
        return f"limit {how} to {factor:.2f} × the learnt one after {' and '.join(said)} ({bound} ×{held})"


NOTHING = Move()


def move(closings: Sequence[Closing], most: float, up: float = UP, down: float = DOWN) -> Move:
    """The move that follows from closings, oldest first; most: how far false alarms may raise the limit; up, down: the
    steps."""
    if not closings or most <= 1:
        return NOTHING
    newest = max(c.opened_ns for c in closings)
    factor, days, counts = 1.0, dict[int, int](), {True: 0, False: 0}
    for closing in closings:
        day = closing.opened_ns // times.DAY_NS
        days[day] = days.get(day, 0) + 1
        if newest - closing.opened_ns > REMEMBERED_NS or days[day] > A_DAY:
            continue
        counts[closing.fault] += 1
        factor = max(LEAST, factor / down) if closing.fault else min(most, factor * up)
    below = max(1.0, min((BELOW_FAULT * c.ratio for c in closings if c.fault), default=float("inf")))
    return Move(min(factor, below), counts[False], counts[True], most, below)
