# SPDX-License-Identifier: Apache-2.0
"""Raise a machine's limit on a run that it was not made from, by what the run's first normal minutes show. Pure.

A limit promises how rarely normal windows exceed it. If it was made from `ENOUGH_RUNS` runs or more, it leaves room for
how runs differ (`learning.next_run`), and is used as it is. A limit of one or two runs, or of other machines, knows
nothing of that. So the first `FIRST` windows of a new run that do not overlap are compared with the limit times
`bound`; then the limit is multiplied by the ratio of their median score to the median of the windows that it was made
from, at least 1 and at most `bound`, but no further above the highest of these windows than `HEADROOM`: a limit that
covers them already is not raised. From then on it stays while the run lasts: a fault that grows does not raise it,
however slowly. Windows above the limit in use, and of an open event, are not used. A run whose ratio is above `LIKE` is
not like those that the limit was made from: that is said (`unlike`), and its decisions are provisional.

What keeps a fault from being learnt:

- While an event is open, no run begins. After a gap, or a restart, the limit is the one it was opened against; if that
  is not known, the one that was released.
- The run of such a gap begins once the event is over, and is compared with the limit as it was released: a fault that
  was just there may come back, and nothing of the run is known to be normal. A run that a person accepted adapts.
- `BUDGET` windows in all, over all runs, are compared with the limit times `bound`. A machine that starts and stops all
  the time is compared with its own limit from then on, until a person accepts a run (`accept`), or the limit is lost
  and made again: of fewer runs, or after there was none.
- `bound` counts from what the oldest windows alone give (`Limit.lifted`).

Another release, own model or standardisation has scores of another scale; then the ratio of the run stays as it is.
A limit that is made anew on the same scale, from this run too, needs less raising.

A run ends with a gap as it ends a unit (`samples.units`). The only clock is the source's.
"""

from __future__ import annotations

import math
from statistics import median
from typing import NamedTuple

import msgspec
from fedge_models.system.structs import known

from ..learning.limits import UNKNOWN, Limit
from ..learning.next_run import ENOUGH_RUNS
from ..samples.units import GAP_STEPS, GAP_WINDOWS

FIRST = 6.0  # windows of a new run that share no samples
BUDGET = 3 * FIRST  # such windows of all runs
NEARLY = 1e-6  # shares of a window do not add up exactly
LIKE = 1.5  # the highest ratio of a run that is like the others
PER_WINDOW = 12  # scores that are noted in the time of a window, at most
HEADROOM = 1.25  # times the highest score of these windows, above which no run raises a limit
LEAST_SCORE = 1e-12
FAR = 1000.0  # the highest ratio that is stated
BEYOND_ALL = 700.0  # level of a run of which most scores were above the limit times the bound


@known
class RunState(msgspec.Struct, frozen=True):
    """What is known of the run at hand. It survives a restart."""

    last_ns: int = 0  # end of the newest window; 0: there was none
    is_new: bool = False  # the limit was not made from this run
    apart: float = 0.0  # windows that share no samples so far
    beyond: int = 0  # scores that were not used, as they were above the limit in use or of an open event
    ratios: tuple[float, ...] = ()  # logarithms of the first scores by `Limit.middle`, until `level` is known
    level: float | None = None  # logarithm of the median score, on the scale of `scale`
    top: float | None = None  # the same of the highest one; None: not known, or most were too high to be used
    needed: float = 0.0  # by how much a limit has to be raised to be above that, with room; 0: not known
    since_ns: int = 0  # end of the first window
    noted_ns: int = 0  # end of the last window whose score was noted
    scale: str = ""  # whose scores these are, see `Serving.scale_of_scores`
    ratio: float = 1.0  # of their median to that of the windows the limit was made from
    spent: float = 0.0  # windows that share no samples, of all runs, that were compared with the limit times the bound
    passed_ns: int = 0  # end of the newest window that came before anything decided: the limit was made from these
    owed: bool = False  # a gap passed while an event was open: a run begins once it is over
    runs: int = 0  # of the newest limit; 0: there was none
    accepted: str = ""  # key of the newest event that a person took for the new normal


class Figures(NamedTuple):
    """The limit of an asset, for the status page."""

    released: float
    in_use: float
    factor: float  # of the two
    bound: float
    windows: float  # of the run, that share no samples
    needed: float  # of these before the limit adapts
    is_new: bool  # the limit was not made from this run
    unlike: float | None  # by how much the run's level is above that of the runs the limit was made from, if too much
    left: float  # windows of coming runs that may be compared with the limit times the bound
    used_up: bool  # too few for another run, although the limit is of few runs


