"""When to train, on what, and the update that comes of it. No threads, no network; clock and generator passed in."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec
import numpy as np
from fedge_models.graph.trainable import TrainableGraph
from fedge_models.messages.quantize import LIMIT, Codes, Floats, dequantize, expand, quantize, spread
from fedge_models.messages.release import Release
from fedge_models.messages.update import Update, encode_update
from fedge_models.privacy.budget import SitePrivacy
from fedge_models.privacy.discrete_gaussian import Bits, system_bits
from fedge_models.privacy.mechanism import noised
from fedge_models.training import conformal, extremes, objective, personal
from fedge_models.training.evaluation import evaluate, predict
from fedge_models.training.loop import FitReport, fit
from numpy.typing import NDArray

from ..config.schema import Training
from ..types import Array
from .carry_over import Memory, empty

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

SPREAD_QUANTILE = 0.999  # of |delta| in each tensor: what 127 steps should span; the few above saturate into feedback
MOSTLY = 0.9  # of the codes at the ends of the grid: an update that says little more than signs
MIN_HELD = 10  # held-back samples for a threshold or a figure


class Data(NamedTuple):
    """Standardised local samples: x (n, *input_shape), y (n,) class index, 0/1 or -1 for unknown; for regress
    (n,) or (n, targets) in the targets' units, NaN for unknown."""

    x: Array
    y: NDArray[Any]


@dataclass
class Schedule:
    """Training is due for each new release once there are samples, spaced by `interval` or enough new samples.

    What came to nothing (refused, or diverged) is tried again on the same release after `interval`: where each site
    waits for the next release, none would come.
    """

    config: Training
    trained_base: int = 0  # release trained on last
    trained_at: float = -1e18  # monotonic, s
    trained_total: int = 0  # samples ever collected, then
    vain: bool = False  # nothing came of the last training

    def due(self, head: int, usable: int, total: int, now: float) -> bool:
        """head: newest release; usable: training samples now; total: samples ever collected."""
        if usable < self.config.min_samples:
            return False
        rested = now - self.trained_at >= self.config.interval
        if head <= self.trained_base:
            return self.vain and rested
        return rested or total - self.trained_total >= self.config.new_samples

    def trained(self, head: int, total: int, now: float) -> None:
        """Note that it was done, or tried."""
        self.trained_base, self.trained_total, self.trained_at, self.vain = head, total, now, False


def usable(task: str, x: Array, y: NDArray[Any], labelled: bool) -> Data:
    """What may be trained on: classify and regress need a label; anomaly what is known (or assumed) to be normal."""
    if task == "anomaly":
        keep = y == 0 if labelled else y <= 0
    elif task == "regress":
        keep = np.isfinite(y).all(axis=tuple(range(1, y.ndim)))
    else:
        keep = y >= 0
    return Data(x[keep], y[keep])


def round_rate(rate: float, halving: int, version: int) -> float:
    """The learning rate for training on a release: halved every `halving` releases; 0: always the same.

    A federation whose sites differ settles only when its steps get smaller (Li et al. 2020, "On the convergence of
    FedAvg on non-IID data"); the version is the one clock that all sites share.
    """
    return rate * 0.5 ** ((version - 1) / halving) if halving else rate


def margins(graph: TrainableGraph, held: Data, confidence: float) -> dict[str, tuple[float, float]]:
    """regress: by target, what to add to an estimate so that the truth lies between (`conformal`); where too little was
    held back, the target is left out."""
    if not graph.card.targets or not len(held.x):
        return {}
    estimates = objective.unscaled(graph.card, predict(graph, held.x)).reshape(len(held.x), -1)
    truth = objective.possible(graph.card, held.y.reshape(len(held.x), -1))
    found = (conformal.margins(e, confidence) for e in (truth - estimates).T)
    return {t.name: m for t, m in zip(graph.card.targets, found, strict=False) if m is not None}


class Limit(NamedTuple):
    """What a decision's score is compared with."""

    score: float
    usual: Array | None = None  # anomaly: mean score of each channel (channels,) in normal windows, to tell whose it is


def threshold(graph: TrainableGraph, held: Data, train: Data) -> Limit:
    """Anomaly: the card's quantile of the scores of the site's own normal windows, counted or from a fitted tail;
    classify: one half; regress: 1, the alarm level (`inference`).

    Held-back windows are used when there are enough. With few windows the quantile is the largest score seen.
    """
    if graph.card.task != "anomaly":
        return Limit(0.5 if graph.card.task == "classify" else 1.0)
    x = held.x if len(held.x) >= MIN_HELD else np.concatenate([held.x, train.x])
    if not len(x):
        return Limit(float("inf"))
    difference = (predict(graph, x) - x).reshape(len(x), len(graph.card.channels), -1)
    by_channel = np.einsum("ncj,ncj->nc", difference, difference) / np.float32(difference.shape[2])
    quantile = extremes.quantile if graph.card.threshold_fit == "peaks" else np.quantile
    limit = float(quantile(by_channel.mean(axis=1), graph.card.threshold_quantile))
    return Limit(limit, np.maximum(by_channel.mean(axis=0), np.float32(1e-6)))


