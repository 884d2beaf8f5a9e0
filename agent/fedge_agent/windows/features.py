# SPDX-License-Identifier: Apache-2.0
"""Features of a window: what a compact model sees instead of raw samples. Pure and vectorised.

Output order is channel by channel, within a channel in the order of the names. Gaps (NaN) are bridged linearly before
anything is computed; a channel with no value at all counts as 0. What each feature is: `signals.py`.

Promises: features of finite readings are finite and at most `LARGEST`, however large the readings are. Squares and
fourth powers of one wild reading overflow float32; such windows are computed in float64.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from types import MappingProxyType

import numpy as np
from fedge_models.errors import ModelError
from fedge_models.graph.bearing import FAULTS, Bearing, Fault
from fedge_models.graph.card import Card
from fedge_models.graph.card_scale import CardScale
from fedge_models.graph.derived import DerivedChannels
from numpy.typing import NDArray

from ..types import Values
from .channel import LARGEST
from .signals import Signal

Compute = Callable[[Signal], Values]

SINGLE: dict[str, Compute] = {
    "crest": Signal.crest,
    "kurtosis": Signal.kurtosis,
    "max": lambda s: s.x.max(axis=-1, keepdims=True),
    "mean": lambda s: s.mean,
    "min": lambda s: s.x.min(axis=-1, keepdims=True),
    "peak": Signal.peak,
    "rms": Signal.rms,
    "slope": Signal.slope,
    "std": lambda s: s.std,
}
COUNTED: dict[str, Callable[[int], Compute]] = {  # "bands:8": eight numbers
    "bands": lambda count: lambda s: s.bands(count),
    "envelope": lambda count: lambda s: s.envelope(count),
    **{fault: lambda count, fault=fault: lambda s: s.strikes(fault, count) for fault in FAULTS},  # type: ignore[misc]
}
RANGE = re.compile(r"band:(\d+)-(\d+)")  # "band:500-2000": of those Hz
MAX_COUNT = 64


def feature_count(names: Sequence[str], channels: int) -> int:
    """Length of the feature vector. Raises ModelError for a name that is not known."""
    return channels * _plan(tuple(names))[1]


def feature_names(names: Sequence[str]) -> tuple[str, ...]:
    """A name for each number that the features give per channel: "rms", "bands:8 3"."""
    parts = _plan(tuple(names))[0]
    counts = [stop - start for _, start, stop in parts]
    numbered = (
        [name] if n == 1 else [f"{name} {i + 1}" for i in range(n)] for name, n in zip(names, counts, strict=True)
    )
    return tuple(name for group in numbered for name in group)


def needs_bearing(names: Sequence[str]) -> tuple[str, ...]:
    """The features that need a bearing and the speed of its shaft."""
    return tuple(n for n in names if n.partition(":")[0] in FAULTS)


def input_count(card: Card) -> int:
    """Length of the feature vector that a card with features gives. Raises ModelError for one that is not known."""
    return feature_count(card.features, len(card.input_channels) - card.numbers) + card.numbers


class Preparation:
    """Prepare windows as samples: gaps bridged, channels derived, scaled as the card says, then its features.

    bearing and rate_hz: where they differ from the card's. scaled: whether raw windows are scaled as the card says;
    features always are made of scaled channels.
    """

    def __init__(
        self, card: Card, bearing: Bearing | None = None, rate_hz: float | None = None, scaled: bool = True
    ) -> None:
        self._names, self._rate_hz = card.features, rate_hz or card.window.rate_hz
        scale = CardScale(card)
        self._scale = scale if scale.given and (scaled or card.features) else None
        self._derived = DerivedChannels(card) if card.derive else None
        known, wanted = bearing or card.bearing, needs_bearing(card.features)
        if wanted and known is None:
            raise ModelError(f"the features {list(wanted)} want to know a bearing; the card has none")
        self._orders: Mapping[Fault, float] = known.orders() if known and wanted else {}
        self._shaft_hz = known.shaft_hz if known else None

    @property
    def undefined(self) -> tuple[str, ...]:
        """Derived channels that had a value that is not finite, in the last windows."""
        return self._derived.undefined if self._derived is not None else ()

    def __call__(self, windows: Values, shaft_hz: float | None = None, gaps: bool = True) -> Values:
        """Features (..., count) or raw windows of windows (..., channels, length).

        shaft_hz: where it varies; gaps: whether there may be NaN. A window for which a formula gives no finite value is
        NaN throughout.
        """
        absent = None
        if gaps and windows.dtype.kind == "f":
            absent, windows = without_value(windows), bridge(windows)
        if self._derived is None:
            return self._made(windows, shaft_hz)
        rows, numbers, wrong = self._derived(windows, absent)
        made = self._made(rows, shaft_hz)
        if numbers.shape[-1]:
            made = np.concatenate([made, self._scaled(numbers[..., None], rows.shape[-2])[..., 0]], axis=-1)
        if wrong is not None:
            made[wrong] = np.nan
        return made

    def _made(self, rows: Values, shaft_hz: float | None) -> Values:
        """Scale rows (..., rows, length), and compute their features."""
        rows = self._scaled(rows, 0)
        if not rows.shape[-2] or not self._orders:
            return extract(rows, self._names, self._rate_hz)
        speed = shaft_hz if shaft_hz is not None else self._shaft_hz or 0.0
        return extract(
            rows, self._names, self._rate_hz, {fault: order * speed for fault, order in self._orders.items()}
        )

    def _scaled(self, rows: Values, first: int) -> Values:
        """Rows (..., rows, length) as the card scales the channels from `first` on."""
        return rows if self._scale is None else self._scale(rows, first)


def extract(
    x: Values, names: Sequence[str], rate_hz: float = 1.0, faults: Mapping[Fault, float] = MappingProxyType({})
) -> Values:
    """Features (..., count) of windows x (..., channels, length) without gaps; x itself when there are no `names`.

    faults: rates in Hz of a bearing's defects, for the features that are named so.
    """
    if not names:
        return x
    parts, width = _plan(tuple(names))
    if not x.shape[-2]:
        return np.zeros((*x.shape[:-2], 0), x.dtype)
    out = np.empty((*x.shape[:-1], width), x.dtype)
    with np.errstate(over="ignore", invalid="ignore"):
        signal = Signal(x, rate_hz, faults)
        for compute, start, stop in parts:
            out[..., start:stop] = compute(signal)
        if not math.isfinite(np.add.reduce(out, axis=None)):
            _compute_wild(signal, parts, out)
    return out.reshape(*x.shape[:-2], -1)


def _compute_wild(signal: Signal, parts: Sequence[tuple[Compute, int, int]], out: Values) -> None:
    """Compute the channels again whose features overflow in float32."""
    wild = ~np.isfinite(out).all(axis=-1)
    exact = Signal(signal.x[wild].astype(np.float64), signal.rate_hz, signal.faults, np.float64)
    for compute, start, stop in parts:
        out[wild, start:stop] = np.clip(np.nan_to_num(compute(exact)), -LARGEST, LARGEST)


def without_value(windows: Values) -> NDArray[np.bool_] | None:
    """Which channels (..., channels) have no value at all; None: all have one."""
    found: NDArray[np.bool_] = np.isnan(windows[..., 0])
    if not np.count_nonzero(found):
        return None
    found &= np.isnan(windows).all(axis=-1)
    return found if found.any() else None


def bridge(values: Values) -> Values:
    """Windows with gaps filled linearly, ends held; the input itself when there are none."""
    missing = np.isnan(values)
    if not np.count_nonzero(missing):
        return values
    filled = values.copy()
    for row, gaps in zip(filled.reshape(-1, values.shape[-1]), missing.reshape(-1, values.shape[-1]), strict=True):
        if gaps.all():
            row[:] = 0
        elif gaps.any():
            at = np.flatnonzero(~gaps)
            row[gaps] = np.interp(np.flatnonzero(gaps), at, row[at])
    return filled


@lru_cache(32)
def _plan(names: tuple[str, ...]) -> tuple[list[tuple[Compute, int, int]], int]:
    """[(feature, first and last + 1 of its numbers per channel), …] and the numbers per channel of all."""
    parts, width = [], 0
    for compute, count in map(_parse, names):
        parts.append((compute, width, width + count))
        width += count
    return parts, width


def _parse(name: str) -> tuple[Compute, int]:
    """The computation of a feature's name, and how many numbers it gives."""
    if name in SINGLE:
        return SINGLE[name], 1
    kind, _, count = name.partition(":")
    if kind in COUNTED and count.isdigit() and 1 <= int(count) <= MAX_COUNT:
        return COUNTED[kind](int(count)), int(count)
    if (found := RANGE.fullmatch(name)) and int(found[1]) < int(found[2]):
        low, high = float(found[1]), float(found[2])
        return lambda s: s.band(low, high), 1
    known = ", ".join([*SINGLE, *(f"{k}:N" for k in COUNTED), "band:LOW-HIGH"])
    raise ModelError(f"feature {name!r} is not known; expected one of: {known}")
