# SPDX-License-Identifier: Apache-2.0
"""Make the next signed release from an aggregate.

The canonical weights follow the quantised chain: the aggregator continues from what the nodes receive. What quantising
took away (the residual) is added to the next release (error feedback). The grid of the next updates follows the median
of the spreads that nodes reported.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from fedge_models.messages.quantize import LIMIT, Floats, dequantize, expand, quantize
from fedge_models.messages.release import (
    DRIFT_SHARE,
    GENESIS,
    Header,
    Release,
    apply_difference,
    encode_difference,
    encode_full,
    header_hash,
    weights_hash,
)
from numpy.typing import NDArray

FIRST_SPREAD = 0.1  # of every tensor, until nodes have reported theirs
SMALLEST_STEP = 1e-8
GRID_RATE = 4.0  # largest change of the grid in a round, as a factor: a few liars cannot blow it up at once


@dataclass(frozen=True, eq=False)
class Published(Release):
    """A release with its signed messages, and what the next one starts from."""

    full: bytes  # carries all weights
    difference: bytes | None  # carries the difference from the version before; None: it has only the full one
    residual: Floats  # (P,) what quantising took away from it


@dataclass(frozen=True)
class Signer:
    """What all releases of a federation share."""

    federation: str
    graph: bytes
    key: Ed25519PrivateKey
    lifetime_s: int


def first_release(signer: Signer, weights: Floats, sizes: NDArray[np.int64], now: int) -> Published:
    """Make version 1: the model file's own weights (P,)."""
    steps = np.full(len(sizes), FIRST_SPREAD / LIMIT, np.float32)
    header = _header(signer, 1, GENESIS, weights, steps, "initial weights", {}, now)
    full = encode_full(header, weights, signer.key)
    return Published(header, header_hash(header), weights, full, None, np.zeros_like(weights))


def next_release(
    signer: Signer,
    before: Published,
    aggregate: Floats,
    spreads: Sequence[Floats],
    sizes: NDArray[np.int64],
    rule: str,
    figures: dict[str, float],
    now: int,
) -> Published:
    """Make the release after `before`.

    aggregate: (P,) in units of the grid of `before`; spreads: one (T,) for each update.
    """
    wanted = aggregate * expand(before.header.steps, sizes) + before.residual
    steps = difference_steps(wanted, sizes)
    expanded = expand(steps, sizes)
    codes = quantize(wanted, expanded)
    weights = apply_difference(before.weights, codes, steps, sizes)
    grid = next_grid(before.header.steps, spreads)
    header = _header(signer, before.header.version + 1, before.hash, weights, grid, rule, figures, now)
    return Published(
        header,
        header_hash(header),
        weights,
        encode_full(header, weights, signer.key),
        encode_difference(header, codes, steps, signer.key),
        wanted - dequantize(codes, expanded),
    )


def reissue(
    signer: Signer, before: Published, weights: Floats, steps: Floats, residual: Floats, why: str, now: int
) -> Published:
    """Make the release after `before` with given weights (P,), grid (T,) and residual (P,), to the bit.

    It has only the message with all weights: no int8 difference leads to given bits.
    """
    kept = {k: v for k, v in before.header.figures.items() if k == DRIFT_SHARE}
    header = _header(signer, before.header.version + 1, before.hash, weights, steps, why, kept, now)
    return Published(header, header_hash(header), weights, encode_full(header, weights, signer.key), None, residual)


def difference_steps(wanted: Floats, sizes: NDArray[np.int64]) -> Floats:
    """Steps (T,) that can just code the largest change of each tensor."""
    starts = np.concatenate([[0], np.cumsum(sizes)[:-1]])
    largest = np.maximum.reduceat(np.abs(wanted), starts)
    steps: Floats = np.maximum(largest / LIMIT, SMALLEST_STEP).astype(np.float32)
    return steps


def next_grid(steps: Floats, spreads: Sequence[Floats]) -> Floats:
    """The next grid (T,): the median over nodes of the spread that 127 steps should have had, within bounds."""
    wished = np.median(np.stack(spreads), axis=0) / LIMIT if spreads else steps
    bounded = np.clip(wished, steps / GRID_RATE, steps * GRID_RATE)
    grid: Floats = np.maximum(bounded, SMALLEST_STEP).astype(np.float32)
    return grid


def _header(
    signer: Signer,
    version: int,
    previous: bytes,
    weights: Floats,
    steps: Floats,
    rule: str,
    figures: dict[str, float],
    now: int,
) -> Header:
    return Header(
        federation=signer.federation,
        version=version,
        previous=previous,
        graph=signer.graph,
        weights=weights_hash(weights),
        created=now,
        expires=now + signer.lifetime_s,
        steps=steps,
        rule=rule,
        figures=figures,
    )