class RunLimit:
    """The limit of one asset on the run at hand; bound: 1: it is the one that was released, always."""

    def __init__(self, bound: float, span_ns: int, hop_ns: int) -> None:
        """span_ns: time that a window covers; hop_ns: from one window to the next."""
        self._bound, self._span = bound, max(1, span_ns)
        self._gap = max(GAP_STEPS * hop_ns, GAP_WINDOWS * span_ns)
        self._last_ns = 0  # of the newest window; else the state would be made anew with each
        self._passed_ns = 0
        self._most = math.inf
        self._of: Limit | None = None  # what `_now` was made from
        self._now = Limit(math.inf)
        self._state = RunState()

    @property
    def state(self) -> RunState:
        """The state to store."""
        return msgspec.structs.replace(self._state, last_ns=self._last_ns, passed_ns=self._passed_ns)

    @property
    def since_ns(self) -> int:
        """End of the first window of the run."""
        return self._state.since_ns

    def resume(self, state: RunState) -> None:
        """Continue from a stored state."""
        self._state, self._last_ns, self._passed_ns, self._of = state, state.last_ns, state.passed_ns, None

    def pass_over(self, time_ns: int) -> None:
        """Note the end of a window that nothing decides on yet: a limit that comes later is made from its run."""
        runs, spent = self._state.runs, self._state.spent
        self.limit(UNKNOWN, "", time_ns)
        if self._state.runs != runs:  # there was no model yet, which does not mean that the limit is lost
            self._state = msgspec.structs.replace(self._state, runs=runs, spent=spent)
        self._passed_ns = max(self._passed_ns, time_ns)

    def limit(self, released: Limit, scale: str, time_ns: int, most: float = math.inf, is_open: bool = False) -> Limit:
        """The limit of the window that ends then, from the one that was released.

        scale: names the scale of the scores; most: no run raises a limit above that: the score of a confirmed fault;
        is_open: an event of the asset is open, and nobody took it for the new normal.
        """
        self._most = most
        last, self._last_ns = self._last_ns, time_ns
        if released is not self._of:
            self._note_runs(released)
        is_gap = time_ns - self._span - last > self._gap
        if not last or ((is_gap or self._state.owed) and not is_open):
            self._begin(released, scale, time_ns, is_open or self._state.owed)
        elif is_gap and not self._state.owed:
            self._state = msgspec.structs.replace(self._state, owed=True)
        if released is not self._of:
            self._take(released, scale)
        return self._now

    def accept(self, key: str, is_alarm: bool = True) -> None:
        """Take note that a person took an open event for the new normal. A run that an alarm put off then begins."""
        state = self._state
        if not key or key == state.accepted:
            return
        begins = is_alarm and state.owed
        self._last_ns = 0 if begins else self._last_ns
        self._state = msgspec.structs.replace(state, spent=0.0, owed=state.owed and not begins, accepted=key)

    def _begin(self, released: Limit, scale: str, time_ns: int, after_event: bool) -> None:
        """Begin a run with the window that ends then; after_event: it may be that of a fault."""
        was, is_known = self._state, time_ns <= max(self._passed_ns, released.until_ns)  # as when rows are read again
        is_new = _is_of_few_runs(released) and not is_known and _has_budget(was) and not after_event
        self._state = RunState(
            is_new=is_new, since_ns=time_ns, scale=scale, spent=was.spent, runs=was.runs, accepted=was.accepted
        )
        self._of = None

    def _note_runs(self, released: Limit) -> None:
        """Take note of how many runs the limit is from; one that is made from the beginning has its budget again.

        Windows of an unlike run are withheld, and may be missing for that reason.
        """
        was = self._state
        runs = released.runs if math.isfinite(released.score) else 0
        if runs != was.runs:
            again = runs < was.runs and (runs == 0 or self._unlike(was, released) is None)
            self._state = msgspec.structs.replace(was, runs=runs, spent=0.0 if again else was.spent)

    def learn(self, score: float, time_ns: int, is_open: bool) -> float | None:
        """Note the score of the window that ended then; is_open: an event of the asset is open.

        By how much the run's level is above that of the runs the limit was made from, with the window that shows that
        it is too much; else None.
        """
        was, released = self._state, self._of
        if not was.is_new or was.level is not None or not math.isfinite(score):
            return None
        if released is None or not _is_usable(released):
            return None
        since = time_ns - was.noted_ns
        if was.noted_ns and 0 <= since < self._span / PER_WINDOW:
            return None
        more = min(1.0, abs(since) / self._span, FIRST - was.apart) if was.noted_ns else 1.0
        apart = was.apart + more
        used, middle = score <= self._now.score and not is_open, math.log(released.middle)
        ratios = (*was.ratios, round(math.log(max(score, LEAST_SCORE)) - middle, 4)) if used else was.ratios
        beyond = was.beyond + (not used)
        level = top = None
        if apart >= FIRST - NEARLY:
            apart, is_known = FIRST, bool(ratios) and len(ratios) >= beyond
            level, top = (middle + median(ratios), middle + max(ratios)) if is_known else (BEYOND_ALL, None)
            was = msgspec.structs.replace(was, needed=_needed(top, released))
            ratios, self._of = (), None
        self._state = msgspec.structs.replace(
            was,
            apart=apart,
            beyond=beyond,
            ratios=ratios,
            level=level,
            top=top,
            noted_ns=time_ns,
            spent=was.spent + more,
        )
        return None if level is None else self._unlike(self._state, released)

    def figures(self, released: Limit, scale: str, most: float = math.inf) -> Figures:
        """The limit that the next window of the run gets, for the status page; as `limit`. Any thread.

        released may be of what serves since the last window, and has scores of another scale.
        """
        state = _on_scale(self._state, released, scale)
        in_use = self._raised(state, released, most)
        factor = in_use / released.score if released.score > 0 and math.isfinite(released.score) else 1.0
        bound, unlike = self._bound_of(released), self._unlike(state, released)
        left = round(max(0.0, BUDGET - state.spent), 3)
        used_up = _is_of_few_runs(released) and bound > 1 and not state.is_new and not _has_budget(state)
        return Figures(released.score, in_use, factor, bound, state.apart, FIRST, state.is_new, unlike, left, used_up)

    def _unlike(self, state: RunState, released: Limit) -> float | None:
        ratio = _ratio(state, released)
        is_unlike = ratio is not None and ratio > min(LIKE, self._bound) and self._bound > 1
        return min(ratio, FAR) if ratio is not None and is_unlike else None

    def _bound_of(self, released: Limit) -> float:
        """By how much a run may raise a limit: the bound, less what the limit was raised by already."""
        return max(1.0, self._bound / released.lifted)

    def _take(self, released: Limit, scale: str) -> None:
        """Make the limit in use from another released one, or with what was learnt by now."""
        state = _on_scale(self._state, released, scale)
        ratio = _ratio(state, released)
        ratio, needed = (state.ratio, state.needed) if ratio is None else (ratio, _needed(state.top, released))
        self._state, self._of = msgspec.structs.replace(state, ratio=ratio, needed=needed), released
        factor = self._factor(state, released)
        unsure = factor > 1 and (state.level is None or factor > LIKE)
        score = self._raised(state, released, self._most)
        self._now = released._replace(score=score, provisional=released.provisional or unsure)

    def _raised(self, state: RunState, released: Limit, most: float) -> float:
        return max(released.score, min(released.score * self._factor(state, released), most))

    def _factor(self, state: RunState, released: Limit) -> float:
        bound = self._bound_of(released)
        if not state.is_new or not _is_usable(released) or bound <= 1:
            return 1.0
        ratio = _ratio(state, released)
        return bound if ratio is None else min(bound, max(1.0, min(ratio, _needed(state.top, released) or ratio)))


