# SPDX-License-Identifier: Apache-2.0
"""What it costs to decode a picture, known from its header, and the memory that all pictures of a process may take.

Promises: a picture whose decoding costs more than `MAX_BYTES` is refused in words before a pixel is unpacked; one
picture is decoded at a time, and only when those decoded before it leave room. Pillow keeps a colour picture with four
bytes a pixel, and libjpeg the coefficients of a JPEG that comes in several scans beside it. The pixels are copied out
strip by strip, so that there is never a second whole copy.
"""

from __future__ import annotations

import threading
import time
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from fedge_models.errors import PictureError

from ..types import Pixels

MAX_BYTES = 128 * 2**20  # with an agent of 110 MB this stays within 256 MB
STRIP = 64  # rows that are converted at once
WAIT_S = 5.0  # for the pictures decoded before; the agent takes far less for one
GREY = ("1", "L", "LA", "La")
ONE_BYTE, TWO_BYTES = ("1", "L", "P"), ("I;16", "I;16B", "I;16L", "I;16N")  # of Pillow, each pixel


class Budget:
    """The bytes that decoded pictures take, and one decoder at a time. Thread-safe."""

    def __init__(self, most: int) -> None:
        self._most, self._taken = most, 0
        self._decoder, self._changed = threading.Lock(), threading.Condition()

    @property
    def taken(self) -> int:
        """Bytes of the decoded pictures that are still in use."""
        return self._taken

    @contextmanager
    def room(self, cost: int, wait_s: float = WAIT_S) -> Iterator[None]:
        """Let this thread decode, once no other does and the pictures before leave room; after `wait_s` anyway."""
        with self._decoder:
            deadline = time.monotonic() + wait_s
            with self._changed:
                while self._taken and self._taken + cost > self._most and (left := deadline - time.monotonic()) > 0:
                    self._changed.wait(left)
            yield

    def held(self, pixels: Pixels) -> Pixels:
        """Count a picture until nobody uses it any more; returns it."""
        self._add(pixels.nbytes)
        weakref.finalize(pixels, self._add, -pixels.nbytes).atexit = False
        return pixels

    def _add(self, size: int) -> None:
        with self._changed:
            self._taken += size
            self._changed.notify_all()


BUDGET = Budget(MAX_BYTES)  # memory is the process's, and so is its budget


def check_cost(picture: Any, scans: int, copies: int = 0) -> int:
    """Bytes that it takes to decode an opened picture. Raises PictureError when they are too many.

    scans: of a JPEG; with more than one, all coefficients are unpacked before the first pixel. copies: how often the
    pixels are copied afterwards, to store them.
    """
    width, height = picture.size
    pixels = width * height
    stored = pixels * (1 if picture.mode in ONE_BYTE else 2 if picture.mode in TWO_BYTES else 4)
    result = pixels * (1 if _is_grey(picture.mode) else 3)
    buffered = _coefficients(picture) if scans > 1 or picture.info.get("progressive") else 0
    cost: int = max(stored + max(result, buffered), result * (1 + copies))
    if cost > MAX_BYTES:
        progressive = buffered > result
        kind = (
            f"a {picture.format} of {width} x {height} pixels ({picture.mode}{', progressive' if progressive else ''})"
        )
        what = "decode and store" if copies else "decode"
        advice = "use baseline JPEG, or fewer pixels" if progressive else "use fewer pixels, or grey ones"
        raise PictureError(f"{kind} takes {cost} bytes to {what}, expected at most {MAX_BYTES}; {advice}")
    return cost


def pixels_of(picture: Any) -> Pixels:
    """Decode an opened picture to (height, width) or (height, width, 3) bytes."""
    picture.load()
    width, height = picture.size
    grey = _is_grey(picture.mode)
    out: Pixels = np.empty((height, width) if grey else (height, width, 3), np.uint8)
    for top in range(0, height, STRIP):
        strip = picture.crop((0, top, width, min(top + STRIP, height)))
        out[top : top + STRIP] = _converted(strip)
    return out


def _is_grey(mode: str) -> bool:
    return mode in GREY or mode.startswith("I")


def _converted(strip: Any) -> Pixels:
    if strip.mode.startswith("I"):  # 16-bit grey; Pillow's own conversion saturates instead of scaling
        return (np.asarray(strip).astype(np.int32) >> 8).clip(0, 255).astype(np.uint8)
    wanted = "L" if _is_grey(strip.mode) else "RGB"
    return np.asarray(strip if strip.mode == wanted else strip.convert(wanted))


def _coefficients(picture: Any) -> int:
    """Bytes of a JPEG's coefficients: two each, fewer where colours are subsampled."""
    width, height = picture.size
    layers = getattr(picture, "layer", None) or [(0, 1, 1, 0)] * 3
    highest = max(h * v for _, h, v, *_ in layers)
    return 2 * width * height * sum(h * v for _, h, v, *_ in layers) // max(1, highest)
