# SPDX-License-Identifier: Apache-2.0
"""What was learnt of a machine's inputs: between which limits each column's location and spread lay. Pure.

Compared are blocks of operation, not single windows, so that overlapping windows and slow changes count once: a block
has one location (the median of its windows) and one spread. The reference holds the range over all blocks that were
learnt from, which includes each regime of the machine. A block that stays within the range is no drift, even where it
shows one regime only.

While the reference has not covered its baseline, its range grows with every block. Afterwards it may grow by `SLACK`
beyond what it was then, and no further: a slow fault does not become normal. What a person accepts as the new normal is
added by who watches (`widened`).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..windows.summary import Figures

BLOCK_WINDOWS = 8  # at least, in a block: below, the spread of its windows says nothing
LEAST_BLOCKS = 4  # of a reference
FIRST_BLOCKS = 16  # of a reference while they are shorter than they should be; then it is made anew of all samples
OFF = 10  # a longer gap than so many usual ones between samples is no operation
SLACK = 0.25  # of the range, or of the usual spread where that is wider
FLOOR = 1e-3  # spreads below this share of the usual one are alike
MARGIN = 0.5  # of the range that a block may lie beyond it
LEAST_MARGIN = np.array([[0.5], [0.4]])  # in usual spreads; in the logarithm of the spread: half as wide again
SINGLE_TAIL = 0.005  # of the windows that were learnt from, on either side of the range of single windows
WINDOW_MARGIN = 0.25


class Reference(NamedTuple):
    """What was learnt of one machine. Rows of ranges are location and logarithm of the spread; K columns."""

    scale: Figures  # (K,) usual spread of the values
    low: Figures  # (2, K) of blocks
    high: Figures
    window_low: Figures  # (2, K) of single windows
    window_high: Figures
    constant: NDArray[np.bool_]  # (K,) whether a block was constant
    covered_ns: int  # operation that it was learnt from
    until_ns: int  # source time of the newest sample of it
    blocks: int
    block_ns: int  # operation of a block
    anchor_low: Figures  # (2, K) range when its baseline was covered; until then `low`
    anchor_high: Figures

    def margin(self) -> Figures:
        """How far (2, K) beyond the range a block is still no drift."""
        found: Figures = np.maximum(MARGIN * (self.high - self.low), LEAST_MARGIN * self.units())
        return found

    def outside(self, figures: Figures) -> Figures:
        """How far (2, K) a block's figures are outside: in usual spreads, and in logarithms. 0: within the margin."""
        figures, margin = self.floored(figures), self.margin()
        beyond = np.where(figures > self.high + margin, figures - self.high, 0.0)
        beyond = np.where(figures < self.low - margin, figures - self.low, beyond)
        beyond[0] /= self.scale
        return beyond

    def odd(self, where: Figures, spread: Figures | None) -> NDArray[np.bool_]:
        """Which single windows (n,) have a column outside what single windows were."""
        margin = np.maximum(WINDOW_MARGIN * (self.window_high - self.window_low), LEAST_MARGIN * self.units())
        found = (where > self.window_high[0] + margin[0]) | (where < self.window_low[0] - margin[0])
        if spread is not None:
            logs = np.log(np.maximum(spread, FLOOR * self.scale))
            found |= (logs > self.window_high[1] + margin[1]) | (logs < self.window_low[1] - margin[1])
        odd: NDArray[np.bool_] = found.any(axis=1)
        return odd

    def widened(self, low: Figures, high: Figures) -> Reference:
        """The reference with a range (2, K) that a person accepted; a spread at the floor is that of a constant."""
        return self._replace(
            constant=self.constant | (low[1] <= np.log(FLOOR * self.scale) + LEAST_MARGIN[1]),
            low=np.minimum(self.low, low),
            high=np.maximum(self.high, high),
            window_low=np.minimum(self.window_low, low),
            window_high=np.maximum(self.window_high, high),
        )

    def units(self) -> Figures:
        """What margins are given in (2, K): usual spreads, and logarithms."""
        return np.stack([self.scale, np.ones_like(self.scale)])

    def floored(self, figures: Figures) -> Figures:
        """Figures (2, K) of a block; a spread of 0 has no logarithm, and is the least that is told apart."""
        return np.stack([figures[0], np.maximum(figures[1], np.log(FLOOR * self.scale))])


def block_figures(where: Figures, spread: Figures | None) -> tuple[Figures, NDArray[np.bool_]]:
    """Location and logarithm of the spread (2, K) of a block of windows (n, K), and which columns are constant."""
    low, middle, high = np.quantile(where, [0.25, 0.5, 0.75], axis=0)
    wide = (high - low) / 1.349 if spread is None else np.median(spread, axis=0)
    still = np.ptp(where, axis=0) == 0
    if spread is not None:
        still &= spread.max(axis=0) <= 1e-9 * np.abs(middle)
    with np.errstate(divide="ignore"):
        return np.stack([middle, np.log(wide)]), still


