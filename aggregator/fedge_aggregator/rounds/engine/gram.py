# SPDX-License-Identifier: Apache-2.0
"""Inner products of all rows, exact.

Codes are whole numbers: float32 products of them are exact, in any order that BLAS sums them, while no partial sum
passes 2^24. None does over 1,024 columns. None does over more columns either if no row's own square does: by Cauchy and
Schwarz it bounds all others, and sums of squares only grow, so that one that ends below 2^24 never was above. Products
of pieces are summed as whole numbers. So distances between rows that are nearly alike are not lost in the rounding of
what they have in common, and every machine gets the same bits.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from fedge_models.messages.quantize import LIMIT, Codes
from numpy.typing import NDArray

from ..rules.combine import EXACT
from .update_rows import Rows, each_block

CHUNK = EXACT // 128 // 128  # columns
FLOATS = 1 << 18  # of a block at once: few long calls, because threads take turns between calls
FRACTION = 128  # a reference row is rounded to this part of a grid step


def gram_of(rows: Rows, start: int, stop: int) -> NDArray[np.float64]:
    """Inner products (n, n) of the rows over columns start..stop-1: whole numbers, exact up to 2^53."""
    total, product = np.zeros((rows.n, rows.n)), np.empty((rows.n, rows.n), np.float32)
    for part in _floats(rows, start, stop):
        np.matmul(part, part.T, out=product)  # with itself: BLAS then computes half of it
        if product.diagonal().max() < EXACT:
            total += product
            continue
        for chunk in _chunks(part):
            total += np.matmul(chunk, chunk.T, out=product)
    return total


@dataclass(frozen=True)
class Lengths:
    """The diagonal and the last `hubs` rows and columns of what `gram_of` gives; zeros elsewhere.

    For rules that use only the lengths of rows or their distances to a reference: one product a row instead of n.
    """

    hubs: int

    def __call__(self, rows: Rows, start: int, stop: int) -> NDArray[np.float64]:
        """Inner products (n, n) over columns start..stop-1, exact as those of `gram_of`."""
        squares, spokes, first = np.zeros(rows.n), np.zeros((rows.n, self.hubs)), rows.n - self.hubs
        for part in _floats(rows, start, stop):
            chunks = _chunks(part)
            squares += _sum(chunks[:, :, None] @ chunks[:, :, :, None])[:, 0, 0]
            if self.hubs:
                spokes += _sum(chunks @ chunks[:, first:].transpose(0, 2, 1))
        total = np.diag(squares)
        total[:, first:], total[first:] = spokes, spokes.T
        return total


def _floats(rows: Rows, start: int, stop: int) -> Iterator[NDArray[np.float32]]:
    """Yield the columns as (n, w) in the same memory each time; w is several CHUNKs, or less than one."""
    count = max(1, FLOATS // (rows.n * CHUNK))
    room = np.empty((rows.n, count * CHUNK), np.float32)
    for first, last, block in each_block(rows, start, stop):
        for at, end in _pieces(last - first, count * CHUNK):
            part = room[:, : end - at]
            np.copyto(part, block[:, at:end])
            yield part


def _chunks(part: NDArray[np.float32]) -> NDArray[np.float32]:
    """The columns (n, w) as (chunks, n, <= CHUNK)."""
    n, width = part.shape
    return part.reshape(n, -1, min(CHUNK, width)).transpose(1, 0, 2)


def _pieces(width: int, most: int) -> Iterator[tuple[int, int]]:
    """Yield spans of 0..width-1 of at most `most` columns, each of whole chunks or less than one."""
    whole = width // CHUNK * CHUNK
    yield from ((at, min(at + most, whole)) for at in range(0, whole, most))
    if whole < width:
        yield whole, width


def _sum(products: NDArray[np.float32]) -> NDArray[np.float64]:
    """The sum over all chunks (chunks, ...)."""
    total: NDArray[np.float64] = products.sum(axis=0, dtype=np.float64)
    return total


class WithReference:
    """Rows and, last, a float row (d,) as two rows of codes: its whole steps and its FRACTIONs of a step (`split_up`).

    `unite` puts the two together again. A reference of None is zeros.
    """

    def __init__(self, rows: Rows, reference: NDArray[np.float32] | None) -> None:
        if reference is not None and reference.shape != (rows.d,):
            raise ValueError(f"reference has shape {reference.shape}, rows have {rows.d} codes")
        self._rows, self._reference = rows, reference
        self.n, self.d, self.width = rows.n + 2, rows.d, rows.width

    def block(self, start: int, stop: int, out: Codes | None = None) -> Codes:
        """The columns of the rows and of the reference's two rows."""
        block = np.empty((self.n, stop - start), np.int8) if out is None else out
        self._rows.block(start, stop, block[:-2])
        block[-2:] = 0 if self._reference is None else split_up(self._reference[start:stop])
        return block

    def narrow(self, start: int, stop: int) -> WithReference:
        """Rows and reference, narrowed."""
        return WithReference(
            self._rows.narrow(start, stop), None if self._reference is None else self._reference[start:stop]
        )


def split_up(reference: NDArray[np.float32]) -> Codes:
    """A float row (w,) in grid units as codes (2, w), cut to the grid's ±127 and rounded to FRACTIONs of a step."""
    cut = np.clip(reference, -LIMIT, LIMIT)
    whole = np.rint(cut)
    return np.stack([whole, np.rint((cut - whole) * FRACTION)]).astype(np.int8)


def unite(n: int) -> NDArray[np.float64]:
    """The matrix (n + 1, n + 2) that puts the two rows of a reference together."""
    matrix = np.eye(n + 1, n + 2)
    matrix[n, n + 1] = 1 / FRACTION
    return matrix
