# SPDX-License-Identifier: Apache-2.0
"""What a decision is compared with: the alarm threshold, from local data.

The threshold of an anomaly model is each machine's own: machines of one model differ. A machine that has too few
windows to show how high one in a thousand lies borrows the shape of that tail from its siblings, not its height. A
limit leaves room for the run that comes next (`next_run`).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from fedge_models.graph.card import Card
from fedge_models.training import extremes
from numpy.typing import NDArray

from ..samples.baseline import Plan, Progress
from ..types import Array
from . import anchor, next_run
from .anchor import Anchor
from .mixture import Blend
from .training import MIN_HELD, NO_TIMES, Data


class Limit(NamedTuple):
    """The score from which a decision alarms."""

    score: float
    usual: Array | None = (
        None  # anomaly: mean score of each input channel (channels,) in normal windows, to name the cause
    )
    provisional: bool = False  # made before the machine's baseline was complete
    middle: float = 0.0  # median score of the normal windows that it was made from; 0: unknown
    independent: float = 0.0  # how many windows that share no samples these are worth
    runs: int = 0  # how many runs of the machine these are from; 0: unknown
    lifted: float = 1.0  # by how much it is above what the oldest of them alone gives
    anchor: Anchor | None = None  # what these give, once there are others
    until_ns: int = 0  # end of the newest window that it was made from; 0: unknown


ENOUGH = 50  # held-back windows of one machine, apart; fewer come from little time, which shows little of its cycle
ABOVE = 2  # machines above a quantile that is taken over machines; of one machine nobody knows whether it is healthy
PART = 2**20  # values that are reconstructed at once
UNKNOWN = Limit(float("inf"))
NO_ANCHORS: Mapping[str, Anchor] = {}
NEVER: Mapping[str, int] = {}


class Scores(NamedTuple):
    """Anomaly scores of one machine's normal windows, by channel (n, channels)."""

    held: Array
    train: Array
    apart: tuple[float, float]  # how many windows that share no samples the two are worth

    @property
    def windows(self) -> int:
        """How many windows there are."""
        return len(self.held) + len(self.train)

    def limit(self, card: Card, enough: int) -> Limit:
        """The card's quantile, counted or from a fitted tail, as if no further window came.

        Held-back windows are used when there are `enough` that do not overlap, else all.
        """
        only_held = self.apart[0] >= enough
        used = self.held if only_held else np.concatenate([self.held, self.train])
        scores = used.mean(axis=1)
        quantile = extremes.quantile if card.threshold_fit == "peaks" else np.quantile
        limit, middle = float(quantile(scores, card.threshold_quantile)), float(np.median(scores))
        apart = self.apart[0] if only_held else sum(self.apart)
        return Limit(limit, np.maximum(used.mean(axis=0), np.float32(1e-6)), False, middle, apart)


def threshold(blend: Blend, held: Data, train: Data) -> Limit:
    """Return the limit of a model's score by its task, of all windows as if they were one machine's.

    anomaly: see `Scores.limit`; classify: one half; multilabel: 1, the limit of a label; regress: 1, the alarm level
    (`serving`). Wild windows are not among them (`TrainingSet.usable`): one would be the largest score seen, and no
    fault above it.
    """
    if blend.card.task != "anomaly":
        return Limit(0.5 if blend.card.task == "classify" else 1.0)
    apart = held.independent(), train.independent()
    scores = Scores(_by_channel(blend, held.x), _by_channel(blend, train.x), apart)
    if not scores.windows:
        return UNKNOWN
    limit = _promised(scores.limit(blend.card, MIN_HELD), blend.card.threshold_quantile)
    everything = np.ones(len(held.x), np.bool_), np.ones(len(train.x), np.bool_)
    return _for_next_run(limit, blend, scores, (held, train), everything)