def _on_scale(state: RunState, released: Limit, scale: str) -> RunState:
    """The state on the scale of a released limit: a run stays as far above the others as it was."""
    if not _is_usable(released):
        return state
    if state.level is None or scale == state.scale:
        return msgspec.structs.replace(state, scale=scale)
    level = math.log(released.middle) + math.log(state.ratio)
    top = None if state.top is None else math.log(state.needed * released.score / HEADROOM)
    return msgspec.structs.replace(state, level=level, top=top, scale=scale)


def _ratio(state: RunState, released: Limit) -> float | None:
    """By how much the run's level is above that of the windows the limit was made from; None: not known yet."""
    if state.level is None or not _is_usable(released):
        return None
    return math.exp(min(max(state.level - math.log(released.middle), -50.0), 50.0))


def _needed(top: float | None, released: Limit) -> float:
    """By how much a limit has to be raised to be above all of the run's first windows, with room; 0: not known."""
    return 0.0 if top is None else HEADROOM * math.exp(min(top, 700.0)) / released.score


def _is_usable(released: Limit) -> bool:
    """Whether there is a limit, and it is known from what level of scores it was made."""
    return math.isfinite(released.score) and released.score > 0 and released.middle > 0


def _has_budget(state: RunState) -> bool:
    """Whether there is enough left of the budget to learn the level of another run."""
    return state.spent + FIRST <= BUDGET + NEARLY


def _is_of_few_runs(released: Limit) -> bool:
    """Whether it is known that a limit was made without knowing how runs of the machine differ."""
    return _is_usable(released) and 0 < released.runs < ENOUGH_RUNS
