# SPDX-License-Identifier: Apache-2.0
"""When a site trains, and with which learning rate. Pure: the time is passed in."""

from __future__ import annotations

from dataclasses import dataclass

from ..config.schema import Training


@dataclass
class Schedule:
    """Decide when training is due: for each new release, spaced by `interval` or by enough new samples.

    A training whose update was refused, or that diverged, is repeated on the same release after `interval`. If every
    site waited for the next release instead, none would come.
    """

    config: Training
    trained_base: int = 0  # release of the last training
    trained_at: float = -1e18  # monotonic, s
    trained_total: int = 0  # samples ever collected, then
    failed: bool = False  # the last training led to no accepted update, and is worth repeating

    def due(self, release: int, usable: int, total: int, now: float) -> bool:
        """Whether to train now.

        release: newest version; usable: samples to train on now; total: samples ever collected; now: monotonic, s.
        """
        if usable < self.config.min_samples:
            return False
        rested = now - self.trained_at >= self.config.interval
        if release <= self.trained_base:
            return self.failed and rested
        return rested or total - self.trained_total >= self.config.new_samples

    def trained(self, release: int, total: int, now: float) -> None:
        """Note a training on `release`."""
        self.trained_base, self.trained_total, self.trained_at, self.failed = release, total, now, False


@dataclass
class AloneSchedule:
    """Decide when the site's own model is trained without an update, `interval` apart: for a release on which nothing
    is sent (the site is not asked, or its privacy budget is spent), and for enough new samples while no release comes.

    Release 0 is the model file, of a site that has none: its first training is due as soon as there are enough samples.
    """

    config: Training
    base: int = -1  # release that was the newest at the last training of the own model, with an update or without
    trained_at: float = -1e18  # monotonic, s
    trained_total: int = 0  # samples ever collected, then

    def due(self, release: int, usable: int, total: int, now: float) -> bool:
        """Whether to train now; the arguments are those of `Schedule.due`."""
        how = self.config
        if not how.own_model or usable < how.min_samples or now - self.trained_at < how.interval:
            return False
        return release > self.base or total - self.trained_total >= how.new_samples

    def trained(self, release: int, total: int, now: float) -> None:
        """Note a training of the own model."""
        self.base, self.trained_total, self.trained_at = release, total, now


def round_rate(rate: float, halving: int, version: int) -> float:
    """The learning rate for training on a release: halved every `halving` releases; 0: always the same.

    A federation whose sites differ converges only when its steps get smaller (Li et al. 2020, "On the convergence of
    FedAvg on non-IID data"). The version is the one clock that all sites share.
    """
    return rate * 0.5 ** (max(0, version - 1) / halving) if halving else rate
