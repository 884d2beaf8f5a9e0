# SPDX-License-Identifier: Apache-2.0
"""Make a classifier's probabilities as frequent as they say: by a temperature, and a bias for each class. Pure.

Guo et al. 2017, "On Calibration of Modern Neural Networks" (temperature scaling; here with the biases of vector
scaling). Both are drawn towards doing nothing, so that a few samples change little. Of labels of which several may
hold, each is two classes: it holds, or it does not.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Logits = NDArray[np.floating]  # (n, classes)
Classes = NDArray[np.int64]  # (n,)

PRIOR = 16.0  # samples that speak for no change, chosen on training data (docs/benchmarks.md)
STEPS, ENOUGH = 30, 1e-6  # of Newton's method; a step that ends it
FLATTEST, STEEPEST, LARGEST = 0.1, 10.0, 3.0  # bounds of the slope, and of a bias
BINS = 10


class Calibration(NamedTuple):
    """slope: 1 / temperature, of the logits; biases: added to them (classes,)."""

    slope: float
    biases: Floats

    @property
    def temperature(self) -> float:
        """Above 1 probabilities become less extreme."""
        return 1 / self.slope

    def applied(self, logits: Logits) -> Floats:
        """Return the logits of calibrated probabilities."""
        found: Floats = self.slope * logits.astype(np.float64) + self.biases
        return found


class LabelCalibration(NamedTuple):
    """The same of labels of which several may hold, each by itself: slopes and biases (labels,) of their logits."""

    slopes: Floats
    biases: Floats

    @property
    def temperatures(self) -> Floats:
        """Of each label; above 1 probabilities become less extreme."""
        found: Floats = 1 / self.slopes
        return found

    def applied(self, logits: Logits) -> Floats:
        """Return the logits (n, labels) of calibrated probabilities."""
        found: Floats = self.slopes * logits.astype(np.float64) + self.biases
        return found


def two_classes(logits: Logits) -> Floats:
    """The logits (n, 2) of "no" and "yes" of one label, whose logits are (n,)."""
    half = logits.astype(np.float64) / 2
    return np.stack([-half, half], axis=1)


def of_labels(found: Sequence[Calibration | None]) -> LabelCalibration:
    """Put the calibrations of the labels together, each of its `two_classes`; None: the label stays as it is."""
    slopes = [1.0 if one is None else one.slope for one in found]
    biases = [0.0 if one is None else float(one.biases[1] - one.biases[0]) for one in found]
    return LabelCalibration(np.array(slopes), np.array(biases))


def fit(logits: Logits, labels: Classes, free: NDArray[np.bool_]) -> Calibration:
    """Fit a temperature, and biases of the classes in `free` (classes,), by penalised likelihood.

    The biases sum to zero, so that a class without one is neither favoured nor put back against those with one.
    """
    z = logits - logits.max(axis=1, keepdims=True, initial=-np.inf)
    z = z.astype(np.float64)
    basis = _sums_to_zero(free)
    right = np.eye(z.shape[1])[labels]
    at = np.zeros(1 + basis.shape[1])
    at[0] = 1.0
    value = _objective(z, labels, basis, at)
    for _ in range(STEPS):
        p = np.exp(_log_probabilities(at[0] * z + basis @ at[1:]))
        step = np.linalg.solve(_curvature(z, p, basis), _gradient(z, p - right, basis, at))
        while (then := _objective(z, labels, basis, at - step)) > value and np.abs(step).max() > ENOUGH:
            step /= 2
        if not then <= value:
            break
        at, value = at - step, then
        if np.abs(step).max() <= ENOUGH:
            break
    slope = float(np.clip(at[0], FLATTEST, STEEPEST))
    return Calibration(slope, np.clip(basis @ at[1:], -LARGEST, LARGEST))


def row_losses(logits: Logits, labels: Classes) -> Floats:
    """The negative log-likelihood of each row (n,)."""
    found: Floats = -_log_probabilities(logits.astype(np.float64))[np.arange(len(labels)), labels]
    return found


def error(logits: Logits, labels: Classes) -> float:
    """The expected calibration error: how far the highest probabilities are from how often they are right.

    Of ten equal steps of probability (Naeini et al. 2015).
    """
    p = np.exp(_log_probabilities(logits.astype(np.float64)))
    sure, right = p.max(axis=1), p.argmax(axis=1) == labels
    bins = np.minimum((sure * BINS).astype(np.int64), BINS - 1)
    return float(np.abs(np.bincount(bins, weights=right - sure, minlength=BINS)).sum() / max(1, len(labels)))


def _log_probabilities(z: Floats) -> Floats:
    found: Floats = z - np.logaddexp.reduce(z, axis=1, keepdims=True)
    return found


def _sums_to_zero(free: NDArray[np.bool_]) -> Floats:
    """Columns (classes, m - 1) that span the biases of the m free classes whose sum is zero."""
    at = np.flatnonzero(free)
    found = np.zeros((len(free), max(0, len(at) - 1)))
    for column in range(found.shape[1]):
        found[at[: column + 1], column] = 1 / (column + 1)
        found[at[column + 1], column] = -1
    return found / np.maximum(np.linalg.norm(found, axis=0), 1e-12)


def _objective(z: Floats, labels: Classes, basis: Floats, at: Floats) -> float:
    losses = row_losses(at[0] * z + basis @ at[1:], labels)
    return float(losses.sum() + PRIOR / 2 * ((at[0] - 1) ** 2 + (at[1:] ** 2).sum()))


def _gradient(z: Floats, off: Floats, basis: Floats, at: Floats) -> Floats:
    return np.array([(off * z).sum() + PRIOR * (at[0] - 1), *(basis.T @ off.sum(axis=0) + PRIOR * at[1:])])


def _curvature(z: Floats, p: Floats, basis: Floats) -> Floats:
    """The second derivatives: covariances of (z, basis) under the probabilities, summed over the rows."""
    mean = (p * z).sum(axis=1, keepdims=True)
    found = PRIOR * np.eye(1 + basis.shape[1])
    found[0, 0] += float((p * (z - mean) ** 2).sum())
    found[0, 1:] += (p * (z - mean)).sum(axis=0) @ basis
    found[1:, 0] = found[0, 1:]
    found[1:, 1:] += basis.T @ (np.diag(p.sum(axis=0)) - p.T @ p) @ basis
    return found
