# SPDX-License-Identifier: Apache-2.0
"""Check that what is configured of a model and its machines can ever be fulfilled: samples, windows in time. Pure.

Each key may be right by itself, and a machine never decide: where fewer samples are stored than a baseline needs, and
where windows are training data only after they were deleted.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping

from fedge_models.graph.card import Card
from fedge_models.training import standardise

from ..config.schema import AssetConfig, ModelConfig
from ..samples.baseline import COVERED_TWICE, LEAST_WINDOWS, plan
from .pace import Pace, pace

LONGEST_S = 7 * 86400.0  # for which a machine that decides may be without a decision, or an alarm be held back


def impossible(
    name: str, model: ModelConfig, assets: Mapping[str, AssetConfig], card: Card, shape: tuple[int, ...]
) -> list[str]:
    """Why assets of model `name` could never decide or alarm, in words; shape: of a sample."""
    return list(_problems(name, model, assets, card, math.prod(shape)))


def training_problem(name: str, model: ModelConfig, shape: tuple[int, ...]) -> str | None:
    """Why the model can never be trained here, although it may decide; None: it can."""
    size, training = math.prod(shape), model.training
    most = most_samples(model, size)
    trained = int(most * trained_share(training.holdout))
    if trained >= training.min_samples:
        return None
    return (
        f"model {name} is never trained here: {most:,} samples of {4 * size:,} bytes fit max_samples and "
        f"max_sample_bytes, {trained:,} of them are not held back, and min_samples is {training.min_samples:,}"
    )


def most_samples(model: ModelConfig, size: int) -> int:
    """How many samples of `size` numbers (float32) the model may have."""
    return min(model.max_samples, max(1, model.max_sample_bytes // (4 * size)))


def trained_share(holdout: float) -> float:
    """Fraction of the samples that is not held back, as `samples.split` divides them."""
    return 1.0 - 1.0 / max(2, round(1 / holdout)) if holdout > 0 else 1.0


def _problems(name: str, model: ModelConfig, assets: Mapping[str, AssetConfig], card: Card, size: int) -> Iterator[str]:
    least, most = model.training.min_samples, most_samples(model, size)
    if most < least and standardise.given(card) is None:
        yield (
            f"model {name}: min_samples is {least:,}, but only {most:,} samples of {4 * size:,} bytes fit "
            f"max_sample_bytes = {model.max_sample_bytes:,}: it would never decide; set it to "
            f"{4 * size * least:,} or more"
        )
    share = max(1, most // max(1, len(assets)))
    for asset, config in assets.items():
        how = pace(config.window, card)
        yield from _slow(asset, config, how)
        if card.task == "anomaly":
            yield from _withheld(name, asset, config, how, share, least)


def _withheld(name: str, asset: str, config: AssetConfig, how: Pace, share: int, least: int) -> Iterator[str]:
    """A problem when windows are deleted before they are old enough to be learnt from."""
    what = plan(config)
    if what.labelled:  # whose windows are learnt from when their label comes
        return
    hop_ns = round(how.hop_s * 1e9)
    stored_ns = max(COVERED_TWICE * what.span_ns, share * hop_ns) if what.thin else share * hop_ns
    old = 1.0 - what.learn_after_ns / stored_ns
    needed = min(LEAST_WINDOWS, least, share)
    if old * share >= needed:
        return
    yield (
        f"asset {asset}: windows are learnt from after {_span(what.learn_after_ns)} (learn_after), but only about "
        f"{_span(stored_ns)} of operation are stored ({share:,} windows: max_samples and max_sample_bytes of "
        f"[model.{name}], divided by its assets): it would never decide; "
        f"set learn_after to {_span(round(stored_ns * (1 - needed / share)) // 2)} or less"
    )


def _slow(asset: str, config: AssetConfig, how: Pace) -> Iterator[str]:
    """Problems with windows or alarms that come so late that nobody can mean it."""
    when, window = config.when, f"{how.length:,} samples at {how.rate_hz:g} Hz"
    span_s = how.span_ns / 1e9
    if not how.of_pictures and max(span_s, how.hop_s) > LONGEST_S:
        yield (
            f"asset {asset}: windows of {window}, one every {how.hop:,} samples, cover {_days(span_s)} and come every "
            f"{_days(how.hop_s)}; expected at most {_days(LONGEST_S)}: see asset.{asset}.window"
        )
    elif when.for_windows * how.hop_s > LONGEST_S:
        yield (
            f"asset {asset}: when.for_windows = {when.for_windows:,} windows, one every {how.hop_s:g} s, hold an alarm "
            f"back for {_days(when.for_windows * how.hop_s)}; expected at most {_days(LONGEST_S)}"
        )
    if how.late_s > LONGEST_S and not how.of_pictures:
        yield (
            f"asset {asset}: window.lateness holds each decision back for up to {_days(how.late_s)}; "
            f"expected at most {_days(LONGEST_S)}"
        )


def _days(seconds: float) -> str:
    return f"{seconds:g} s" if seconds < 8640 else f"{seconds / 86400:,.1f} days".replace(".0 ", " ")


def _span(ns: int) -> str:
    """A span of time as the configuration writes it."""
    seconds = ns / 1e9
    unit, size = next(((u, s) for u, s in (("d", 86400), ("h", 3600), ("m", 60)) if seconds >= 2 * s), ("s", 1))
    return f"{math.floor(seconds / size * 10) / 10:g}{unit}"
