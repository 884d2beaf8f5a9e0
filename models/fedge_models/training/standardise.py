# SPDX-License-Identifier: Apache-2.0
"""Standardise a model's input to mean 0 and scale 1, so that one model fits all sites.

A channel without a scale on the card takes the statistics of the site's own samples; these never leave the site. Some
channels of a raw window set the machine's operating condition (a recipe, a speed: `condition` on the card). With them,
every reading is standardised by the readings of its own condition: what remains is how the machine behaves in it.
Wild values (`outliers`) are left out of the statistics: one of them would hide every later fault.
"""

from __future__ import annotations

import io
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..graph.card import Card, Channel
from ..ops.operator import Array
from ..system.floats import is_exact, rounded
from . import outliers, precision
from .outliers import Bounds

FLOOR = 1e-6  # of a scale, relative to the magnitude of the mean: a constant feature stays near 0
CLIP = 8.0  # standard deviations: a broken sensor must not drown all others
LOWEST, HIGHEST = np.array(-CLIP, np.float32), np.array(CLIP, np.float32)  # quicker than scalars
MAX_CONDITIONS = 32
MIN_READINGS = 50  # of a condition; rarer ones count as the nearest that is not


class Conditions(NamedTuple):
    """The operating conditions that a site has seen, and the statistics of its channels in each."""

    rows: NDArray[np.int64]  # (r,) which channels name the condition
    width: Array  # (r,) within which a value means the same
    centres: NDArray[Any]  # (k, r)
    mean: NDArray[Any]  # (k, channels)
    scale: Array  # (k, channels)

    def __call__(self, x: NDArray[Any]) -> Array:
        """Standardise raw windows x (..., channels, length), each reading by its own condition."""
        values = np.swapaxes(x[..., self.rows, :], -1, -2)  # (..., length, r)
        k = nearest(values / self.width, self.centres / self.width)
        mean, scale = (np.swapaxes(of[k], -1, -2) for of in (self.mean, self.scale))
        z: Array = np.subtract(x, mean, out=np.empty(x.shape, np.float32))
        z /= scale
        return z


class Scale(NamedTuple):
    """Mean and scale of each feature (features,), or of each channel of a raw window (channels, 1) or picture."""

    mean: NDArray[Any]  # float64 where float32 would hide changes (`is_wide`)
    scale: Array
    conditions: Conditions | None = None
    bounds: Bounds | None = None  # of plausible values; None: of a picture, or fitted by an older version
    raw: bool = False  # values enter as they are measured, because the file scales them itself

    def plausible(self, x: NDArray[Any]) -> NDArray[np.bool_]:
        """Return which rows (n,) of x, not standardised, may count for a limit and a training."""
        return np.ones(len(x), np.bool_) if self.bounds is None else self.bounds.plausible(x)

    @property
    def finite(self) -> bool:
        """Whether every number in it is finite and every scale positive."""
        parts = [self.mean, self.scale, *(self.conditions or ())]
        return all(np.isfinite(p).all() for p in parts) and bool((self.scale > 0).all())

    @property
    def is_wide(self) -> bool:
        """Whether values must not be rounded to float32 before the mean is subtracted."""
        mean: NDArray[Any] = self.mean if self.conditions is None else self.conditions.mean
        return mean.dtype == np.float64

    def __call__(self, x: NDArray[Any], out: Array | None = None) -> Array:
        """Standardise x (..., features) or (..., channels, length) to float32, into `out` where given.

        Of float64 the mean is subtracted in float64.
        """
        if self.raw:
            return _as_measured(x, out)
        if x.dtype == np.float64 and not self.is_wide:  # as it is stored: training and serving see the same numbers
            x = x.astype(np.float32) if out is not None else rounded(x)
        if self.conditions is not None:
            x = self.conditions(x)
        if out is None:  # stored samples, also of versions that did not bound their features; infinite ones are clipped
            with np.errstate(over="ignore"):
                z: Array = np.subtract(x, self.mean, out=np.empty(x.shape, np.float32))
                np.divide(z, self.scale, out=z)
        else:
            z = np.subtract(x, self.mean, out=out)
            np.divide(z, self.scale, out=z)
        np.maximum(z, LOWEST, out=z)
        np.minimum(z, HIGHEST, out=z)
        return z


