# SPDX-License-Identifier: Apache-2.0
"""Where each trainable tensor lies in the flat parameter vector."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray


class Tensor(NamedTuple):
    """A trainable initializer and its place in the flat vector."""

    name: str
    shape: tuple[int, ...]
    start: int
    stop: int

    def of(self, vector: NDArray[Any]) -> NDArray[Any]:
        """Return this tensor of a flat vector (P,), as a view."""
        return vector[self.start : self.stop].reshape(self.shape)


def layout(names: Sequence[str], arrays: Mapping[str, NDArray[Any]]) -> tuple[Tensor, ...]:
    """Return the tensors of these names, one after the other."""
    stops = np.cumsum([arrays[n].size for n in names]).tolist()
    return tuple(Tensor(n, arrays[n].shape, stop - arrays[n].size, stop) for n, stop in zip(names, stops, strict=True))


def mask(tensors: Sequence[Tensor], names: set[str]) -> NDArray[np.bool_] | None:
    """Return which parameters (P,) belong to tensors of these names; None if none does."""
    if not any(t.name in names for t in tensors):
        return None
    return np.concatenate([np.full(t.stop - t.start, t.name in names) for t in tensors])
