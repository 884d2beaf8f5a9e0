# SPDX-License-Identifier: Apache-2.0
"""What an asset can say now, and why not more: deciding, waiting, stale or blind. Pure; ages are passed in.

An asset that says nothing is never taken for a normal one. *Waiting*: it has not decided since the start. *Stale*: it
decided, and does so no more. *Blind*: it decides, but could not alarm. It is found by `condition_judge`, and said by
`condition_words`.
"""

from __future__ import annotations

import enum
import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import msgspec
from fedge_models.system.structs import known

from ..windows.facts import ChannelFacts

FLOOR_S = 10.0  # a shorter silence is never stale: a source may poll, and a small board may be busy
AT_END = "at its end"  # the detail of a source that has nothing more to read


class State(str, enum.Enum):
    """What an asset can say."""

    DECIDING = "deciding"
    WAITING = "waiting"  # no decision since the start
    STALE = "stale"  # it decided before, and does so no more
    BLIND = "blind"  # it decides, and cannot alarm


class Reason(str, enum.Enum):
    """Why there is no decision, or none that could alarm; in the order in which they are looked for."""

    MODEL = "model"  # there is none yet
    BASELINE = "baseline"  # what is usual at this site is still being learnt
    LABELS = "labels"  # it cannot be learnt: hardly a window has the label "normal"
    SOURCE = "source"  # it is not connected, or at its end
    TIMES = "times"  # the readings' times are out of range
    READINGS = "readings"  # a channel was never read
    OUTSIDE = "outside"  # a channel's values are outside of its `range`
    BAD = "bad"  # a channel's quality is bad
    NOT_NUMBERS = "not_numbers"  # a channel's values are none
    CLOCK = "clock"  # a channel's times do not fit those before them
    BEHIND = "behind"  # a channel's times are behind those of the asset's other channels
    LAGS = "lags"  # the same, and its values are used as of when they come
    LATE = "late"  # a channel's times are not newer than those before
    SLOW = "slow"  # readings are so far apart that a window ends before it is full
    SILENT = "silent"  # a channel is no longer read
    GAPS = "gaps"  # too much of each window is missing
    UNDEFINED = "undefined"  # the formula of a derived channel gives no number
    WINDOW = "window"  # the first is not full yet
    SCORE = "score"  # the model's score is not finite
    LIMIT = "limit"  # no score can be above it, or any is


@known
class Cause(msgspec.Struct, frozen=True):
    """One reason, with what is known of it."""

    reason: Reason
    channels: tuple[str, ...] = ()  # labels of the channels it is true of
    source: str = ""
    since_ns: int | None = None  # source time
    age_s: float | None = None  # since when, where the source gives no time
    count: int = 0  # of so many
    total: int = 0
    detail: str = ""  # an example, a source's problem, a value


@known
class Condition(msgspec.Struct, frozen=True):
    """What an asset can say now."""

    state: State
    causes: tuple[Cause, ...] = ()
    age_s: float | None = None  # of the last decision; None: none since the start
    stale_after_s: float = FLOOR_S
    gaps: float = 0.0  # share of the recent windows that had too many gaps for a decision
    overdue: bool = False  # waiting for something that should have come by now
    now_ns: int = 0  # newest source time that was seen
    derived: tuple[str, ...] = ()  # derived channels that have no value because one that they depend on has none

    @property
    def problem(self) -> bool:
        """Whether a person has to look: what is waited for may still come, but a blind or stale asset sees nothing."""
        return self.state in (State.STALE, State.BLIND) or self.overdue or bool(self.causes and not self.waits)

    @property
    def waits(self) -> bool:
        """Whether it waits for what comes by itself: its model, its baseline, its first window."""
        return self.state is State.WAITING and not self.overdue

    @property
    def well(self) -> bool:
        """Whether it decides, or may do so without help: what a supervisor need not restart for."""
        return self.state is State.DECIDING or self.waits or self.learns

    @property
    def mute(self) -> bool:
        """Whether there should be decisions and are none."""
        return self.state is State.STALE or self.overdue

    @property
    def learns(self) -> bool:
        """Whether it waits for its model or its baseline: a restart would not help. One that decided, and does so no
        more, learns nothing either."""
        return self.state is not State.STALE and any(
            c.reason in (Reason.MODEL, Reason.BASELINE, Reason.LABELS) for c in self.causes
        )


class SourceFacts(NamedTuple):
    """What a source knows that its readings do not say."""

    problems: Mapping[str, str] = {}  # subject ("connection", a tag) -> in the operator's words
    ended: bool = False  # there is nothing more to read
    refused_times: Mapping[str, tuple[int, int]] = {}  # tag -> how many, and one of them in ns
    counted: Sequence[str] = ()  # input that could not be used, in words

    @property
    def connected(self) -> bool:
        """Whether nothing is wrong with its connection, as far as it knows."""
        return "connection" not in self.problems


class Seen(NamedTuple):
    """Everything that a condition is judged from. Ages are seconds of the monotonic clock."""

    channels: Sequence[ChannelFacts]
    sources: Mapping[str, SourceFacts]
    now: float  # monotonic, s
    began: float  # monotonic: from when on it could decide
    decided: float | None = None  # monotonic: the last decision
    stale_after_s: float = FLOOR_S
    first_s: float = 0.0  # how long a window is: the first takes so long
    waits_for: Cause | None = None  # the model, or the baseline with its progress
    score: float = 0.0  # of the last decision
    limit: float = math.inf  # what that is compared with
    alarms: bool = True  # False: a model that only estimates, and has nothing to alarm about
    missing: Mapping[str, float] = {}  # channel -> its share without a value, in the last window
    accepted: float | None = None  # monotonic: the last window without too many gaps
    windows: int = 0  # recent ones
    refused: int = 0  # of them: too many gaps for a decision
    newest_refused: bool = False  # the newest window had too many gaps
    filled: tuple[int, int] | None = None  # samples of the first window, of how many
    holes: tuple[int, float] = (0, 0.0)  # gaps since the last full window; their usual length, s
    hold_s: float = 0.0  # how long a value is held
    undefined: int = 0  # recent windows for which the formula of a derived channel gave no number
    formulas: tuple[str, ...] = ()  # those of the last of them
    derived: Mapping[str, tuple[str, ...]] = {}  # channel -> the derived channels that depend on it