def fit(x: NDArray[Any], card: Card | None = None) -> Scale:
    """Fit a scale to samples (n, features), raw windows (n, channels, length) or pictures (n, colours, height, width).

    Channels that have a scale on the card are left as they are. Wild rows and values do not count.
    """
    if card is not None and card.scaling != "file" and card.image is not None and (found := given(card)):
        return found
    limits = None if x.dtype == np.uint8 or not len(x) else outliers.bounds(x, card)
    if limits is not None:
        x = limits.clip(x[limits.plausible(x)])
    if card is not None and card.scaling == "file":
        return RAW._replace(bounds=limits)
    if card is not None and any(c.condition is not None for c in card.input_channels):
        return Scale(np.zeros((), np.float32), np.ones((), np.float32), _conditions(x, card), limits)
    axes = (0, *range(2, x.ndim))
    mean, scale = _statistics(x, axes)
    own = _given(card, len(mean))
    mean[own], scale[own] = 0, 1
    shape = mean.shape + (1,) * (x.ndim - 2)
    return Scale(_mean(mean, scale).reshape(shape), _float32(scale).reshape(shape), bounds=limits)


def given(card: Card) -> Scale | None:
    """The scale that needs no samples; None where they are needed.

    Of pictures, that of the card: (value * scale - mean) / std. Of a file that scales its input itself, none. Where the
    card scales every channel: nothing is left to do, but to clip; wild values are known once there are samples.
    """
    if card.scaling == "file":
        return RAW
    if card.image is None and card.bearing is None and all(map(_is_own, card.input_channels)):
        return Scale(np.zeros((), np.float32), np.ones((), np.float32))
    image = card.image
    if image is None or not image.mean:
        return None
    mean, std = np.array(image.mean), np.array(image.std)
    centre, width = ((of / image.scale).astype(np.float32).reshape(-1, 1, 1) for of in (mean, std))
    return Scale(centre, width)


RAW = Scale(np.zeros((), np.float32), np.ones((), np.float32), raw=True)


def _as_measured(x: NDArray[Any], out: Array | None) -> Array:
    if out is None:
        return np.asarray(x, np.float32)
    np.copyto(out, x, casting="same_kind")
    return out


def encode(scale: Scale) -> bytes:
    """Encode a scale as bytes."""
    parts = [scale.mean, scale.scale, *(scale.conditions or ())]
    file = io.BytesIO()
    named: dict[str, Any] = scale.bounds._asdict() if scale.bounds is not None else {}
    named |= {"raw": np.ones(())} if scale.raw else {}
    np.savez(file, *parts, **named)
    return file.getvalue()


def decode(data: bytes) -> Scale:
    """Decode a scale from the bytes of `encode`. Raises ValueError or KeyError for any others."""
    with np.load(io.BytesIO(data), allow_pickle=False) as file:
        limits = Bounds(file["low"], file["high"]) if "low" in file.files else None
        parts = [file[name] for name in file.files if name.startswith("arr_")]
        raw = "raw" in file.files
    return Scale(parts[0], parts[1], Conditions(*parts[2:]) if len(parts) > 2 else None, limits, raw)


def nearest(points: NDArray[Any], centres: NDArray[Any]) -> NDArray[np.int64]:
    """Index of the centre (k, r) nearest to each of the points (..., r), by the largest difference."""
    best = np.full(points.shape[:-1], np.inf, np.float32)
    found = np.zeros(points.shape[:-1], np.int64)
    for k, centre in enumerate(centres):  # one at a time: never k copies of the points
        distance = np.abs(points - centre).max(axis=-1)
        closer = distance < best
        best[closer], found[closer] = distance[closer], k
    return found


