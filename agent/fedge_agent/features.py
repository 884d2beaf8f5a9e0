"""Features of a window: what a compact model sees instead of raw samples. Pure and vectorised.

Each feature gives one or more numbers per channel in the channel's unit unless said otherwise. Output order is channel
by channel, within a channel in the order of the names. Gaps (NaN) are bridged linearly before anything is computed; a
channel with no value at all counts as 0. Definitions for vibration (rms, peak, crest factor, kurtosis): ISO 13373-2.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache

import numpy as np
from fedge_models.card import Card
from fedge_models.errors import ModelError

from .types import Array

EPSILON = 1e-12  # of energies, so that silence has a logarithm


class _Signal:
    """Windows x (..., channels, length) without gaps, and what most features share."""

    def __init__(self, x: Array) -> None:
        self.x, self.length = x, x.shape[-1]
        self.mean = self._average(x)
        self.centred = x - self.mean
        self.square = self.centred * self.centred
        self.variance = self._average(self.square)
        self.std: Array = np.sqrt(self.variance)

    def _average(self, of: Array) -> Array:
        total: Array = np.add.reduce(of, axis=-1, keepdims=True)
        total /= self.length
        return total

    def peak(self) -> Array:
        """Largest distance from the mean."""
        peak: Array = np.abs(self.centred).max(axis=-1, keepdims=True)
        return peak

    def rms(self) -> Array:
        root: Array = np.sqrt(self._average(self.x * self.x))
        return root

    def crest(self) -> Array:
        """Peak over standard deviation (no unit); 0 for a constant."""
        return np.divide(self.peak(), self.std, out=np.zeros_like(self.std), where=self.std > 0)

    def kurtosis(self) -> Array:
        """Fourth standardised moment (no unit; 3 for Gaussian noise, more for impacts); 0 for a constant."""
        fourth = self._average(self.square * self.square)
        moved = self.variance > EPSILON
        return np.divide(fourth, self.variance * self.variance, out=np.zeros_like(fourth), where=moved)

    def slope(self) -> Array:
        """Least-squares change over the window's length."""
        slope: Array = (self.x @ _ramp(self.length))[..., None]
        return slope

    def envelope(self, count: int) -> Array:
        """log10 of the energy in `count` equal bands from 0 to 1/32 of the sampling rate of the envelope.

        The envelope (magnitude of the analytic signal: Hilbert transform) of what is above that carries the rates at
        which a bearing's balls pass a defect; the raw spectrum does not (McFadden & Smith 1984).
        """
        spectrum = np.fft.rfft(self.centred, axis=-1)
        top = max(count + 1, self.length // 32)
        spectrum[..., :top] = 0
        analytic = np.zeros((*spectrum.shape[:-1], self.length), np.complex64)
        analytic[..., : spectrum.shape[-1]] = 2 * spectrum
        envelope = np.abs(np.fft.ifft(analytic, axis=-1)).astype(np.float32)
        envelope -= self._average(envelope)
        rates = np.fft.rfft(envelope * _hann(self.length), axis=-1)
        power = (rates.real**2 + rates.imag**2)[..., 1:top] / self.length
        starts = np.linspace(0, power.shape[-1], count, endpoint=False).astype(np.int64)
        bands: Array = np.log10(np.add.reduceat(power, starts, axis=-1) + EPSILON)
        return bands

    def bands(self, count: int) -> Array:
        """log10 of the energy in `count` equal bands from 0 to half the sampling rate (Hann window, mean removed)."""
        spectrum = np.fft.rfft(self.centred * _hann(self.length), axis=-1)
        power = (spectrum.real**2 + spectrum.imag**2)[..., 1:] / self.length
        starts = np.linspace(0, power.shape[-1], count, endpoint=False).astype(np.int64)
        bands: Array = np.log10(np.add.reduceat(power, starts, axis=-1) + EPSILON)
        return bands


@lru_cache(32)
def _ramp(length: int) -> Array:
    t = np.linspace(-0.5, 0.5, length, dtype=np.float32)
    ramp: Array = t / np.dot(t, t)
    return ramp


@lru_cache(32)
def _hann(length: int) -> Array:
    return np.hanning(length).astype(np.float32)


FEATURES: dict[str, Callable[[_Signal, int], Array]] = {
    "bands": _Signal.bands,  # "bands:8": eight of them
    "envelope": _Signal.envelope,
    "crest": lambda s, _: s.crest(),
    "kurtosis": lambda s, _: s.kurtosis(),
    "max": lambda s, _: s.x.max(axis=-1, keepdims=True),
    "mean": lambda s, _: s.mean,
    "min": lambda s, _: s.x.min(axis=-1, keepdims=True),
    "peak": lambda s, _: s.peak(),
    "rms": lambda s, _: s.rms(),
    "slope": lambda s, _: s.slope(),
    "std": lambda s, _: s.std,
}


COUNTED = ("bands", "envelope")  # take a number: "bands:8"


def feature_count(names: Sequence[str], channels: int) -> int:
    """Length of the feature vector. Raises ModelError for a name that is not known."""
    return channels * _plan(tuple(names))[1]


class Preparation:
    """What a sample holds of windows without gaps: channels scaled where the card says how, then its features."""

    def __init__(self, card: Card) -> None:
        self._names = card.features
        scaled = any(c.scale is not None for c in card.channels)
        self._centre = np.array([[c.centre or 0.0] for c in card.channels], np.float32) if scaled else None
        self._scale = np.array([[c.scale or 1.0] for c in card.channels], np.float32)

    def __call__(self, values: Array) -> Array:
        """Features (..., count) or raw windows of windows (..., channels, length)."""
        if self._centre is not None:
            values = (values - self._centre) / self._scale
        return extract(values, self._names)


def extract(x: Array, names: Sequence[str]) -> Array:
    """Features (..., count) of windows x (..., channels, length) without gaps; x itself when there are no `names`."""
    if not names:
        return x
    parts, width = _plan(tuple(names))
    signal = _Signal(x)
    out = np.empty((*x.shape[:-1], width), np.float32)
    for compute, count, start in parts:
        out[..., start : start + count] = compute(signal, count)
    return out.reshape(*x.shape[:-2], -1)


@lru_cache(32)
def _plan(names: tuple[str, ...]) -> tuple[list[tuple[Callable[[_Signal, int], Array], int, int]], int]:
    """[(feature, numbers per channel, first of them), …] and the numbers per channel of all."""
    parts, width = [], 0
    for kind, count in map(_parse, names):
        parts.append((FEATURES[kind], count, width))
        width += count
    return parts, width


def bridge(values: Array) -> Array:
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


def _parse(name: str) -> tuple[str, int]:
    """("bands", 8) for "bands:8", ("mean", 1) for "mean"."""
    kind, _, count = name.partition(":")
    if kind not in FEATURES or (kind in COUNTED) != count.isdigit() or (count and not 1 <= int(count) <= 64):
        known = ", ".join(f"{k}:N" if k in COUNTED else k for k in FEATURES)
        raise ModelError(f"feature {name!r} is not known; expected one of: {known}")
    return kind, int(count or 1)
