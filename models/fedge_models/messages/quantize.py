# SPDX-License-Identifier: Apache-2.0
"""Code a difference between two weight vectors in int8, on a grid that all nodes share.

A grid has one step per tensor. A value is coded as the nearest multiple of the step within ±127. What rounding and
saturation take away, the residual, the sender adds to its next difference (error feedback: Seide et al. 2014,
Karimireddy et al. 2019), so nothing is lost, only delayed. Rounding is to nearest: with error feedback it measured
no worse than stochastic rounding and needs no random numbers.
"""

from __future__ import annotations

import zlib

import numpy as np
from numpy.typing import NDArray

from ..errors import WireError

LIMIT = 127
SAMPLED_EVERY = 64

Floats = NDArray[np.float32]
Codes = NDArray[np.int8]


def expand(steps: Floats, sizes: NDArray[np.int64]) -> Floats:
    """Repeat one step per tensor (T,) to one per parameter (P,)."""
    return np.repeat(np.asarray(steps, np.float32), sizes)


def quantize(values: Floats, steps: Floats) -> Codes:
    """Code `values` (P,) on `steps` (P,) as int8 (P,)."""
    scaled = values / steps
    np.rint(scaled, out=scaled)
    np.clip(scaled, -LIMIT, LIMIT, out=scaled)
    return scaled.astype(np.int8)


def dequantize(codes: Codes, steps: Floats) -> Floats:
    """Decode `codes` (P,) on `steps` (P,) to float32. One multiplication: the same bits on every machine."""
    return np.multiply(codes, steps, dtype=np.float32)


def spread(values: Floats, sizes: NDArray[np.int64], quantile: float) -> Floats:
    """The quantile of the magnitudes of each tensor (T,): the width that 127 steps should span."""
    parts = np.split(np.abs(values), np.cumsum(sizes)[:-1])
    return np.array([_quantile(part, quantile) for part in parts], np.float32)


def _quantile(values: Floats, q: float) -> np.float32:
    """As `np.quantile`, but sorts only the largest values, found by a sample of them."""
    n, tail = len(values), values
    if n >= 100 * SAMPLED_EVERY:
        sample = values[::SAMPLED_EVERY]
        least = max(0, int(len(sample) * (1 - 2 * (1 - q))) - 10)  # twice as far down as needed, and ten more
        tail = values[values >= np.partition(sample, least)[least]]
    below, part = divmod(q * (n - 1), 1)
    first = int(below) - (n - len(tail))
    if first < 0:  # the sample was unlucky
        tail, first = values, int(below)
    last = min(first + 1, len(tail) - 1)
    ordered = np.partition(tail, (first, last))
    value: np.float32 = ordered[first] + (ordered[last] - ordered[first]) * np.float32(part)
    return value


def pack(codes: Codes) -> bytes:
    """Compress codes."""
    return deflate(codes.tobytes())


def deflate(data: bytes) -> bytes:
    """Compress to zlib data (RFC 1950).

    Only Huffman codes and runs of one byte are used: noise has no repetitions, and searching for them takes three
    times as long to save half a percentage point. Sparse codes, which are runs of zeros, become a third smaller.
    """
    stream = zlib.compressobj(1, memLevel=9, strategy=zlib.Z_RLE)
    return stream.compress(data) + stream.flush()


def unpack(data: bytes, count: int, what: str) -> Codes:
    """Decompress exactly `count` codes. Never allocates more, whatever `data` claims. Raises WireError."""
    codes = np.frombuffer(inflate(data, count, what), np.int8)
    if codes.size and codes.min() < -LIMIT:
        raise WireError(f"{what}: code -128 is outside the grid of ±{LIMIT}")
    return codes


def inflate(data: bytes, size: int, what: str) -> bytes:
    """Decompress zlib data of exactly `size` bytes. Raises WireError."""
    stream = zlib.decompressobj()
    try:
        out = stream.decompress(data, size + 1)
    except zlib.error as e:
        raise WireError(f"{what}: vector is not zlib data: {e}") from e
    if len(out) != size or not stream.eof or stream.unused_data:
        raise WireError(f"{what}: vector does not hold exactly {size} bytes")
    return out
