"""Inner products of all rows, exact.

Codes are whole numbers of at most 127, so a float32 matrix product over 1,024 columns cannot pass 2^24 and is exact in
whatever order BLAS sums; the products of the chunks are summed as whole numbers. So distances of rows that are nearly
alike do not drown in the rounding of what they have in common, and every machine gets the same bits.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from fedge_models.quantize import LIMIT, Codes
from numpy.typing import NDArray

from .rows import Rows

CHUNK = 1024  # columns: 1024 * 128 * 128 = 2^24
FLOATS = (
    1 << 17
)  # of the chunks in one call: threads that hand the interpreter's lock on more often wait for each other
FRACTION = 128  # a reference row is rounded to this part of a grid step


def gram_of(rows: Rows, start: int, stop: int) -> NDArray[np.float64]:
    """Inner products (n, n) of the rows over columns start..stop-1: whole numbers, exact up to 2^53."""
    total = np.zeros((rows.n, rows.n))
    together = max(1, FLOATS // (rows.n * CHUNK))
    floats = np.empty((together, rows.n, CHUNK), np.float32)
    products = np.empty((together, rows.n, rows.n), np.float32)
    for first in range(start, stop, rows.width):
        block = rows.block(first, min(first + rows.width, stop))
        for chunks in _chunks(block, together):
            part = floats[: len(chunks), :, : chunks.shape[2]]
            part[:] = chunks
            found = np.matmul(part, part.transpose(0, 2, 1), out=products[: len(chunks)])
            total += found.sum(axis=0, dtype=np.float64)
    return total


def _chunks(block: Codes, together: int) -> Iterator[Codes]:
    """The block (n, w) as views (at most `together`, n, at most CHUNK) of its columns, each column once."""
    n, whole = len(block), block.shape[1] // CHUNK
    chunks = block[:, : whole * CHUNK].reshape(n, whole, CHUNK).transpose(1, 0, 2)
    yield from (chunks[at : at + together] for at in range(0, whole, together))
    if rest := block.shape[1] - whole * CHUNK:
        yield block[None, :, -rest:]


class WithReference:
    """Rows and, last, a float row (d,) as two rows of codes: its whole steps and its FRACTIONs of one (`split_up`).

    `unite` is how the reference comes together again. None: zeros.
    """

    def __init__(self, rows: Rows, reference: NDArray[np.float32] | None) -> None:
        if reference is not None and reference.shape != (rows.d,):
            raise ValueError(f"reference has shape {reference.shape}, rows have {rows.d} codes")
        self._rows, self._reference = rows, reference
        self.n, self.d, self.width = rows.n + 2, rows.d, rows.width

    def block(self, start: int, stop: int, out: Codes | None = None) -> Codes:
        """The rows' columns and the reference's two."""
        block = np.empty((self.n, stop - start), np.int8) if out is None else out
        self._rows.block(start, stop, block[:-2])
        block[-2:] = 0 if self._reference is None else split_up(self._reference[start:stop])
        return block

    def narrow(self, start: int, stop: int) -> WithReference:
        """Both narrowed."""
        return WithReference(
            self._rows.narrow(start, stop), None if self._reference is None else self._reference[start:stop]
        )


def split_up(reference: NDArray[np.float32]) -> Codes:
    """A float row (w,) in grid units as codes (2, w), cut to the grid's ±127 and rounded to FRACTIONs of a step."""
    cut = np.clip(reference, -LIMIT, LIMIT)
    whole = np.rint(cut)
    return np.stack([whole, np.rint((cut - whole) * FRACTION)]).astype(np.int8)


def unite(n: int) -> NDArray[np.float64]:
    """Matrix (n + 1, n + 2) that puts the two rows of a reference back together."""
    matrix = np.eye(n + 1, n + 2)
    matrix[n, n + 1] = 1 / FRACTION
    return matrix