def of_machines(
    blend: Blend,
    held: Data,
    train: Data,
    progress: Mapping[str, Progress],
    plans: Mapping[str, Plan],
    anchors: Mapping[str, Anchor] = NO_ANCHORS,
    accepted: Mapping[str, int] = NEVER,
) -> dict[str, Limit]:
    """Return the limit of each asset of an anomaly model whose baseline is complete, from its own normal windows.

    An asset that is configured so gets a provisional limit before: of its own windows, or while it has few, of all.

    anchors: of the limits before; accepted: since when (ns) an asset does what a person took for the new normal.
    """
    q = blend.card.threshold_quantile
    parts = [(data, _by_channel(blend, data.x)) for data in (held, train)]
    own = {asset: _scores([(data, found, data.assets == asset) for data, found in parts]) for asset in progress}
    counted = {asset: own[asset].limit(blend.card, ENOUGH) for asset, done in progress.items() if done.done}
    found = {
        asset: _for_next_run(
            limit,
            blend,
            own[asset],
            (held, train),
            (held.assets == asset, train.assets == asset),
            anchors.get(asset),
            accepted.get(asset, 0),
        )
        for asset, limit in _as_rare_as_promised(counted, q).items()
    }
    all_of_them = _scores([(data, found_, np.ones(len(found_), np.bool_)) for data, found_ in parts])
    for asset, known in progress.items():
        scores = own[asset] if own[asset].windows >= known.least else all_of_them
        if asset not in found and plans[asset].provisional and scores.windows >= known.least:
            found[asset] = _promised(scores.limit(blend.card, ENOUGH), q)._replace(provisional=True, runs=1)
    return found


def _for_next_run(
    limit: Limit,
    blend: Blend,
    scores: Scores,
    parts: tuple[Data, Data],
    rows: tuple[NDArray[np.bool_], NDArray[np.bool_]],
    before: Anchor | None = None,
    accepted_ns: int = 0,
) -> Limit:
    """Leave room in a machine's limit for its next run. parts: what is held back, and the rest; rows: its own.

    before, accepted_ns: see `of_machines`.
    """
    if limit.middle <= 0 or any(len(data.units) != len(data.x) for data in parts):
        return limit
    q = blend.card.threshold_quantile
    of_each = zip(parts, rows, strict=True)
    units, shares = (np.concatenate(of) for of in zip(*(_units(data, own) for data, own in of_each), strict=True))
    means = np.concatenate([scores.held, scores.train]).mean(axis=1)
    by_run = next_run.runs(means, units, shares)
    alone = limit.score if len(by_run) < 2 else max(next_run.LEAST, next_run.oldest(by_run).limit(q))
    ends = np.concatenate(
        [data.times[own] for data, own in zip(parts, rows, strict=True) if len(data.times)] or [NO_TIMES]
    )
    known = None
    if len(ends) == len(means):
        alone, known = _anchored(alone, before, accepted_ns, _Stored(means, units, shares, ends), q)
    score, middle = limit.score, limit.middle
    if len(by_run) >= next_run.ENOUGH_RUNS:
        score = next_run.prediction([run.scores for run in by_run], sum(scores.apart), q)
    elif limit.independent < ENOUGH:
        held, train = parts
        times = next_run.unseen(blend.card, train, rows[1], held.x, lambda x: _by_channel(blend, x).mean(axis=1))
        score, middle = score * times, middle * times
    score = max(limit.score, min(score, next_run.MOST * alone))
    return limit._replace(
        score=score,
        middle=middle,
        runs=max(1, len(by_run)),
        lifted=max(1.0, score / alone),
        anchor=known if len(by_run) > 1 else None,
        until_ns=int(ends.max()) if len(ends) else 0,
    )


class _Stored(NamedTuple):
    """The normal windows of a machine (n,)."""

    scores: NDArray[np.floating]
    units: NDArray[np.int64]
    shares: NDArray[np.float64]
    times: NDArray[np.int64]