def figures(graph: TrainableGraph, held: Data, known: Data) -> dict[str, float]:
    """Held-back figures: loss and what the task adds; `known` are all held-back samples with a label."""
    if len(held.x) < MIN_HELD:
        return {}
    if graph.card.task == "anomaly":
        found = evaluate(graph, held.x, None)
        if len(known.x) and 0 < known.y.sum() < len(known.y):
            found["auroc"] = evaluate(graph, known.x, known.y)["auroc"]
        return found
    return evaluate(graph, held.x, held.y)


@dataclass(frozen=True)
class Trained:
    """The result of one local training."""

    report: FitReport
    delta: Floats | None  # None when it diverged
    before: dict[str, float]  # held-back figures of the base release
    after: dict[str, float]
    own: Floats | None = None  # the tensors that stay here
    movement: Floats | None = None  # (P,) what training did by itself, without the drift that was taken back


def train(
    graph: TrainableGraph,
    head: Release,
    data: Data,
    held: Data,
    known: Data,
    config: Training,
    rng: np.random.Generator,
    pause: Callable[[], None],
    memory: Memory | None = None,
) -> Trained:
    """Train from the head's weights (and from the site's own tensors); the difference is what may travel."""
    mask, memory = personal.local_mask(graph), memory or empty(graph)
    start = personal.compose(head.weights, memory.own, mask)
    graph.set_params(start)
    before = figures(graph, held, known)
    rate = round_rate(config.learning_rate, config.learning_rate_halving, head.header.version)
    how = msgspec.structs.replace(config, learning_rate=rate)
    back = memory.correction(head, config.drift_correction, mask)
    report = fit(graph, data.x, data.y if graph.card.task != "anomaly" else None, how, rng, pause, back)
    if report.diverged or not report.rows:
        return Trained(report, None, before, before)
    delta, own = graph.params - start, personal.extract(graph.params, mask)
    movement = delta if back is None else delta - back
    after = figures(graph, held, known)
    return Trained(report, np.where(mask, np.float32(0), delta), before, after, own, movement)


def protected(
    trained: Trained, privacy: SitePrivacy, mask: personal.Mask, least_rows: int, bits: Bits = system_bits
) -> Trained:
    """What may be made known of a training: its difference clipped and noised (but zero for what stays local), no
    figures, and instead of how many rows there were the least with which it is done at all.

    Error feedback goes on top of the noised difference and is taken from it: coding then only ever sees what is
    already protected. The drift that was taken back came before the clip, from this site's own movement and public
    releases: no matter what it was, the clip bounds it.
    """
    assert trained.delta is not None
    delta = np.zeros_like(trained.delta)
    delta[~mask] = noised(trained.delta[~mask], privacy.clip, privacy.noise_multiplier, bits)
    report = replace(trained.report, rows=max(1, least_rows))
    return replace(trained, report=report, delta=delta, before={}, after={})


def update_body(
    head: Release,
    trained: Trained,
    residual: Floats,
    sizes: NDArray[np.int64],
    node: str,
    sequence: int,
    key: Ed25519PrivateKey,
    shorten: bool = False,
) -> tuple[bytes, Floats]:
    """The signed update, and the error feedback it leaves for the next. shorten: as in `code`."""
    assert trained.delta is not None
    wanted = trained.delta + residual
    codes, wish = code(wanted, head.header.steps, sizes, shorten)
    metrics = {f"base_{k}": v for k, v in trained.before.items()} | {f"local_{k}": v for k, v in trained.after.items()}
    update = Update(
        federation=head.header.federation,
        node=node,
        base_version=head.header.version,
        base_hash=head.hash,
        sequence=sequence,
        samples=trained.report.rows,
        metrics={k: v for k, v in metrics.items() if np.isfinite(v)},
        codes=codes,
        spread=wish,
    )
    return encode_update(update, key), wanted - dequantize(codes, expand(head.header.steps, sizes))


def code(wanted: Floats, steps: Floats, sizes: NDArray[np.int64], shorten: bool = False) -> tuple[Codes, Floats]:
    """Codes (P,) of what is wanted (P,) on steps (T,), and the spread (T,) that 127 steps should have had.

    With `shorten`, or where nearly all values would be cut off, each tensor that is wider than its grid is sent as that
    part of itself that fits, and the rest is owed. Noise, and a first training with large steps, can be a hundred times
    wider than the first grid; saturated, hardly more than signs would arrive, and an aggregator refuses an update of
    nothing but ends of the grid. A grid that follows has room for it in a few rounds.
    """
    wish, grid = np.maximum(spread(wanted, sizes, SPREAD_QUANTILE), np.float32(1e-9)), expand(steps, sizes)
    if not shorten:
        codes = quantize(wanted, grid)
        if np.count_nonzero(np.abs(codes) == LIMIT) <= MOSTLY * codes.size:
            return codes, wish
    part = np.where(wish > LIMIT * steps, (LIMIT - 1) * steps / wish, 1).astype(np.float32)
    return quantize(wanted * expand(part, sizes), grid), wish