def _statistics(x: NDArray[Any], axes: tuple[int, ...]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    if x.dtype == np.uint8:
        return _byte_statistics(x, axes)
    mean = x.mean(axis=axes, dtype=np.float64)
    std = x.std(axis=axes, dtype=np.float64)
    floor = FLOOR * (1 + np.abs(mean))
    for i in np.flatnonzero((std < floor) & (std > precision.FINEST * np.abs(mean))) if x.dtype == np.float64 else ():
        if not is_exact(x[:, i]):  # it varies in steps that float32 does not have: that is no rounding
            floor[i] = precision.FINEST
    return mean, np.maximum(std, floor)


def _byte_statistics(x: NDArray[np.uint8], axes: tuple[int, ...]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """`_statistics` of bytes, exactly, and without eight bytes of memory for each of them."""
    total: Any = 0
    square: Any = 0
    for block in np.array_split(x, -(-len(x) // 64)):
        total = total + block.sum(axis=axes, dtype=np.int64)
        square = square + np.square(block, dtype=np.uint16).sum(axis=axes, dtype=np.int64)
    count = x.size // total.size
    mean = total / count
    std = np.sqrt(np.maximum(square / count - mean * mean, 0))
    return mean, np.maximum(std, FLOOR * (1 + mean))


def _mean(mean: NDArray[np.float64], scale: NDArray[np.float64]) -> NDArray[Any]:
    """A mean as float32, or float64 where float32 would hide changes."""
    return mean if precision.is_blurred(mean, scale).any() else _float32(mean)


def _float32(values: NDArray[np.float64]) -> Array:
    """The values as float32, none of them infinite."""
    largest = float(np.finfo(np.float32).max)
    return np.clip(values, -largest, largest).astype(np.float32)


def _given(card: Card | None, columns: int) -> NDArray[np.bool_]:
    """Which columns (features or channels) the card scales itself."""
    if card is None:
        return np.zeros(columns, np.bool_)
    owners = card.owners(columns)
    own = np.array([c.scale is not None for c in card.input_channels])
    return np.zeros(columns, np.bool_) if owners is None else own[owners]


def _is_own(channel: Channel) -> bool:
    return channel.scale is not None and channel.condition is None


def _conditions(x: NDArray[Any], card: Card) -> Conditions:
    rows = np.array([i for i, c in enumerate(card.input_channels) if c.condition is not None])
    named = [c for c in card.input_channels if c.condition is not None]
    width = np.array([(c.condition or 1.0) / (c.scale or 1.0) for c in named], np.float32)  # the card scales x
    readings = x.swapaxes(1, 2).reshape(-1, x.shape[1])
    centres = _centres(readings[:, rows] / width) * width
    k = nearest(readings[:, rows] / width, centres / width)
    overall_mean, overall_scale = _statistics(readings, (0,))
    overall_scale[rows] = np.maximum(overall_scale[rows], width)
    mean, scale = np.tile(overall_mean, (len(centres), 1)), np.tile(overall_scale, (len(centres), 1))
    own = np.ones(x.shape[1], np.bool_)
    own[rows] = False  # the graph may see which condition it is
    for i in range(len(centres)):
        at, spread = _statistics(readings[k == i], (0,))
        mean[i, own], scale[i, own] = at[own], spread[own]
    own = _given(card, x.shape[1])
    mean[:, own], scale[:, own] = 0, 1
    return Conditions(rows, width, centres, _mean(mean, scale), _float32(scale))


def _centres(points: NDArray[Any]) -> NDArray[Any]:
    """Centres (k, r) of points (n, r): the commonest cell of a unit grid takes all within 1, then the next, …"""
    cells, counts = np.unique(np.rint(points), axis=0, return_counts=True)
    free = np.ones(len(points), np.bool_)
    centres: list[NDArray[Any]] = []
    for cell in cells[np.argsort(-counts, kind="stable")]:
        near = free & (np.abs(points - cell) <= 1).all(axis=1)
        if near.sum() >= MIN_READINGS or not centres:
            centres.append(points[near].mean(axis=0))
            free &= ~near
        if len(centres) == MAX_CONDITIONS or not free.any():
            break
    return np.array(centres, points.dtype)
