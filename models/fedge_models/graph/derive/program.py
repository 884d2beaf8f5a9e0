# SPDX-License-Identifier: Apache-2.0
"""Compute derived channels of windows, one at a time or many: the same calls for training data and for decisions.

Buffers are made once for a shape and used again. A value that is not finite stays so: whoever takes it has to look.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from .compiled import compiled
from .functions import Floats
from .plan import Formula

Values = NDArray[Any]  # float64, or float32 as it was given

AT_ONCE = 1 << 16  # samples of a channel that are computed at once


class _Buffers(NamedTuple):
    rows: Floats  # (..., channels, length)
    calls: list[tuple[Callable[..., Any], tuple[Any, ...]]]
    results: list[Floats]  # of the formulas: (..., length) or (..., 1)


class Program:
    """The formulas of a card, compiled. measured: names of its channels, in the order of a window's rows."""

    def __init__(self, measured: Sequence[str], formulas: Sequence[Formula]) -> None:
        self._compiled = compiled(measured, formulas)
        self._reads = [[measured.index(name) for name in sorted(f.measured)] for f in formulas]
        self._bound: dict[tuple[int, ...], _Buffers] = {}

    def __call__(self, windows: Values, out: Sequence[Values | None], absent: NDArray[np.bool_] | None = None) -> None:
        """Write what the formulas give for windows (..., channels, length) without gaps; at most one dimension leads.

        out: for each formula (..., length or 1), or None where it is not wanted; absent: (..., channels) those that
        have no value at all. What depends on one is 0, as it is itself.
        """
        if windows.ndim == 2:
            self._run(windows, out)
        else:
            step = max(1, AT_ONCE // windows.shape[-1])
            for start in range(0, len(windows), step):
                part = slice(start, start + step)
                self._run(windows[part], [None if o is None else o[part] for o in out])
        if absent is not None:
            for into, reads in zip(out, self._reads, strict=True):
                if into is not None:
                    into[absent[..., reads].any(axis=-1)] = 0

    def _run(self, windows: Values, out: Sequence[Values | None]) -> None:
        buffers = self._bound.get(windows.shape) or self._bind(windows.shape)
        with np.errstate(all="ignore"):
            buffers.rows[...] = windows
            for do, arrays in buffers.calls:
                do(*arrays)
            for into, result in zip(out, buffers.results, strict=True):
                if into is not None:
                    into[...] = result

    def _bind(self, shape: tuple[int, ...]) -> _Buffers:
        rows = np.zeros(shape)
        calls, results = self._compiled.bound(rows)
        if len(self._bound) > 2:  # the shapes of blocks, of the last of them, and of one window
            self._bound.clear()
        self._bound[shape] = made = _Buffers(rows, calls, results)
        return made
