# SPDX-License-Identifier: Apache-2.0
"""Lay out recorded samples as a model takes them, where it is plain how."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray


def laid_out(x: NDArray[Any], shape: tuple[int, ...]) -> NDArray[Any]:
    """Return rows x (n, ...) as (n, *shape); as they are when they do not fit.

    Dimensions of one may be missing or more. Windows (time, channels) and pictures with the colours last, as the tools
    that networks come from have them, are turned to (channels, time) and (colours, height, width).
    """
    given = x.shape[1:]
    if given == shape or not x.ndim:
        return x
    if [d for d in given if d != 1] == [d for d in shape if d != 1]:
        return x.reshape(len(x), *shape)
    if len(shape) in (2, 3) and given == (*shape[1:], shape[0]):
        return np.ascontiguousarray(np.moveaxis(x, -1, 1))
    return x
