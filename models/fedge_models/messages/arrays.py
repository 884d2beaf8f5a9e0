# SPDX-License-Identifier: Apache-2.0
"""Arrays inside a message: float32 as little-endian bytes, int8 codes compressed.

How many values an array has follows from the model and is never read from the message, so what a sender claims cannot
make a receiver allocate.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, get_args

import numpy as np
from numpy.typing import NDArray

from ..errors import WireError
from .quantize import Codes, Floats, pack, unpack

Decode = Callable[[type, Any], Any]  # (type of a field, what came) -> the field's value


def to_bytes(array: NDArray[Any]) -> bytes:
    """Encode codes (P,) int8 as compressed bytes, any other array as float32 little-endian."""
    return pack(array) if array.dtype == np.int8 else array.astype("<f4").tobytes()


def decoder(sizes: NDArray[np.int64], what: str, steps: str) -> Decode:
    """Decode the array fields of a message about a model whose tensors have `sizes` (T,).

    Its float32 field, called `steps` in errors, has one value per tensor (T,); its codes are one per parameter (P,).
    The function returned raises WireError, which names the message as `what`.
    """

    def decode(type_: type, value: Any) -> Floats | Codes:
        if not isinstance(value, bytes):
            raise WireError(f"{what}: expected a byte string for an array, got {type(value).__name__}")
        if _element(type_) is np.int8:
            return unpack(value, int(sizes.sum()), what)
        return to_steps(value, len(sizes), f"{what}: {steps}")

    return decode


def _element(array: type) -> type:
    """The type of an array's elements from its annotation, which numpy 2.5 builds otherwise than releases before it."""
    _, dtype = get_args(array)
    element: type = get_args(dtype)[0]
    return element


def to_steps(data: bytes, count: int, what: str) -> Floats:
    """Decode `count` finite numbers of 0 or more (a grid's steps, or spreads). Raises WireError."""
    if len(data) != 4 * count:
        raise WireError(f"{what}: {len(data)} bytes, expected {4 * count} ({count} tensors)")
    values = to_floats(data)
    if not np.isfinite(values).all() or (values < 0).any():
        raise WireError(f"{what}: expected finite values of 0 or more")
    return values


def to_floats(data: bytes) -> Floats:
    """Decode float32 little-endian. Raises ValueError when the length is no multiple of four."""
    return np.frombuffer(data, "<f4").astype(np.float32)
