# SPDX-License-Identifier: Apache-2.0
"""A condition in the words of an operator, for one asset or for many alike: at most five names, then a count. Pure."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import msgspec
from fedge_models.system import times

from .condition import AT_END, Cause, Condition, Reason, State

NAMES = 5  # in one line
COUNTED = (Reason.TIMES, Reason.OUTSIDE, Reason.NOT_NUMBERS, Reason.GAPS, Reason.CLOCK)  # `detail` is an example


def plain(condition: Condition) -> dict[str, Any]:
    """The condition as plain data, with what follows from it; `Condition` reads it back."""
    return {**msgspec.to_builtins(condition), "problem": condition.problem, "text": words(condition)}


def words(condition: Condition) -> str:
    """Why the asset decides not, or not as it should; empty when all is well."""
    why = "; ".join(_WORDS[c.reason](c, condition) for c in condition.causes)
    if condition.state is State.DECIDING:
        without = names(c for cause in condition.causes if cause.reason is not Reason.LAGS for c in cause.channels)
        without += f", and so without {names(condition.derived)}" if without and condition.derived else ""
        return f"decides{f' without {without}' if without else ''}: {why}" if why else ""
    if condition.state is State.BLIND:
        return f"cannot alarm: {why}"
    if condition.state is State.STALE:
        return f"no decision for {duration(condition.age_s or 0.0)}: {why}"
    if condition.age_s is None:
        return f"no decision yet: {why}"
    return why if why.startswith("waiting") else f"waiting: {why}"


def names(labels: Iterable[str], most: int = NAMES) -> str:
    """Names in a line; beyond five, how many more."""
    known = list(dict.fromkeys(labels))
    more = f" and {len(known) - most:,} more" if len(known) > most else ""
    return ", ".join(known[:most]) + more


def duration(seconds: float) -> str:
    """A span of time in its largest fitting unit: "43 s", "4 min", "5 h", "3 days"."""
    for limit, unit, size in ((120, "s", 1), (7200, "min", 60), (172_800, "h", 3600)):
        if seconds < limit:
            return f"{int(seconds / size)} {unit}"
    return f"{int(seconds / 86_400)} days"


def clock(time_ns: int, now_ns: int) -> str:
    """A source time as the clock on the wall shows it; with its date if it is not of the last day."""
    if not 0 <= now_ns - time_ns < times.DAY_NS:
        return f"{times.shown(time_ns)} UTC"
    return time.strftime("%H:%M", time.localtime(time_ns / 1e9))


def merged(conditions: Sequence[Condition]) -> Condition:
    """One condition for assets whose `likeness` is the same."""
    first = conditions[0]
    ages = [c.age_s for c in conditions if c.age_s is not None]
    causes = tuple(_joined(of_all) for of_all in zip(*(c.causes for c in conditions), strict=True))
    return msgspec.structs.replace(
        first,
        causes=causes,
        age_s=max(ages, default=None),
        gaps=max(c.gaps for c in conditions),
        now_ns=max(c.now_ns for c in conditions),
    )


def likeness(condition: Condition) -> tuple[object, ...]:
    """What conditions have in common that one line can say of all of them."""
    return (condition.state, condition.overdue, *((c.reason, c.source, _own(c)) for c in condition.causes))


def _own(cause: Cause) -> str:
    """The detail of a cause that must be the same in one line."""
    return "" if cause.reason in COUNTED else cause.detail


def _joined(causes: Sequence[Cause]) -> Cause:
    first = causes[0]
    if first.reason is Reason.WINDOW:  # a sum is true of no machine: that of the one which lacks most
        return min(causes, key=lambda c: c.count - c.total)
    since, ages = [c.since_ns for c in causes if c.since_ns], [c.age_s for c in causes if c.age_s is not None]
    return msgspec.structs.replace(
        first,
        channels=tuple(dict.fromkeys(label for c in causes for label in c.channels)),
        since_ns=min(since, default=None),
        age_s=max(ages, default=None),
        count=sum(c.count for c in causes),
        total=sum(c.total for c in causes),
    )


def _model(cause: Cause, _: Condition) -> str:
    return f"waiting for a model{_detail(cause)}"


def _baseline(cause: Cause, _: Condition) -> str:
    return f"waiting for the baseline{_detail(cause)}"


def _labels(cause: Cause, _: Condition) -> str:
    return f"no baseline: {cause.count:,} of {cause.total:,} windows are labelled normal, {cause.detail} are needed"


def _source(cause: Cause, _: Condition) -> str:
    if cause.detail == AT_END:
        return f"source {cause.source} is at its end, {names(cause.channels)} {_verb(cause, 'comes', 'come')} no more"
    return f"source {cause.source} is not connected{_detail(cause)}"


def _times(cause: Cause, _: Condition) -> str:
    year = times.shown(int(cause.detail))
    return f"{cause.count:,} of {cause.total:,} times of {names(cause.channels)} are out of range, e.g. {year}"


def _readings(cause: Cause, _: Condition) -> str:
    return f"no reading of {names(cause.channels)} from source {cause.source} yet{_detail(cause)}"


def _bad(cause: Cause, condition: Condition) -> str:
    since = clock(cause.since_ns or 0, condition.now_ns)
    return f"{_tags(cause)} {_verb(cause, 'has', 'have')} been Bad since {since}{_detail(cause)}"


def _not_numbers(cause: Cause, _: Condition) -> str:
    values = f"{cause.count:,} of {cause.total:,} values of {names(cause.channels)}"
    return f"{values} are not {cause.detail}"


def _outside(cause: Cause, _: Condition) -> str:
    values = f"{cause.count:,} of {cause.total:,} values of {names(cause.channels)}"
    return f"{values} are outside of their range, e.g. {cause.detail}"


def _late(cause: Cause, _: Condition) -> str:
    at = times.shown(cause.since_ns or 0)
    return f"{cause.count:,} of {cause.total:,} times of {names(cause.channels)} are not newer than {at} UTC"


def _clock(cause: Cause, _: Condition) -> str:
    times_ = f"{cause.count:,} of {cause.total:,} times of {names(cause.channels)} do not fit those before them"
    return f"{times_}, e.g. {times.shown(int(cause.detail))} UTC after {times.shown(cause.since_ns or 0)} UTC"


def _behind(cause: Cause, _: Condition) -> str:
    times_ = f"{cause.count:,} of {cause.total:,} times of {names(cause.channels)}"
    return f"{times_} are up to {_span(cause)} behind those of the other channels, and too late to be used"


def _lags(cause: Cause, _: Condition) -> str:
    times_ = f"{cause.count:,} of the last {cause.total:,} times of {names(cause.channels)}"
    return (
        f"{times_} are up to {_span(cause)} behind those of the other channels, so the values count from when they came"
    )


def _span(cause: Cause) -> str:
    seconds = cause.age_s or 0.0
    return duration(seconds) if seconds >= 10 else f"{seconds:.2g} s"


def _silent(cause: Cause, _: Condition) -> str:
    return f"no reading of {names(cause.channels)} from source {cause.source} for {duration(cause.age_s or 0.0)}"


def _slow(cause: Cause, _: Condition) -> str:
    return f"{names(cause.channels)} {_verb(cause, 'comes', 'come')} every {cause.detail}"


def _gaps(cause: Cause, _: Condition) -> str:
    where = f": {cause.detail}" if cause.detail else ""
    where += f"; gaps also in {names(cause.channels[1:])}" if len(cause.channels) > 1 else ""
    return f"{cause.count:,} of {cause.total:,} windows have more gaps than max_missing allows{where}"


def _undefined(cause: Cause, _: Condition) -> str:
    formulas = f"{_verb(cause, 'the formula', 'the formulas')} {names(cause.channels)} {_verb(cause, 'gives', 'give')}"
    return f"for {cause.count:,} of {cause.total:,} windows {formulas} no number, such as by a division by zero"


def _window(cause: Cause, _: Condition) -> str:
    if cause.total:
        return f"{cause.count:,} of {cause.total:,} samples of the first window"
    return "no window is full yet" if cause.age_s is None else f"no further window for {duration(cause.age_s)}"


def _score(cause: Cause, _: Condition) -> str:
    return f"the model's score is {cause.detail}, no number"


def _limit(cause: Cause, _: Condition) -> str:
    return f"the limit that scores are compared with is {cause.detail}"


_WORDS: dict[Reason, Callable[[Cause, Condition], str]] = {
    Reason.MODEL: _model,
    Reason.BASELINE: _baseline,
    Reason.LABELS: _labels,
    Reason.SOURCE: _source,
    Reason.TIMES: _times,
    Reason.READINGS: _readings,
    Reason.OUTSIDE: _outside,
    Reason.BAD: _bad,
    Reason.NOT_NUMBERS: _not_numbers,
    Reason.CLOCK: _clock,
    Reason.BEHIND: _behind,
    Reason.LAGS: _lags,
    Reason.LATE: _late,
    Reason.SLOW: _slow,
    Reason.SILENT: _silent,
    Reason.GAPS: _gaps,
    Reason.UNDEFINED: _undefined,
    Reason.WINDOW: _window,
    Reason.SCORE: _score,
    Reason.LIMIT: _limit,
}


def _detail(cause: Cause) -> str:
    return f": {cause.detail}" if cause.detail else ""


def _tags(cause: Cause) -> str:
    return f"{_verb(cause, 'tag', 'tags')} {names(cause.channels)}"


def _verb(cause: Cause, one: str, many: str) -> str:
    return one if len(cause.channels) == 1 else many
