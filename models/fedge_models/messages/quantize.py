"""int8 coding of a difference between two weight vectors, on a grid that everybody shares.

A grid has one step per tensor. A value is coded as the nearest multiple of the step within ±127; what rounding and
saturation take away is kept by the sender and added to its next difference (error feedback: Seide et al. 2014,
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
    """One step per parameter (P,) from one per tensor (T,)."""
    return np.repeat(np.asarray(steps, np.float32), sizes)


def quantize(values: Floats, steps: Floats) -> Codes:
    """Codes (P,) int8 of `values` (P,) on `steps` (P,)."""
    scaled = values / steps
    np.rint(scaled, out=scaled)
    np.clip(scaled, -LIMIT, LIMIT, out=scaled)
    return scaled.astype(np.int8)


def dequantize(codes: Codes, steps: Floats) -> Floats:
    """Values (P,) float32 of `codes` on `steps`. One multiplication: the same bits on every machine."""
    return np.multiply(codes, steps, dtype=np.float32)


def spread(values: Floats, sizes: NDArray[np.int64], quantile: float) -> Floats:
    """The quantile of the magnitudes of each tensor (T,): what the sender would have liked 127 steps to span."""
    parts = np.split(np.abs(values), np.cumsum(sizes)[:-1])
    return np.array([_quantile(part, quantile) for part in parts], np.float32)


def _quantile(values: Floats, q: float) -> np.float32:
    """As `np.quantile`, but orders only the largest values where a sample of them tells which these are."""
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
    """Codes as compressed bytes."""
    return deflate(codes.tobytes())


def deflate(data: bytes) -> bytes:
    """As zlib data (RFC 1950).

    Huffman codes and runs of one byte, nothing else: what looks like a repetition in noise is none, and looking for
    it takes three times as long for half a point more bytes. Sparse codes, which are runs of zeros, gain a third.
    """
    stream = zlib.compressobj(1, memLevel=9, strategy=zlib.Z_RLE)
    return stream.compress(data) + stream.flush()


def unpack(data: bytes, count: int, what: str) -> Codes:
    """Exactly `count` codes. Never holds more than that, whatever `data` claims. Raises WireError."""
    codes = np.frombuffer(inflate(data, count, what), np.int8)
    if codes.size and codes.min() < -LIMIT:
        raise WireError(f"{what}: code -128 is outside the grid of ±{LIMIT}")
    return codes


def inflate(data: bytes, size: int, what: str) -> bytes:
    """zlib data that holds exactly `size` bytes. Raises WireError."""
    stream = zlib.decompressobj()
    try:
        out = stream.decompress(data, size + 1)
    except zlib.error as e:
        raise WireError(f"{what}: vector is not zlib data: {e}") from e
    if len(out) != size or not stream.eof or stream.unused_data:
        raise WireError(f"{what}: vector does not hold exactly {size} bytes")
    return out
