# SPDX-License-Identifier: Apache-2.0
"""Judge an asset's condition from what was seen of it: the first that is true of each channel, else of its windows.

Pure: ages are those of the monotonic clock, and are passed in; no time of a source is compared with a clock here.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

from ..windows.facts import ChannelFacts
from .condition import AT_END, FLOOR_S, Cause, Condition, Reason, Seen, SourceFacts, State

HOPS = 3  # so many decisions in a row are missed before an asset is stale
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
        return Condition(state, tuple(causes), age, seen.stale_after_s, gaps, overdue, newest_ns)

    if age is not None and age <= seen.stale_after_s:
        return of(*_while_deciding(seen))
    if seen.waits_for is not None:
        return of(State.WAITING, [seen.waits_for])
    if age is not None:
        return of(State.STALE, _causes(seen))
    return of(State.WAITING, _causes(seen), seen.now - seen.began > seen.stale_after_s)


def _while_deciding(seen: Seen) -> tuple[State, list[Cause]]:
    """Blind if it could not alarm; else deciding, with the channels that it does without."""
    blind = _blindness(seen)
    if blind is not None:
        return State.WAITING if blind.reason is Reason.BASELINE else State.BLIND, [blind]
    without = [c for c in seen.channels if seen.missing.get(c.name, 0.0) >= 1.0]
    return State.DECIDING, list(_of_channels(without, seen))


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
    if found:
        return found
    if seen.refused:
        worst = sorted((c for c in seen.missing if seen.missing[c] > 0), key=lambda c: -seen.missing[c])
        labels = {c.name: c.label for c in seen.channels}
        share = seen.missing[worst[0]] if worst else 0.0
        names = tuple(labels.get(c, c) for c in worst)
        return [Cause(Reason.GAPS, names, count=seen.refused, total=seen.windows, detail=f"{100 * share:.0f} %")]
    count, total = seen.filled or (0, 0)
    return [Cause(Reason.WINDOW, count=count, total=total)]


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
    true_of_it = {
        Reason.SOURCE: unseen and (not source.connected or source.ended),
        Reason.TIMES: channel.tag in source.refused_times and (unseen or channel.used is None),
        Reason.READINGS: channel.readings == 0,
        Reason.BAD: channel.bad_since_ns is not None,
        Reason.NOT_NUMBERS: unused.not_numbers > 0 and 2 * unused.not_numbers >= unused.readings,
        Reason.LATE: unused.late > 1 and 2 * unused.late >= unused.readings,
        Reason.SILENT: unseen,
    }
    return next((reason for reason, true in true_of_it.items() if true), None)


def _cause(reason: Reason, source: str, those: Sequence[ChannelFacts], seen: Seen) -> Cause:
    """A reason with the figures of its channels."""
    labels, facts = tuple(c.label for c in those), seen.sources.get(source, SourceFacts())
    unused = sum(c.unused.readings for c in those)
    if reason in (Reason.SOURCE, Reason.READINGS):
        return Cause(reason, labels, source, detail=AT_END if facts.ended else facts.problem)
    if reason is Reason.TIMES:
        refused = [facts.refused_times[c.tag] for c in those]
        count = sum(n for n, _ in refused)
        total = count + sum(c.readings for c in those)
        return Cause(reason, labels, source, count=count, total=total, detail=str(refused[0][1]))
    if reason is Reason.BAD:
        return Cause(reason, labels, source, since_ns=min(c.bad_since_ns or 0 for c in those))
    if reason is Reason.NOT_NUMBERS:
        count = sum(c.unused.not_numbers for c in those)
        return Cause(reason, labels, source, count=count, total=unused, detail=those[-1].example)
    if reason is Reason.LATE:
        newest, count = min(c.newest_ns for c in those), sum(c.unused.late for c in those)
        return Cause(reason, labels, source, since_ns=newest, count=count, total=unused)
    return Cause(reason, labels, source, age_s=max(seen.now - (c.seen or seen.began) for c in those))
