# SPDX-License-Identifier: Apache-2.0
"""Judge an asset's condition from what was seen of it: the first that is true of each channel, else of its windows.

Pure: ages are those of the monotonic clock, and are passed in; no time of a source is compared with a clock here.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence

from ..windows.facts import RECENT, ChannelFacts
from .condition import AT_END, FLOOR_S, Cause, Condition, Reason, Seen, SourceFacts, State

SURE = 2  # holes without a window between them that are no accident
HOPS = 3  # so many decisions in a row are missed before an asset is stale
GENERAL = ("folder", "input", "rejected", "rows", "set aside", "time")  # subjects that are about no single tag
NOT_GOOD = "values of a quality that is not good"  # how the reader of tables counts them
_NEIGHBOURS = re.compile(r"; (the server has: .*|it has nothing similar)$", re.S)
INTERVALS = 4  # the same where decisions come in bursts: usual intervals between two bursts


def stale_after(hop_s: float, wait_s: float, usual_s: float | None = None) -> float:
    """Seconds without a decision after which an asset is stale.

    hop_s: between two windows; wait_s: for slower channels and held values; usual_s: usual interval between two
    readings that completed windows, where it is known (a source may deliver once a minute).
    """
    return max(FLOOR_S, HOPS * hop_s + wait_s, INTERVALS * (usual_s or 0.0))


def judge(seen: Seen) -> Condition:
    """The condition of an asset."""
    age = None if seen.decided is None else seen.now - seen.decided
    gaps = seen.refused / seen.windows if seen.windows else 0.0
    newest_ns = max((c.newest_ns for c in seen.channels), default=0)

    def of(state: State, causes: Iterable[Cause], overdue: bool = False) -> Condition:
        found = tuple(causes)
        lasting = state is State.WAITING and any(c.reason is Reason.LABELS for c in found)
        return Condition(
            state, found, age, seen.stale_after_s, gaps, overdue or lasting, newest_ns, _derived(seen, found)
        )

    if age is not None and age <= seen.stale_after_s:
        return of(*_while_deciding(seen))
    waits = [] if seen.waits_for is None else [seen.waits_for]
    if seen.waits_for is not None and seen.waits_for.reason is Reason.MODEL:
        return of(State.WAITING, waits)
    if age is None and not _overdue(seen):
        hindered = _hindrances(seen)
        found = [*waits, *hindered] or _causes(seen)
        # Windows that begin before the start lack what came while the agent was off.
        first_s = seen.first_s if all(c.reason is Reason.GAPS for c in hindered) else 0.0
        return of(State.WAITING, found, bool(hindered) and seen.now - seen.began > FLOOR_S + first_s)
    if waits and not _overdue(seen):
        return of(State.WAITING, waits)
    state = State.WAITING if age is None else State.STALE
    causes = list(_causes(seen))
    return of(state, [*waits, *causes] if age is None else [*causes, *waits], age is None and _overdue(seen))


def _derived(seen: Seen, causes: Sequence[Cause]) -> tuple[str, ...]:
    """The derived channels that go without a value with the channels of these causes."""
    without = {label for c in causes if c.reason not in (Reason.LAGS, Reason.UNDEFINED) for label in c.channels}
    return tuple(dict.fromkeys(d for c in seen.channels if c.label in without for d in seen.derived.get(c.name, ())))


def _overdue(seen: Seen) -> bool:
    """Whether a window should have come by now."""
    if seen.accepted is not None:
        return seen.now - seen.accepted > seen.stale_after_s
    return seen.now - seen.began > seen.first_s + seen.stale_after_s


def _hindrances(seen: Seen) -> list[Cause]:
    """What keeps windows from coming although readings do: that does not pass by waiting."""
    passing = (Reason.READINGS, Reason.SILENT)
    found = [c for c in _of_channels(seen.channels, seen) if c.reason not in passing]
    return found or _slow(seen) or _only_gaps(seen)


def _while_deciding(seen: Seen) -> tuple[State, list[Cause]]:
    """Blind if it could not alarm; else deciding, with the channels that it does without."""
    blind = _blindness(seen)
    if blind is not None:
        return State.WAITING if blind.reason is Reason.BASELINE else State.BLIND, [blind]
    missing = {} if seen.newest_refused else seen.missing
    without = [c for c in seen.channels if missing.get(c.name, 0.0) >= 1.0]
    lagging = [c for c in seen.channels if c.lags and c not in without]
    return State.DECIDING, [*(list(_of_channels(without, seen)) or _slow_of(without, seen)), *_lags_of(lagging)]


def _lags_of(channels: Sequence[ChannelFacts]) -> Iterable[Cause]:
    """The cause "used as of now" of those channels, one for each source."""
    for source in dict.fromkeys(c.source for c in channels):
        those = [c for c in channels if c.source == source]
        behind, count = max(c.behind_ns for c in those) / 1e9, sum(c.lags for c in those)
        labels = tuple(c.label for c in those)
        yield Cause(Reason.LAGS, labels, source, age_s=behind, count=count, total=RECENT * len(those))


def _blindness(seen: Seen) -> Cause | None:
    """Why no alarm could come, or one would come always."""
    if not math.isfinite(seen.score):
        return Cause(Reason.SCORE, detail=str(seen.score))
    if not seen.alarms:
        return None
    if seen.limit == math.inf:
        return seen.waits_for or Cause(Reason.BASELINE)
    if math.isnan(seen.limit) or seen.limit <= 0:
        return Cause(Reason.LIMIT, detail=f"{seen.limit:g}")
    return None


def _causes(seen: Seen) -> Iterable[Cause]:
    """Why there is no decision: what is wrong with channels, else with windows."""
    found = list(_of_channels(seen.channels, seen))
    if any(c.reason is not Reason.SILENT for c in found):
        return found
    slow = _slow(seen)
    if slow or found:  # a source that is silent now may have sent too seldom before
        silent = [c for c in found if not slow or (c.age_s or 0.0) > 2 * (slow[0].age_s or 0.0)]
        return [*(slow or _only_gaps(seen)), *silent]
    if seen.undefined or seen.refused:
        return [_undefined(seen) if seen.undefined > seen.refused else _gaps(seen)]
    count, total = seen.filled or (0, 0)
    if count < total or not total:
        return [Cause(Reason.WINDOW, count=count, total=total)]
    if seen.waits_for is not None:
        return []
    since = max(seen.began, seen.accepted or seen.began)
    return [Cause(Reason.WINDOW, age_s=seen.now - since)]  # the first is long complete, the next is not


def _slow(seen: Seen) -> list[Cause]:
    """The cause "too far apart", if holes end each window before it is full."""
    count, usual_s = seen.holes
    if count < SURE:
        return []
    return _slow_of([c for c in seen.channels if c.step_s], seen) or [_too_far(seen.channels, usual_s, seen)]


def _slow_of(channels: Sequence[ChannelFacts], seen: Seen) -> list[Cause]:
    """The same of those channels whose readings are too far apart, if there are any."""
    slow = [c for c in channels if c.step_s]
    return [_too_far(slow, max(c.step_s for c in slow), seen)] if slow else []


def _too_far(channels: Sequence[ChannelFacts], step_s: float, seen: Seen) -> Cause:
    labels, sources = tuple(c.label for c in channels), {c.source for c in channels}
    source = channels[0].source if len(sources) == 1 else ""
    return Cause(Reason.SLOW, labels, source, age_s=step_s, detail=too_far(step_s, seen.hold_s, seen.first_s))


def too_far(step_s: float, hold_s: float, window_s: float) -> str:
    """How far apart readings are, why that is too far, and what to do."""
    step = f"{step_s:.3g} s" if step_s < 1000 else f"{step_s:.0f} s"
    why = f"a value counts for {hold_s:g} s in a window of {window_s:g} s"
    return f"{step}, but {why}: read more often, or set window.max_hold to {step} or more"


def _only_gaps(seen: Seen) -> list[Cause]:
    """The cause "too many gaps" or "no number", if it is true of every recent window; gaps of most, where a channel
    comes too seldom."""
    if seen.windows >= HOPS and seen.undefined and seen.undefined + seen.refused == seen.windows:
        return [_undefined(seen), *([_gaps(seen)] if seen.refused else [])]
    seldom = any(c.step_s for c in seen.channels) and 2 * seen.refused > seen.windows
    return [_gaps(seen)] if seen.windows >= HOPS and (seldom or seen.refused == seen.windows) else []


def _undefined(seen: Seen) -> Cause:
    return Cause(Reason.UNDEFINED, seen.formulas, count=seen.undefined, total=seen.windows)


def _gaps(seen: Seen) -> Cause:
    """Which channels have gaps, the worst first, and why that one has."""
    gappy = sorted((c for c in seen.channels if seen.missing.get(c.name, 0.0) > 0), key=lambda c: -seen.missing[c.name])
    detail = ""
    if gappy:
        worst = gappy[0]
        detail = f"{100 * seen.missing[worst.name]:.0f} % of {worst.label} is missing{_unusable(worst)}"
        if worst.step_s:
            detail += f", which comes every {too_far(worst.step_s, seen.hold_s, seen.first_s)}"
    labels = tuple(c.label for c in gappy)
    return Cause(Reason.GAPS, labels, count=seen.refused, total=seen.windows, detail=detail)


def _unusable(channel: ChannelFacts) -> str:
    """How many readings of a channel could not be used, in brackets."""
    counts = {"Bad": channel.bad - channel.outside, "out of range": channel.outside}
    counts |= {
        f"not {channel.example_words}": channel.not_numbers,
        "late": channel.late,
        "of an implausible time": channel.implausible,
    }
    said = [f"{n:,} {what}" for what, n in counts.items() if n]
    return f" (of {channel.readings:,} readings {', '.join(said)})" if said else ""


def _of_channels(channels: Sequence[ChannelFacts], seen: Seen) -> Iterable[Cause]:
    """What is wrong with channels, one cause for all of a kind and a source, in the order of `Reason`."""
    found: dict[tuple[Reason, str], list[ChannelFacts]] = {}
    for channel in channels:
        reason = _reason(channel, seen)
        if reason is not None:
            found.setdefault((reason, channel.source), []).append(channel)
    order = list(Reason)
    for (reason, source), those in sorted(found.items(), key=lambda item: (order.index(item[0][0]), item[0][1])):
        yield _cause(reason, source, those, seen)


def _reason(channel: ChannelFacts, seen: Seen) -> Reason | None:
    """What is wrong with a channel; None: nothing."""
    source, unused = seen.sources.get(channel.source, SourceFacts()), channel.unused
    unseen = channel.seen is None or seen.now - channel.seen > seen.stale_after_s
    unusable = channel.used is None or seen.now - channel.used > seen.stale_after_s  # else it only has gaps
    true_of_it = {
        Reason.SOURCE: unseen and (not source.connected or source.ended),
        Reason.TIMES: channel.tag in source.refused_times and (unseen or channel.used is None),
        Reason.READINGS: channel.readings == 0,
        Reason.OUTSIDE: unusable and unused.outside > 0 and 2 * unused.outside >= unused.readings,
        Reason.BAD: unusable and channel.bad_since_ns is not None,
        Reason.NOT_NUMBERS: unusable and unused.not_numbers > 0 and 2 * unused.not_numbers >= unused.readings,
        Reason.CLOCK: unusable and unused.doubted > 1 and 2 * unused.doubted >= unused.readings,
        Reason.BEHIND: unusable and unused.behind > 1 and 2 * unused.behind >= unused.readings,
        Reason.LATE: unusable and unused.late > 1 and 2 * unused.late >= unused.readings,
        Reason.SILENT: unseen,
    }
    return next((reason for reason, true in true_of_it.items() if true), None)


def _cause(reason: Reason, source: str, those: Sequence[ChannelFacts], seen: Seen) -> Cause:
    """A reason with the figures of its channels."""
    labels, facts = tuple(c.label for c in those), seen.sources.get(source, SourceFacts())
    if reason in (Reason.SOURCE, Reason.READINGS):
        return Cause(reason, labels, source, detail=AT_END if facts.ended else _problem(reason, those, facts))
    if reason is Reason.TIMES:
        refused = [facts.refused_times[c.tag] for c in those]
        count = sum(n for n, _ in refused)
        total = count + sum(c.readings for c in those)
        return Cause(reason, labels, source, count=count, total=total, detail=str(refused[0][1]))
    if reason is Reason.BAD:
        return Cause(
            reason, labels, source, since_ns=min(c.bad_since_ns or 0 for c in those), detail=_why_bad(those, facts)
        )
    if reason is Reason.SILENT:
        return Cause(reason, labels, source, age_s=max(seen.now - (c.seen or seen.began) for c in those))
    return _counted(reason, labels, source, those)


def _counted(reason: Reason, labels: tuple[str, ...], source: str, those: Sequence[ChannelFacts]) -> Cause:
    """A reason that is true of so many of the last readings."""
    total, first = sum(c.unused.readings for c in those), those[0]
    if reason is Reason.OUTSIDE:
        count = sum(c.unused.outside for c in those)
        return Cause(reason, labels, source, count=count, total=total, detail=first.outside_example)
    if reason is Reason.NOT_NUMBERS:
        count = sum(c.unused.not_numbers for c in those)
        return Cause(reason, labels, source, count=count, total=total, detail=first.example_words)
    if reason is Reason.CLOCK:
        count = sum(c.unused.doubted for c in those)
        return Cause(
            reason, labels, source, since_ns=first.newest_ns, count=count, total=total, detail=str(first.doubted_ns)
        )
    if reason is Reason.BEHIND:
        count, behind = sum(c.unused.behind for c in those), max(c.behind_ns for c in those)
        return Cause(reason, labels, source, count=count, total=total, age_s=behind / 1e9)
    newest, count = min(c.newest_ns for c in those), sum(c.unused.late for c in those)
    return Cause(reason, labels, source, since_ns=newest, count=count, total=total)


def _why_bad(those: Sequence[ChannelFacts], facts: SourceFacts) -> str:
    """Why values are bad, as far as the source says more of one of these tags, or of qualities, than that."""
    own = [_of_one(c.tag, facts.problems[c.tag]) for c in those if c.tag in facts.problems]
    return next(iter([*own, *(text for text in facts.counted if NOT_GOOD in text)]), "")


def _of_one(tag: str, problem: str) -> str:
    """A problem of a tag, without the tag and what is said of its neighbours: many tags may have the same."""
    return _NEIGHBOURS.sub("", problem.replace(f"tag {tag}: ", ""))


def _problem(reason: Reason, those: Sequence[ChannelFacts], facts: SourceFacts) -> str:
    """What the source says of its connection, or of the first of these tags."""
    problems = facts.problems
    if reason is Reason.SOURCE:
        return problems.get("connection", "")
    own = [_of_one(c.tag, problems[c.tag]) for c in those if c.tag in problems]
    general = [text for subject, text in problems.items() if subject.startswith(GENERAL)]
    return next(iter([*own, *general, *facts.counted]), "")