def learn(
    known: Reference | None,
    times: NDArray[np.int64],
    where: Figures,
    spread: Figures | None,
    block_ns: int,
    baseline_ns: int,
) -> Reference | None:
    """The reference with windows (n, K) that came after those it holds, oldest first; None: too few for a first one."""
    before = known
    if known is not None and known.block_ns < block_ns:
        known = None  # short blocks differ more
    if known is not None:
        newer = times > known.until_ns
        times, where, spread = times[newer], where[newer], None if spread is None else spread[newer]
    used_ns = block_ns if known is not None else _first_block_ns(times, block_ns)
    cuts = list(_blocks(times, used_ns))
    if not cuts or (known is None and len(cuts) < LEAST_BLOCKS):
        return before
    used = slice(0, cuts[-1].stop)
    covered_ns, until_ns = int(_operation(times[used]).sum()), int(times[used.stop - 1])
    made = _of(cuts, where, spread)._replace(covered_ns=covered_ns, until_ns=until_ns, block_ns=used_ns)
    return made if known is None else _joined(known, made, baseline_ns)


def _joined(known: Reference, made: Reference, baseline_ns: int) -> Reference:
    """What is known and what was learnt since: freely until the baseline is covered, then within the slack."""
    low, high = np.minimum(known.low, made.low), np.maximum(known.high, made.high)
    window_low = np.minimum(known.window_low, made.window_low)
    window_high = np.maximum(known.window_high, made.window_high)
    covered = known.covered_ns + made.covered_ns
    grown = known._replace(covered_ns=covered, until_ns=made.until_ns, blocks=known.blocks + made.blocks)
    if known.covered_ns < baseline_ns:
        return grown._replace(
            scale=np.maximum(known.scale, made.scale),
            low=low,
            high=high,
            window_low=window_low,
            window_high=window_high,
            constant=known.constant | made.constant,
            anchor_low=low,
            anchor_high=high,
        )
    slack = SLACK * np.maximum(known.anchor_high - known.anchor_low, known.units())
    least, most = known.anchor_low - slack, known.anchor_high + slack
    return grown._replace(
        low=np.minimum(known.low, np.maximum(low, least)),
        high=np.maximum(known.high, np.minimum(high, most)),
        window_low=np.minimum(known.window_low, np.maximum(window_low, known.window_low - slack)),
        window_high=np.maximum(known.window_high, np.minimum(window_high, known.window_high + slack)),
    )


def _of(cuts: list[slice], where: Figures, spread: Figures | None) -> Reference:
    """What these blocks are, with no time."""
    used = slice(cuts[0].start, cuts[-1].stop)
    scale = usual_spread(where[used], None if spread is None else spread[used])
    found = [block_figures(where[cut], None if spread is None else spread[cut]) for cut in cuts]
    figures = np.stack([f for f, _ in found])
    figures[:, 1] = np.maximum(figures[:, 1], np.log(FLOOR * scale))
    low, high = figures.min(axis=0), figures.max(axis=0)
    tails = [SINGLE_TAIL, 1 - SINGLE_TAIL]
    window_low, window_high = np.quantile(where[used], tails, axis=0)
    logs = figures[:, 1] if spread is None else np.log(np.maximum(spread[used], FLOOR * scale))
    log_low, log_high = np.quantile(logs, tails, axis=0)
    constant = np.logical_or.reduce([still for _, still in found])
    window_low, window_high = np.stack([window_low, log_low]), np.stack([window_high, log_high])
    return Reference(scale, low, high, window_low, window_high, constant, 0, 0, len(cuts), 0, low, high)


def usual_spread(where: Figures, spread: Figures | None) -> Figures:
    """The robust spread (K,) of all values of windows (n, K); never 0."""
    low, high = np.quantile(where, [0.1587, 0.8413], axis=0)
    wide = (high - low) / 2
    wide = np.where(wide > 0, wide, where.std(axis=0))
    if spread is not None:
        wide = np.hypot(wide, np.median(spread, axis=0))
    level = np.abs(np.median(where, axis=0))
    found: Figures = np.where(wide > 1e-9 * level, wide, np.where(level > 0, 1e-3 * level, 1.0))
    return found


def _operation(times: NDArray[np.int64]) -> NDArray[np.int64]:
    """Operation (ns) that each of the samples (n,) adds: where none came for long, there was none."""
    gaps = np.maximum(np.diff(times), 0)
    known = gaps[gaps > 0]
    usual = int(np.median(known)) if len(known) else 0
    found: NDArray[np.int64] = np.concatenate([[0], np.where(gaps > OFF * usual, usual, gaps)]).astype(np.int64)
    return found


def _first_block_ns(times: NDArray[np.int64], block_ns: int) -> int:
    """The length of blocks while the samples cover little: a part of them."""
    return max(1, min(block_ns, int(_operation(times).sum()) // FIRST_BLOCKS))


def _blocks(times: NDArray[np.int64], block_ns: int) -> Iterator[slice]:
    """Samples in blocks of so much operation, and of enough samples; the last, if it is not full, is left out."""
    start, operation = 0, 0
    for i, step in enumerate(_operation(times).tolist()):
        operation += step if i > start else 0
        if operation >= block_ns and i + 1 - start >= BLOCK_WINDOWS:
            yield slice(start, i + 1)
            start, operation = i + 1, 0
