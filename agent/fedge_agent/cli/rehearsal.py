# SPDX-License-Identifier: Apache-2.0
"""Whether windows of an asset would ever be decided on, from what `check` read of its sources. Pure.

It makes windows as the running agent does, and says why there are none in the words of the running agent's `status`.
Each source is tried alone: of the other sources' channels it is assumed that nothing of them is missing, since what was
read of two sources need not be of one time.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

import msgspec
import numpy as np
from fedge_models.graph.card import Card
from fedge_models.graph.channels import with_formulas
from fedge_models.graph.derived import DerivedChannels

from ..config.schema import AssetConfig, TagConfig
from ..machines.condition import Cause, Condition, Reason, Seen, State
from ..machines.condition_judge import judge, stale_after
from ..machines.condition_words import words
from ..machines.pace import Pace, pace
from ..machines.watch import Watch
from ..samples.label_values import is_known
from ..samples.tag_labels import TagLabels
from ..sources.polling import TIMES
from ..types import Array, Batch, Quality, Source
from ..windows.assembler import Assembler
from ..windows.facts import ChannelFacts
from ..windows.features import bridge, without_value

PASSING = (Reason.WINDOW, Reason.READINGS)  # a file that has too few rows yet: they will come
ENOUGH = 200  # windows
LONG_AGO = -1e9  # monotonic s: any window should have come by now


class Verdict(NamedTuple):
    """What would keep the agent from deciding, and what a user should know besides."""

    problems: list[str]
    notes: list[str]


def rehearse(name: str, config: AssetConfig, card: Card, tried: Mapping[str, Source]) -> Verdict:
    """Try one asset with what was read of its sources."""
    found = Verdict([], list(_unknown_labels(name, config, card, tried)))
    tried = {n: s for n, s in tried.items() if _is_plain(_channels(config, card, {n}))}
    if card.image is not None:
        return found
    for source, those in tried.items():
        _try_source(name, config, card, source, those, found)
    spans = {n: s.span_ns for n, s in tried.items() if s.span_ns is not None}
    if len(spans) > 1 and not found.problems:
        earliest, latest = min(spans, key=lambda n: spans[n][1]), max(spans, key=lambda n: spans[n][0])
        if spans[latest][0] > spans[earliest][1]:  # nothing of them is of one time
            _try(name, config, card, {n: tried[n].trial for n in (latest, earliest)}, found)
    return found


def _unknown_labels(name: str, config: AssetConfig, card: Card, tried: Mapping[str, Source]) -> Iterator[str]:
    """Labels of the tag that the model does not know. They keep no machine from its decisions."""
    label, labels = config.label, TagLabels()
    if label is None or label.source not in tried:
        return
    for batch in tried[label.source].trial[:ENOUGH]:
        for reading in batch.readings:
            value = reading.value
            if reading.tag == label.tag and reading.quality is not Quality.BAD and isinstance(value, (str, float)):
                labels.read(value, is_known(value, card, label.map), card)
    if labels.unknown:
        yield f"asset {name}: the model does not know the label {labels.example}"


def _try_source(name: str, config: AssetConfig, card: Card, source: str, those: Source, found: Verdict) -> None:
    """Try one source: where its past begins without a window, the end of it tells whether there will be any."""
    verdict = Verdict([], [])
    _try(name, config, card, {source: those.trial}, verdict)
    if verdict.problems and those.newest:
        first, verdict = verdict, Verdict([], [])
        _try(name, config, card, {source: those.newest}, verdict)
        if not verdict.problems:
            found.notes.extend(f"{text}. So it is in the first rows of source {source} only" for text in first.problems)
    found.problems.extend(verdict.problems)
    found.notes.extend(verdict.notes)


def _try(name: str, config: AssetConfig, card: Card, batches: Mapping[str, Sequence[Batch]], found: Verdict) -> None:
    """Try these sources, one after the other."""
    channels = _channels(config, card, batches)
    trial, tags = _Trial(name, config, card, channels), {tag.tag for tag in channels.values()}
    causes = trial.causes(
        b._replace(source=source, readings=[r for r in b.readings if r.tag in tags])
        for source, some in batches.items()
        for b in some
    )
    if any(c.reason not in PASSING for c in causes):
        found.problems.extend(trial.said(causes))
    elif all(len(some) < TIMES for some in batches.values()):  # else it was not tried for as long as a window is
        found.notes.extend(trial.said(causes))


def _channels(config: AssetConfig, card: Card, sources: Container[str]) -> dict[str, TagConfig]:
    return {c.name: tag for c in card.channels if (tag := config.channels[c.name]).source in sources}


def _is_plain(channels: Mapping[str, TagConfig]) -> bool:
    """Whether there are channels, and no waveforms."""
    return bool(channels) and all(tag.waveform_hz is None for tag in channels.values())


class _Trial:
    """The windows of one asset from some of its channels."""

    def __init__(self, name: str, config: AssetConfig, card: Card, channels: Mapping[str, TagConfig]) -> None:
        self._name, self._channels = name, channels
        self._pace: Pace = pace(config.window, card)
        self._share = len(channels) / len(card.channels)  # of a window's values
        self._most = config.window.max_missing
        self._card = card
        self._derived = DerivedChannels(card) if card.derive else None
        made = self._pace
        how = made.rate_hz, made.length, made.hop, made.hold_s, made.late_s
        self._assembler = Assembler(name, channels, (), *how)
        self._watch, self._condition = Watch(LONG_AGO), Condition(State.WAITING)

    def causes(self, batches: Iterable[Batch]) -> tuple[Cause, ...]:
        """Why no window could be decided on; empty: one could."""
        now = 0.0
        for batch in batches:
            now = batch.received_ns / 1e9
            for window in self._assembler.push(batch):
                refused = self._refused(window.missing)
                undefined = () if refused else self._undefined(window.values)
                self._watch.window(np.isnan(window.values).mean(axis=-1), refused, now, undefined)
            if self._assembler.counters.windows > ENOUGH:
                break
        gappy, windows = self._watch.windows
        seldom = any(facts.step_s for facts in self._assembler.facts())  # then a few windows are no use
        if self._watch.accepted is not None and not (seldom and 2 * gappy > windows):
            return ()
        self._condition = judge(self._facts(now))
        return tuple(c for c in self._condition.causes if not self._is_bridged(c))

    def said(self, causes: tuple[Cause, ...]) -> Iterator[str]:
        """The causes in words."""
        if causes:
            yield f"asset {self._name}: {words(msgspec.structs.replace(self._condition, causes=causes))}"

    def _undefined(self, values: Array) -> tuple[str, ...]:
        """The derived channels that have no value, where all that they may read was tried."""
        if self._derived is None or self._share < 1.0:
            return ()
        self._derived(bridge(values), without_value(values))
        return self._derived.undefined

    def _refused(self, missing: float) -> bool:
        return missing * self._share > self._most

    def _is_bridged(self, cause: Cause) -> bool:
        """Whether the other sources' channels give windows nevertheless, in which enough is known."""
        if cause.reason is not Reason.SLOW or self._share == 1.0:
            return False
        known = min(1.0, (self._pace.hold_s + 1 / self._pace.rate_hz) / (cause.age_s or 1.0))
        return not self._refused(1.0 - known)

    def _facts(self, now: float) -> Seen:
        refused, windows = self._watch.windows
        found, made = [_judged(facts) for facts in self._assembler.facts()], self._pace
        return Seen(
            found,
            {},
            now,
            LONG_AGO,
            stale_after_s=stale_after(made.hop_s, made.wait_s),
            first_s=made.span_ns / 1e9,
            missing=self._watch.missing(list(self._channels)),
            windows=windows,
            refused=refused,
            newest_refused=self._watch.newest_refused,
            filled=self._assembler.filled(),
            holes=self._assembler.holes(),
            hold_s=made.hold_s,
            undefined=self._watch.undefined[0],
            formulas=with_formulas(self._card.derive, self._watch.undefined[1]),
        )


def _judged(facts: ChannelFacts) -> ChannelFacts:
    """The facts as they are when nothing better comes: most of the readings could not be used."""
    if 2 * facts.late >= facts.readings:  # also where one in a while is newer: times that show minutes only
        facts.unused.late, facts.unused.readings, facts.used = facts.late, facts.readings, None
    if 2 * facts.unused.readings >= facts.readings:
        facts.used = None
    return facts
