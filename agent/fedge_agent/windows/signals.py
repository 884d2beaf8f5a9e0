# SPDX-License-Identifier: Apache-2.0
"""Compute the moments, spectra and envelope spectra of windows. Pure and vectorised.

Each method gives one or more numbers per channel, in the channel's unit unless said otherwise. Definitions for
vibration (rms, peak, crest factor, kurtosis): ISO 13373-2.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import cached_property, lru_cache
from types import MappingProxyType
from typing import Any

import numpy as np
from fedge_models.graph.bearing import Fault

from ..types import Values

EPSILON = 1e-12  # of energies, so that silence has a logarithm
SLIP = 0.02  # share by which a bearing's rates may differ from its kinematics
LINES = 3  # of the envelope's spectrum, at least


class Signal:
    """Windows x (..., channels, length) without gaps, and what most features share."""

    def __init__(
        self,
        x: Values,
        rate_hz: float = 1.0,
        faults: Mapping[Fault, float] = MappingProxyType({}),
        spectra: type[np.float32] | type[np.float64] = np.float32,
    ) -> None:
        """spectra: what they are computed in, after the mean is subtracted; they become logarithms."""
        self._spectra = spectra
        self.x, self.length, self.rate_hz, self.faults = x, x.shape[-1], rate_hz, faults
        self.mean = self._average(x)
        self.centred = x - self.mean
        self.square = self.centred * self.centred
        self.variance = self._average(self.square)
        self.std: Values = np.sqrt(self.variance)

    def _average(self, of: Values) -> Values:
        total: Values = np.add.reduce(of, axis=-1, keepdims=True)
        total /= _divisor(self.length, of.dtype)
        return total

    def peak(self) -> Values:
        """Largest distance from the mean."""
        peak: Values = np.abs(self.centred).max(axis=-1, keepdims=True)
        return peak

    def rms(self) -> Values:
        root: Values = np.sqrt(self._average(self.x * self.x))
        return root

    def crest(self) -> Values:
        """Peak over standard deviation (no unit); 0 for a constant, NaN where the deviation overflows."""
        ratio: Values = np.divide(self.peak(), self.std, out=np.zeros_like(self.std), where=self.std > 0)
        return ratio + 0 * self.std

    def kurtosis(self) -> Values:
        """Fourth standardised moment (no unit; 3 for Gaussian noise, more for impacts); 0 for a constant."""
        fourth = self._average(self.square * self.square)
        moved = self.variance > EPSILON
        return np.divide(fourth, self.variance * self.variance, out=np.zeros_like(fourth), where=moved)

    def slope(self) -> Values:
        """Least-squares change over the window's length."""
        slope: Values = (self.centred @ _ramp(self.length, self.x.dtype))[..., None]
        return slope

    def envelope(self, count: int) -> Values:
        """log10 of the energy in `count` equal bands from 0 to 1/32 of the sampling rate of the envelope.

        The envelope (magnitude of the analytic signal: Hilbert transform) of what is above that carries the rates at
        which a bearing's balls pass a defect; the raw spectrum does not (McFadden & Smith 1984).
        """
        return _in_bands(self._envelope_power, count)

    def strikes(self, fault: Fault, count: int) -> Values:
        """log10 of how far each of the first `count` harmonics of a defect's rate stands out of the envelope's
        spectrum: its highest line within SLIP, over the median line (no unit; 0 where it lies beyond the spectrum).

        The rates are those of `bearing.py`; Randall & Antoni 2011, section 3.
        """
        power, step = self._envelope_power, self.rate_hz / self.length
        out = np.zeros((*power.shape[:-1], count), power.dtype)
        level = np.median(power, axis=-1) + EPSILON
        for k in range(count):
            line = (k + 1) * self.faults[fault] / step
            if not abs(line) <= self.length:  # of a shaft whose speed is a wild reading
                continue
            reach = max(1.0, SLIP * line)
            low, high = math.floor(line - reach) - 1, math.ceil(line + reach)  # the spectrum begins with line 1
            if low >= 0 and high <= power.shape[-1]:
                out[..., k] = np.log10(power[..., low:high].max(axis=-1) / level + EPSILON)
        return out

    def band(self, low: float, high: float) -> Values:
        """log10 of the energy from `low` to `high` Hz (Hann window, mean removed)."""
        step = self.rate_hz / self.length
        first, last = max(1, round(low / step)), max(1, round(high / step))
        energy = np.add.reduce(self._power[..., first - 1 : max(last - 1, first)], axis=-1, keepdims=True)
        return np.log10(energy + EPSILON)

    def bands(self, count: int) -> Values:
        """log10 of the energy in `count` equal bands from 0 to half the sampling rate (Hann window, mean removed)."""
        return _in_bands(self._power, count)

    @cached_property
    def _waves(self) -> Values:
        return self.centred.astype(self._spectra, copy=False)

    @cached_property
    def _power(self) -> Values:
        """Power of the lines 1, 2, … of the spectrum."""
        spectrum = np.fft.rfft(self._waves * _hann(self.length), axis=-1)
        power: Values = (spectrum.real**2 + spectrum.imag**2)[..., 1:] / self.length
        return power

    @cached_property
    def _envelope_power(self) -> Values:
        """Power of the lines 1, 2, … of the envelope's spectrum, up to 1/32 of the sampling rate."""
        spectrum = np.fft.rfft(self._waves, axis=-1)
        top = max(LINES, self.length // 32)
        spectrum[..., :top] = 0
        analytic = np.zeros((*spectrum.shape[:-1], self.length), np.result_type(self._spectra, np.complex64))
        analytic[..., : spectrum.shape[-1]] = 2 * spectrum
        envelope = np.abs(np.fft.ifft(analytic, axis=-1)).astype(self._spectra)
        envelope = envelope - self._average(envelope)
        rates = np.fft.rfft(envelope * _hann(self.length), axis=-1)
        power: Values = (rates.real**2 + rates.imag**2)[..., 1:top] / self.length
        return power


def _in_bands(power: Values, count: int) -> Values:
    starts = np.linspace(0, power.shape[-1], count, endpoint=False).astype(np.int64)
    bands: Values = np.log10(np.add.reduceat(power, starts, axis=-1) + EPSILON)
    return bands


@lru_cache(32)
def _divisor(length: int, kind: np.dtype[Any]) -> Values:
    return np.array(length, kind)  # quicker than a number


@lru_cache(32)
def _ramp(length: int, kind: np.dtype[Any]) -> Values:
    t = np.linspace(-0.5, 0.5, length, dtype=kind)
    ramp: Values = t / np.dot(t, t)
    return ramp


@lru_cache(32)
def _hann(length: int) -> Values:
    return np.hanning(length).astype(np.float32)