def _anchored(alone: float, before: Anchor | None, accepted_ns: int, stored: _Stored, q: float) -> tuple[float, Anchor]:
    """What the oldest windows gave, whether or not they are stored still, and what to remember of it.

    alone: what the oldest stored ones give.
    """
    since_ns = 0 if before is None else before.since_ns
    remembered = None if before is None else before.among(stored.times, stored.scores)
    found = alone if remembered is None else remembered
    later = stored.times >= accepted_ns
    if accepted_ns > since_ns:
        by_run = next_run.runs(stored.scores[later], stored.units[later], stored.shares[later])
        if sum(run.apart for run in by_run) >= next_run.ALONE:
            found, since_ns = max(next_run.LEAST, next_run.oldest(by_run).limit(q)), accepted_ns
    return found, anchor.note(found, since_ns, stored.times, stored.scores)


def _units(data: Data, own: NDArray[np.bool_]) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Units of a machine's windows, and what each covers that no window before does."""
    return data.units[own], data.shares[own] if len(data.shares) else np.ones(int(own.sum()))


def _scores(parts: Sequence[tuple[Data, Array, NDArray[np.bool_]]]) -> Scores:
    """The scores of some windows of the held-back part and of the other."""
    (held, held_scores, of_held), (train, train_scores, of_train) = parts
    return Scores(
        held_scores[of_held], train_scores[of_train], (held.independent(of_held), train.independent(of_train))
    )


def _promised(limit: Limit, q: float) -> Limit:
    """The limit that the next window exceeds as rarely as promised: overlapping windows count once."""
    return limit._replace(score=extremes.promised(limit.score, limit.middle, q, limit.independent))


def _as_rare_as_promised(limits: dict[str, Limit], quantile: float) -> dict[str, Limit]:
    """Raise limits that come from fewer windows than the quantile needs, by how far siblings' highest scores lie.

    Of a machine with n windows that share no samples the limit is about the highest score, which one window in n
    exceeds. If machines differ only in scale, the ratio of the highest of n scores to the median has the distribution
    function F^n. The quantile q of F is therefore the quantile q^n of these ratios over the machines. Unless two
    machines lie above that quantile, a single broken one would decide how blind all others are. Each machine is then
    raised by what its own windows leave open (`extremes.promised`).
    """
    few = {a: max(1.0, v.independent) for a, v in limits.items() if v.independent * (1 - quantile) < 1}
    ratios = [limits[a].score / limits[a].middle for a in few if limits[a].middle > 0]
    raised = {
        a: limits[a]._replace(score=max(limits[a].score, limits[a].middle * float(np.quantile(ratios, quantile**n))))
        for a, n in few.items()
        if len(ratios) * (1 - quantile**n) >= ABOVE
    }
    return {a: raised.get(a) or _promised(v, quantile) for a, v in limits.items()}


def _by_channel(blend: Blend, x: Array) -> Array:
    """Mean squared error of each channel (n, channels), in bounded memory."""
    found, errors = np.zeros((len(x), len(blend.card.input_channels)), np.float32), None
    rows = max(1, PART // math.prod(x.shape[1:]))
    for i in range(0, len(x), rows):
        errors = errors or ChannelErrors(blend.card, blend.input_shape)
        part = x[i : i + rows]
        found[i : i + rows] = errors(blend.predict(part) - part)
    return found


class ChannelErrors:
    """Squared errors of reconstructions, by the input's channels.

    Their mean over the channels is the mean over all values, whatever share of the values a channel has.
    """

    def __init__(self, card: Card, shape: Sequence[int]) -> None:
        """shape: of a sample."""
        self._channels, self._size = len(card.input_channels), math.prod(shape)
        owners = card.owners(shape[0]) if card.numbers else None  # without numbers all channels have equal shares
        self._starts = None if owners is None else np.searchsorted(owners, np.arange(self._channels))

    def __call__(self, difference: Array) -> Array:
        """Return (n, channels) of what reconstructions (n, *shape) are off."""
        if self._starts is None:
            rows = difference.reshape(len(difference), self._channels, -1)
            found: Array = np.einsum("ncj,ncj->nc", rows, rows)
        else:
            squares = np.square(difference).reshape(*difference.shape[:2], -1).sum(axis=2)
            found = np.add.reduceat(squares, self._starts, axis=1)
        found /= np.float32(self._size / self._channels)
        return found
