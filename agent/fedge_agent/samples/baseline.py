# SPDX-License-Identifier: Apache-2.0
"""How much operation of a machine must be known before its own limit is trusted, and how much is. Pure.

A baseline is of one machine and covers a span of its operation, because machines have cycles: windows of one moment say
nothing of the next. Operation counts, not the clock: time without a usable window adds nothing.
"""

from __future__ import annotations

from typing import NamedTuple

from ..config.schema import AssetConfig
from .machine_recipe import Own, own

LEAST_WINDOWS = 20  # of a machine's own for a limit, however long they took
DRIFT_BLOCKS = 4  # outside in a row are a drift, see `machines.input_drift`
COVERED_TWICE = 2  # the stored windows are taken so far apart that they cover this many baselines


class Plan(NamedTuple):
    """What an asset is configured to learn from: ``[asset.X]`` baseline, provisional, learn_after."""

    span_ns: int = 0
    provisional: bool = False  # decide with a provisional limit until the baseline is complete
    learn_after_ns: int = 0  # windows are training data once they are so old
    thin: bool = True  # windows may be left out; not where each may get a label
    labelled: bool = False  # windows get labels: one without does not count as normal
    drift_block_ns: int = 0  # operation that one block of inputs covers, and what must be learnt before one can drift
    drift_baseline_ns: int = 0
    own: Own = Own()  # what its windows are made with, otherwise than the card says


def plan(config: AssetConfig) -> Plan:
    """The plan of an asset; without `learn_after`, a quarter of the baseline."""
    after = config.baseline / 4 if config.learn_after is None else config.learn_after
    thin = not config.labelled and config.inspection is None
    ns = round(config.baseline * 1e9), round(after * 1e9)
    drift = round(config.when.drift_for * 1e9 / DRIFT_BLOCKS), round(config.when.drift_baseline * 1e9)
    return Plan(ns[0], config.provisional, ns[1], thin, config.labelled, *drift, own(config))


class Progress(NamedTuple):
    """How far an asset's baseline is."""

    covered_ns: int  # operation that its windows covered
    span_ns: int
    windows: int  # its own normal windows that are stored
    least: int

    @property
    def done(self) -> bool:
        """Whether the asset has a limit of its own."""
        return self.covered_ns >= self.span_ns and self.windows >= self.least

    def text(self) -> str:
        """What is still missing, in words: "43 of 240 min"."""
        if self.covered_ns >= self.span_ns:
            return f"{min(self.windows, self.least)} of {self.least} windows"
        size, unit = (60, "min") if self.span_ns >= 120 * 10**9 else (1, "s")
        return f"{self.covered_ns / 1e9 / size:.0f} of {self.span_ns / 1e9 / size:.0f} {unit}"


def stride_ns(span_ns: int, share: int) -> int:
    """How far apart (ns) windows are stored, so that `share` of them cover the baseline twice."""
    return COVERED_TWICE * span_ns // max(1, share)
