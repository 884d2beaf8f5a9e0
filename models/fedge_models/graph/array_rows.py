# SPDX-License-Identifier: Apache-2.0
"""Take arrays as rows of a model's input. Where the card derives channels, they may hold what was measured instead.

Both may have the same shape. Then nothing is guessed: whoever gives the array says which it is.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import ModelError
from .card import Card
from .derived import LARGEST, DerivedChannels
from .rows import laid_out

BRIGHTEST = 255  # of a pixel


def input_rows(
    x: NDArray[Any], card: Card, shape: tuple[int, ...], measured: bool | None = None, where: str = "model"
) -> NDArray[Any]:
    """Rows (n, *shape) in the channels' units of x, which holds rows or what was measured.

    A measured window with a value that is not finite, or for which a formula gives none, is NaN throughout. Raises
    ValueError when x fits neither or both, ModelError as `from_measured`.
    """
    if is_measured(x, card, shape, measured):
        return from_measured(x, card, shape, where)
    rows = laid_out(x, shape)
    if rows.shape[1:] != shape:
        also = f", or {windows_shape(card)} of what is measured" if card.derive and not card.features else ""
        raise ValueError(f"x has rows of shape {rows.shape[1:]}, the model expects {shape}{also}")
    check_pictures(rows, card)
    return rows


def yes_or_no(given: Any, name: str) -> bool:
    """What an array beside x says: `given` is true or false, or an array of which all values are one of the two.

    Raises ValueError naming it.
    """
    values = np.unique(np.asarray(given))
    if len(values) != 1 or values.dtype.kind not in "biuf" or values[0] not in (0, 1):
        raise ValueError(f"array {name!r}: expected true or false, got {str(given)[:40]}")
    return bool(values[0])


def check_pictures(rows: NDArray[Any], card: Card) -> None:
    """Raise ValueError for pictures that are scaled already, where the card says how they are scaled."""
    if card.image is None or not card.image.mean or rows.dtype == np.uint8 or not rows.size:
        return
    values = rows[np.isfinite(rows)]
    low, high = (float(values.min()), float(values.max())) if len(values) else (0.0, 0.0)
    if low < 0 or high > BRIGHTEST or (high <= 1 and (values % 1).any()):
        raise ValueError(
            f"x holds values from {low:.3g} to {high:.3g}, a picture those from 0 to {BRIGHTEST}: the card's "
            "image.scale, mean and std are applied here"
        )


def windows_shape(card: Card) -> tuple[int, int]:
    """The shape of a window of the measured channels."""
    return len(card.channels), card.window.length


def is_measured(x: NDArray[Any], card: Card, shape: tuple[int, ...], measured: bool | None = None) -> bool:
    """Whether x (n, ...) holds windows of the measured channels, not rows; `measured` says so where it is known.

    Raises ValueError where it may be both.
    """
    if measured is not None or not card.derive:
        return bool(measured)
    rows, windows = (laid_out(x, s).shape[1:] == s for s in (shape, windows_shape(card)))
    if rows and windows:
        taken = ", ".join(card.features or (c.name for c in card.input_channels))
        raise ValueError(
            f"x {x.shape} may hold what is measured ({', '.join(c.name for c in card.channels)}) or the model's input "
            f"({taken}): say which, with measured = true or false beside it"
        )
    return windows


def from_measured(x: NDArray[Any], card: Card, shape: tuple[int, ...], where: str = "model") -> NDArray[Any]:
    """Rows (n, *shape) of what was measured, x (n, channels, length) or (n, channels).

    Raises ModelError when the card names features, ValueError for another shape.
    """
    if card.features:
        raise ModelError(
            f"{where}: the card names features ({', '.join(card.features)}), which gateways and `fedge-agent train` "
            "compute: give them the measured windows, as a table or an .npz with measured = true; here rows hold "
            "features"
        )
    windows = laid_out(x, windows_shape(card))
    if windows.shape[1:] != windows_shape(card):
        raise ValueError(f"x has windows of shape {windows.shape[1:]}, the card's channels give {windows_shape(card)}")
    known = (np.abs(windows) <= LARGEST).all(axis=(1, 2))
    rows, _, wrong = DerivedChannels(card)(np.where(known[:, None, None], windows, 0), None)
    rows[~known if wrong is None else ~known | wrong] = np.nan
    return laid_out(rows, shape)
