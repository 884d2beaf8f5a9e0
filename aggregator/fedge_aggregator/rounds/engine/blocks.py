# SPDX-License-Identifier: Apache-2.0
"""Run a pipeline over column blocks, so that memory is bounded by the block and not by the updates.

Promises the same bits for any blocks, threads and machines: only whole numbers are summed over blocks, and what a rule
does in a column does not depend on other columns.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from fedge_models.messages.quantize import Codes
from numpy.typing import NDArray

from ..rules.mixing import Mixed
from ..rules.pipeline import Pipeline
from ..rules.rule import Aggregate, Gram, Rule, Weights
from .gram import Lengths, WithReference, gram_of, unite
from .runner import Runner, Task
from .runners import LOCAL
from .update_rows import Rows, choose, each_block

SCALE_PARTS = 64  # a row's scale is rounded to this part of 1: scaled and mixed rows stay whole numbers
NO_GRAM = np.empty((0, 0))


@dataclass(frozen=True)
class Columns:
    """The task for every block: mix, then the rule."""

    rule: Rule
    weights: Weights
    mixed: Mixed | None  # None: rows are not mixed

    def __call__(self, rows: Rows, start: int, stop: int) -> Aggregate:
        """The aggregate (stop - start,) of those columns."""
        out = np.empty(stop - start, np.float32)
        for first, last, block in each_block(rows, start, stop):
            out[first - start : last - start] = self._block(block)
        return out

    def _block(self, block: Codes) -> Aggregate:
        if self.mixed is None:
            return self.rule.columns(block, self.weights)
        return self.rule.columns(self.mixed.of(block), self.weights) / np.float32(self.mixed.divisor)


def aggregate(
    pipeline: Pipeline,
    rows: Rows,
    weights: Weights,
    *,
    reference: NDArray[np.float32] | None = None,
    scale: Weights | None = None,
    gram: Gram | None = None,
    seed: int = 0,
    runner: Runner = LOCAL,
) -> Aggregate:
    """Run a pipeline on rows; returns the aggregate (d,) in grid units.

    weights: (capped) sample counts (n,) > 0; reference: the previous aggregate (d,) in units of this grid, for rules
    that start from it (None: zeros); scale: factors (n,) in [0, 1] that shorten rows before everything else, rounded to
    64ths, at least one; gram: the result of `gram_matrix` for these rows, if the caller has it; seed: of random
    choices, which nodes cannot foresee and which is the same each time this round is averaged. Raises ValueError for
    fewer rows than the pipeline needs; a round waits for enough.
    """
    pipeline.require(rows.n)
    rule, n = pipeline.rule, rows.n
    if rule.reference:
        rows = WithReference(rows, reference)
    gram = _products(pipeline, rows, gram, runner)
    mixed = _mix(pipeline, gram, n, scale, seed)
    mixes, divisors = _fold(mixed, n, rule.reference)
    shares = np.asarray(weights, np.float64) if mixed is None else _means(mixed, weights)
    seen = mixes @ gram @ mixes.T / np.outer(divisors, divisors) if rule.compares else NO_GRAM
    chosen = rule.select(seen, shares)
    if rule.linear:
        chosen, mixed = chosen / divisors @ mixes, None
        if 0 < np.count_nonzero(chosen) < len(chosen):
            rows, chosen = choose(rows, np.flatnonzero(chosen).tolist()), chosen[chosen != 0]
    out = np.empty(rows.d, np.float32)
    alone = mixed is None and rule.alone(rows.n)  # mixing makes long calls
    for start, stop, part in runner.map(Columns(rule, chosen, mixed), rows, alone):
        out[start:stop] = part
    return out


def gram_matrix(rows: Rows, runner: Runner = LOCAL) -> Gram:
    """Inner products (n, n) of the rows in squared grid steps, exact."""
    return _summed(gram_of, rows, runner)


def _products(pipeline: Pipeline, rows: Rows, gram: Gram | None, runner: Runner) -> Gram:
    """The inner products that the pipeline uses, of rows that end with a reference if it has one."""
    hubs = 2 if pipeline.rule.reference else 0
    if not pipeline.compares:
        return NO_GRAM
    if gram is None and pipeline.pairs:
        return gram_matrix(rows, runner)
    if gram is not None and not hubs:
        return gram
    products = _summed(Lengths(hubs), rows, runner)
    if gram is not None:
        products[:-hubs, :-hubs] = gram
    return products


def _summed(task: Task, rows: Rows, runner: Runner) -> Gram:
    """The sum of a task's results (n, n) over all columns."""
    total = np.zeros((rows.n, rows.n))
    for _, _, part in runner.map(task, rows):
        total += part
    return total


def _mix(pipeline: Pipeline, gram: Gram, n: int, scale: Weights | None, seed: int) -> Mixed | None:
    """Scale and mixing as one matrix of whole numbers; None if there is neither."""
    parts = None if scale is None else _parts(np.asarray(scale, np.float64), n)
    if pipeline.mixing is None:
        return None if parts is None else Mixed(np.diag(parts), SCALE_PARTS)
    rows = gram[:n, :n] if pipeline.mixing.compares else NO_GRAM
    if parts is None:
        return pipeline.mixing.mix(rows, n, seed)
    mixed = pipeline.mixing.mix(rows * np.outer(parts, parts) if rows.size else rows, n, seed)
    return Mixed(mixed.matrix * parts, mixed.divisor * SCALE_PARTS)


def _parts(scale: Weights, n: int) -> NDArray[np.int64]:
    """Factors as whole numbers of SCALE_PARTS."""
    if scale.shape != (n,) or not (scale >= 0).all() or not (scale <= 1).all():
        raise ValueError(f"scale: expected {n} factors from 0 to 1, got {scale}")
    return np.maximum(np.rint(scale * SCALE_PARTS), 1).astype(np.int64)


def _means(mixed: Mixed, weights: Weights) -> Weights:
    """Sample counts (m,) of mixed rows: the mean over the rows in each."""
    means: Weights = (mixed.matrix > 0) @ weights / (mixed.matrix > 0).sum(axis=1)
    return means


def _fold(mixed: Mixed | None, n: int, reference: bool) -> tuple[NDArray[np.float64], Weights]:
    """How the rows that `select` sees follow from the stored ones: whole multiples of them, and divisors."""
    mixes = np.eye(n) if mixed is None else mixed.matrix.astype(np.float64)
    divisors = np.full(len(mixes), 1.0 if mixed is None else mixed.divisor)
    if not reference:
        return mixes, divisors
    wide = np.zeros((len(mixes) + 1, n + 1))
    wide[:-1, :n], wide[-1, n] = mixes, 1.0
    return wide @ unite(n), np.append(divisors, 1.0)
