# SPDX-License-Identifier: Apache-2.0
"""Watch a machine's inputs against what was learnt of them, and turn a drift that lasts into an event. Pure.

Windows are taken in blocks of operation (`learning.reference`), at most `MOST` of each, so that a decision pays for one
window in many. A column drifts once `BLOCKS` blocks in a row, that is `when.drift_for`, are outside in one direction.
The event is over once two blocks in a row have nothing outside, or a person accepts it: then what its blocks were is
normal. Time is the windows' source time, and only operation counts.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any, NamedTuple

import msgspec
import numpy as np
from fedge_models.graph.card import Card
from numpy.typing import NDArray

from ..config.schema import When
from ..learning.reference import BLOCK_WINDOWS, Reference, block_figures
from ..samples.baseline import DRIFT_BLOCKS as BLOCKS
from ..types import DRIFT, Decision, DriftState, Event, EventState
from ..windows.summary import Figures, Summary
from .drift_words import Change, of_change
from .pace import Pace
from .silence import nothing
from .unlike_run import AGAIN_NS, UnlikeRun

CALM = 2  # in a row with nothing outside: it is over
MOST = 32  # windows of a block that are looked at
LONGEST_HOPS = 10  # longer without a window is no operation
KINDS = ("moved", "spread", "constant")


class Changes(NamedTuple):
    """What one block showed of the columns."""

    direction: NDArray[np.int8]  # (3, K): rows are KINDS; 0: as learnt
    far: Figures  # (3, K)
    figures: Figures  # (2, K)


class InputDrift:
    """The inputs of one asset. reference: what was learnt of them, by now; raise_event: takes an event and the state
    to store with it; accepted: whether a person took an event for the new normal; withhold: called with key, beginning
    and end (None: it lasts) of a drift."""

    def __init__(
        self,
        gateway: str,
        model: str,
        asset: str,
        when: When,
        state: DriftState,
        run: str,
        reference: Callable[[], Reference | None],
        raise_event: Callable[[Event, EventState | None], None],
        accepted: Callable[[str], bool],
        withhold: Callable[[str, int, int | None], None],
    ) -> None:
        self._gateway, self._model, self._asset = gateway, model, asset
        self._when, self._run = when, run
        self._reference, self._raise, self._accepted, self._withhold = reference, raise_event, accepted, withhold
        self.state = state
        self.unlike = UnlikeRun(
            f"{gateway}:{model}:{asset}", model, asset, when, state.unlike, run, self._store, accepted, withhold
        )
        self._summary: Summary | None = None
        self._known: tuple[Reference, Reference] | None = None  # as learnt, and with what was accepted
        self._odd: deque[tuple[int, int]] = deque(maxlen=BLOCKS)  # windows outside, of how many
        self._calm = 0  # blocks in a row with nothing outside
        self.shown: dict[str, Any] = {"outside_share": None, "columns": {}}

    def begin(self, card: Card, shape: tuple[int, ...], pace: Pace) -> None:
        """Watch the samples of this model from now on."""
        self._summary = Summary(card, shape)
        count = len(self._summary.columns)
        least = BLOCK_WINDOWS * max(pace.hop_ns, pace.span_ns)
        self._block_ns = max(round(self._when.drift_for * 1e9 / BLOCKS), 0 if pace.of_pictures else least)
        self._stride_ns = self._block_ns // MOST
        self._hop_ns = self._block_ns // MOST if pace.of_pictures else pace.hop_ns
        self._longest_ns = LONGEST_HOPS * self._hop_ns
        self._where = np.empty((MOST + BLOCK_WINDOWS, count))
        self._spread = np.empty_like(self._where) if self._summary.spreads else None
        self._direction, self._run_length = np.zeros((3, count), np.int8), np.zeros((3, count), np.int64)
        self._began = np.zeros((3, count), np.int64)
        self._last_ns: int | None = None
        # Of the block at hand: windows that were looked at, operation, of the next to look at, time of the first.
        self._count = self._operation = self._next_ns = self._first_ns = 0
        if self.state.opened:  # the book may not know it, if the agent was killed just then
            self._withhold(self.key(), self.state.since_ns, None)
        self.unlike.begin()

    def take(self, decision: Decision, x: NDArray[Any]) -> None:
        """Take a window that was decided on; x: the model's input of it, before standardisation."""
        time_ns = decision.time_ns
        if self._again(time_ns):
            return
        step, self._last_ns = time_ns - (self._last_ns or time_ns), time_ns
        if step < 0:  # of a history, or the clock was set back
            return
        self._operation += step if step < self._longest_ns else self._hop_ns
        if self._operation >= self._next_ns and self._when.drift_for:
            self._add(decision, x)

    def _again(self, time_ns: int) -> bool:
        """Whether a window was taken before a restart, and its readings come again."""
        if self._last_ns is not None or not self.state.time_ns:
            return False
        return 0 <= self.state.time_ns - time_ns <= AGAIN_NS

    def key(self) -> str:
        """Key of the last event."""
        return f"{self._gateway}:{self._model}:{self._asset}:{DRIFT}-{self.state.run}-{self.state.number}"

    @property
    def open_key(self) -> str:
        """Key of the event that is open; "": there is none."""
        return self.key() if self.state.opened else ""

    def open_since(self) -> dict[str, int]:
        """The events that are open, and since when."""
        states = (self.open_key, self.state.since_ns), (self.unlike.open_key, self.unlike.state.since_ns)
        return {key: since_ns for key, since_ns in states if key}

    def status(self) -> dict[str, Any]:
        """For the status page."""
        state, baseline_s, reference = self.state, float(self._when.drift_baseline), self._reference()
        return {
            **self.shown,
            "covered_s": 0.0 if reference is None else reference.covered_ns / 1e9,
            "baseline_s": baseline_s,
            "watched": bool(self._when.drift_for),
            "open": state.opened,
            "key": self.open_key,
            "since_ns": state.since_ns if state.opened else None,
            "reason": state.reason if state.opened else "",
            "unlike_key": self.unlike.open_key,
            "unlike_reason": state.unlike.reason if state.unlike.opened else "",
        }

    def _add(self, decision: Decision, x: NDArray[Any]) -> None:
        assert self._summary is not None
        where, spread = self._summary(x[None])
        self._where[self._count] = where[0]
        if self._spread is not None and spread is not None:
            self._spread[self._count] = spread[0]
        self._first_ns = self._first_ns or decision.time_ns
        self._count += 1
        self._next_ns = self._operation + self._stride_ns
        if self._count >= len(self._where) or (self._operation >= self._block_ns and self._count >= BLOCK_WINDOWS):
            self._judge(decision)
            self._count = self._operation = self._next_ns = self._first_ns = 0

    def _judge(self, decision: Decision) -> None:
        """Judge the block that is full."""
        where, spread = self._where[: self._count], None if self._spread is None else self._spread[: self._count]
        reference = self._learnt()
        if reference is None or len(reference.scale) != where.shape[1]:
            return
        figures, still = block_figures(where, spread)
        if self.state.opened and self._accepted(self.key()):
            self._accept(reference, figures)
            reference = self._learnt() or reference
        self._odd.append((int(reference.odd(where, spread).sum()), len(where)))
        found = _changes(reference, figures, still)
        self._follow(found.direction)
        self._show(reference, found, where)
        lasts: NDArray[np.bool_] = np.any(self._run_length >= BLOCKS, axis=0)
        ready = reference.covered_ns >= self._when.drift_baseline * 1e9
        if not self.state.opened and lasts.any() and ready:
            self._open(decision, reference, found, lasts)
        elif self.state.opened:
            self._look_whether_over(decision, found)

    def _learnt(self) -> Reference | None:
        """What was learnt, with what a person accepted."""
        found = self._reference()
        if found is None or not self.state.low:
            return found
        if self._known is None or self._known[0] is not found:
            low, high = (np.array(side).reshape(2, -1) for side in (self.state.low, self.state.high))
            fits = low.shape == high.shape == found.low.shape  # else they are of another model
            fits = fits and bool(np.isfinite([low, high]).all())
            self._known = found, found.widened(low, high) if fits else found
        return self._known[1]

    def _follow(self, direction: NDArray[np.int8]) -> None:
        """Count how many blocks in a row each column has been outside, and since when."""
        goes_on = (direction != 0) & (direction == self._direction)
        self._began = np.where(goes_on, self._began, self._first_ns)
        self._run_length = np.where(direction == 0, 0, np.where(goes_on, self._run_length + 1, 1))
        self._direction = direction

    def _open(self, decision: Decision, reference: Reference, found: Changes, lasts: NDArray[np.bool_]) -> None:
        worst = self._worst(reference, found, np.flatnonzero(lasts))
        since = int(min(self._began[self._run_length >= BLOCKS]))
        others = int(lasts.sum()) - 1
        more = f", and {others} more" if others else ""
        self.state = msgspec.structs.replace(
            self.state,
            number=self.state.number + 1,
            run=self._run,
            opened=True,
            time_ns=decision.time_ns,
            since_ns=since,
            channel=worst.channel,
            moved=worst.far,
            reason=f"{worst.text}{more}",
        )
        self._calm = 0
        self._withhold(self.key(), since, None)
        self._raise(self._event("opened", decision), self.state)

    def _look_whether_over(self, decision: Decision, found: Changes) -> None:
        self._calm = 0 if found.direction.any() else self._calm + 1
        if self._calm < CALM:
            return
        self._withhold(self.key(), self.state.since_ns, decision.time_ns)
        event = self._event("cleared", decision)
        self.state = msgspec.structs.replace(self.state, opened=False, time_ns=decision.time_ns)
        self._raise(_beside(event, self.unlike.open_key, self.state.unlike.reason), self.state)

    def _store(self, event: Event) -> None:
        """Raise an event of the run, and store its state with that of the inputs."""
        self.state = msgspec.structs.replace(self.state, unlike=self.unlike.state)
        self._raise(_beside(event, self.open_key, self.state.reason), self.state)

    def _accept(self, reference: Reference, figures: Figures) -> None:
        """Take what is now for normal; a figure that is no finite number, which cannot be stored, stays as learnt."""
        state, figures = self.state, reference.floored(figures)
        known = np.isfinite(figures)
        low, high = np.where(known, figures, reference.low), np.where(known, figures, reference.high)
        sides = [np.array(side).reshape(2, -1) for side in (state.low, state.high)]
        if sides[0].shape == figures.shape:
            low, high = np.minimum(sides[0], low), np.maximum(sides[1], high)
        self.state = msgspec.structs.replace(state, low=low.ravel().tolist(), high=high.ravel().tolist())
        self._known = None

    def _event(self, what: str, decision: Decision) -> Event:
        last = nothing(self._asset, self._model, decision.release, decision.time_ns)
        last = msgspec.structs.replace(last, label=DRIFT, channel=self.state.channel, missing=decision.missing)
        return Event(
            key=self.key(),
            state=what,
            decision=last,
            worst=last.score,
            severity=self._when.drift_severity,
            since_ns=self.state.since_ns if what == "opened" else decision.time_ns,
            kind=DRIFT,
            reason=self.state.reason if what == "opened" else "its inputs are within what was learnt again",
            moved=self.state.moved if what == "opened" else 0.0,
        )

    def _worst(self, reference: Reference, found: Changes, columns: NDArray[np.intp]) -> Change:
        """The change that is furthest from what was learnt."""
        changes = [self._change(reference, found, int(column)) for column in columns]
        return max(changes, key=lambda c: (c.kind == "constant", abs(c.far)))

    def _change(self, reference: Reference, found: Changes, column: int) -> Change:
        """What is different in a column: that it is constant says more than that it is narrow."""
        assert self._summary is not None
        row = next(i for i in (2, 0, 1) if found.direction[i, column])
        return of_change(
            self._summary.columns[column],
            KINDS[row],
            float(found.far[row, column]),
            found.figures[:, column],
            reference.low[:, column],
            reference.high[:, column],
        )

    def _show(self, reference: Reference, found: Changes, where: Figures) -> None:
        """State for people what the block showed."""
        assert self._summary is not None
        columns = {}
        for column in np.flatnonzero(found.direction.any(axis=0)).tolist():
            change, rows = self._change(reference, found, column), found.direction[:, column] != 0
            columns[str(self._summary.columns[column])] = {
                "channel": change.channel,
                "kind": change.kind,
                "moved": change.far,
                "text": change.text,
                "since_ns": int(self._began[rows, column].min()),
                "lasts": bool((self._run_length[:, column] >= BLOCKS).any()),
            }
        outside, windows = (sum(counts) for counts in zip(*self._odd, strict=True))
        self.shown = {
            "outside_share": outside / windows,
            "columns": columns,
        }


def _beside(event: Event, other: str, reason: str) -> Event:
    """The event, with what else of the asset drifts after it is over; other: key of that, "": nothing does."""
    if event.state != "cleared" or not other:
        return event
    return msgspec.structs.replace(event, beside=True, reason=f"{event.reason}; still open: {reason}")


def _changes(reference: Reference, figures: Figures, still: NDArray[np.bool_]) -> Changes:
    """What is outside, by kind."""
    beyond = reference.outside(figures)
    stuck = still & ~reference.constant
    far = np.stack([*beyond, np.where(stuck, np.minimum(beyond[1], -0.0), 0.0)])
    direction = np.sign(np.stack([*beyond, stuck.astype(np.float64)])).astype(np.int8)
    return Changes(direction, far, figures)
