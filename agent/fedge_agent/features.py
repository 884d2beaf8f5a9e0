"""Features of a window: what a compact model sees instead of raw samples. Pure and vectorised.

Input ``values`` is (..., channels, length); each feature gives one or more numbers per channel in the channel's unit
unless said otherwise. Output order is channel by channel, within a channel in the order of the names. Gaps (NaN) are
bridged linearly before anything is computed; a channel with no value at all counts as 0. Definitions: ISO 13373-2 for
rms, peak, crest factor and kurtosis of vibration.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from fedge_models.errors import ModelError

from .types import Array

EPSILON = 1e-12  # of energies, so that silence has a logarithm


def _mean(x: Array, _: int) -> Array:
    return x.mean(axis=-1, keepdims=True)


def _std(x: Array, _: int) -> Array:
    return x.std(axis=-1, keepdims=True)


def _rms(x: Array, _: int) -> Array:
    root: Array = np.sqrt(np.mean(x * x, axis=-1, keepdims=True))
    return root


def _minimum(x: Array, _: int) -> Array:
    return x.min(axis=-1, keepdims=True)


def _maximum(x: Array, _: int) -> Array:
    return x.max(axis=-1, keepdims=True)


def _peak(x: Array, _: int) -> Array:
    """Largest distance from the mean."""
    peak: Array = np.abs(x - _mean(x, 0)).max(axis=-1, keepdims=True)
    return peak


def _crest(x: Array, _: int) -> Array:
    """Peak over standard deviation (no unit); 0 for a constant."""
    std = _std(x, 0)
    out: Array = np.divide(_peak(x, 0), std, out=np.zeros_like(std), where=std > 0)
    return out


def _kurtosis(x: Array, _: int) -> Array:
    """Fourth standardised moment (no unit; 3 for Gaussian noise, more for impacts); 0 for a constant."""
    centred = x - _mean(x, 0)
    square = centred * centred
    variance = square.mean(axis=-1, keepdims=True)
    fourth = (square * square).mean(axis=-1, keepdims=True)
    out: Array = np.divide(fourth, variance * variance, out=np.zeros_like(variance), where=variance > EPSILON)
    return out


def _slope(x: Array, _: int) -> Array:
    """Least-squares change over the window's length."""
    t = np.linspace(-0.5, 0.5, x.shape[-1], dtype=np.float32)
    slope: Array = (x @ (t / np.dot(t, t)))[..., None]
    return slope


def _bands(x: Array, count: int) -> Array:
    """log10 of the energy in `count` equal bands from 0 to half the sampling rate (Hann window, mean removed)."""
    spectrum = np.fft.rfft((x - _mean(x, 0)) * np.hanning(x.shape[-1]).astype(np.float32), axis=-1)
    power = (spectrum.real**2 + spectrum.imag**2)[..., 1:] / x.shape[-1]
    starts = np.linspace(0, power.shape[-1], count, endpoint=False).astype(np.int64)
    bands: Array = np.log10(np.add.reduceat(power, starts, axis=-1) + EPSILON)
    return bands


FEATURES: dict[str, Callable[[Array, int], Array]] = {
    "bands": _bands,  # "bands:8": eight of them
    "crest": _crest,
    "kurtosis": _kurtosis,
    "max": _maximum,
    "mean": _mean,
    "min": _minimum,
    "peak": _peak,
    "rms": _rms,
    "slope": _slope,
    "std": _std,
}


def feature_count(names: Sequence[str], channels: int) -> int:
    """Length of the feature vector. Raises ModelError for a name that is not known."""
    return channels * sum(_parse(name)[1] for name in names)


def extract_many(values: Array, names: Sequence[str]) -> Array:
    """Features (n, count) of windows (n, channels, length); the bridged windows themselves when `names` is empty."""
    x = bridge(values)
    if not names:
        return x
    parts = [FEATURES[kind](x, count) for kind, count in map(_parse, names)]
    return np.concatenate(parts, axis=-1).reshape(len(x), -1).astype(np.float32)


def extract(values: Array, names: Sequence[str]) -> Array:
    """Features of one window (channels, length); see `extract_many`."""
    features: Array = extract_many(values[None], names)[0]
    return features


def bridge(values: Array) -> Array:
    """Windows with gaps filled linearly, ends held; the input itself when there are none."""
    missing = np.isnan(values)
    if not missing.any():
        return values
    filled = values.copy()
    for row, gaps in zip(filled.reshape(-1, values.shape[-1]), missing.reshape(-1, values.shape[-1]), strict=True):
        if gaps.all():
            row[:] = 0
        elif gaps.any():
            at = np.flatnonzero(~gaps)
            row[gaps] = np.interp(np.flatnonzero(gaps), at, row[at])
    return filled


def _parse(name: str) -> tuple[str, int]:
    """("bands", 8) for "bands:8", ("mean", 1) for "mean"."""
    kind, _, count = name.partition(":")
    if kind not in FEATURES or (kind == "bands") != count.isdigit() or (count and not 1 <= int(count) <= 64):
        known = ", ".join("bands:N" if k == "bands" else k for k in FEATURES)
        raise ModelError(f"feature {name!r} is not known; expected one of: {known}")
    return kind, int(count or 1)
