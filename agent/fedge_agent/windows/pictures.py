# SPDX-License-Identifier: Apache-2.0
"""Turn a picture file into pixels, and pixels into the input that a card's `image` describes.

`decode` promises that hostile bytes cost bounded time and memory and are refused with a reason (`PictureError`): only
PNG and JPEG are tried, nothing is unpacked before the header showed what that costs (`decoding`), and pictures that are
cut off are not guessed at. In the whole process one picture is decoded at a time. Pillow does the work; it is an
optional extra, imported when first needed. `prepare` is NumPy alone, so that a camera or raw bytes need no Pillow:
crop, resize, colour; bytes in, bytes out. Normalising is left to `standardise.py`.
"""

from __future__ import annotations

import io
import math
from functools import lru_cache
from typing import Annotated, Any, Literal, NamedTuple

import msgspec
import numpy as np
from fedge_models.errors import ConfigError, PictureError, first_line
from fedge_models.graph.card import ImageSpec
from fedge_models.system.structs import known
from numpy.typing import NDArray

from ..types import Array, Pixels
from .decoding import BUDGET, check_cost, pixels_of

FORMATS = ("PNG", "JPEG")
SIGNATURES = (b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff")
MAX_BYTES = 32 * 2**20  # of a file
MAX_PIXELS = 2**24  # 48 MiB in colour; what decoding costs has a bound of its own (`decoding`)
MAX_SIDE = 2**14
MAX_SCANS = 100  # of a progressive JPEG: each is another pass over all pixels for a few bytes
LUMA = np.array([0.299, 0.587, 0.114], np.float32)  # ITU-R BT.601, as in JPEG and Pillow


@known
class RawFormat(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Pixels without a header, row by row, little-endian: `shape` is [height, width] or [height, width, 3]."""

    shape: tuple[int, ...]
    dtype: Literal["uint8", "uint16"] = "uint8"
    bits: Annotated[int, msgspec.Meta(ge=0, le=16)] = 0  # that are used of each value (12-bit cameras); 0: all


def decode(data: bytes, max_pixels: int = MAX_PIXELS, copies: int = 0) -> Pixels:
    """Pixels (height, width) or (height, width, 3) of a PNG or JPEG file.

    16-bit grey keeps its upper 8 bits; transparency is dropped; a rotation noted in EXIF is not applied. Waits while
    other pictures take the memory. copies: as `check_cost` takes them. Raises PictureError, and ConfigError where
    Pillow is not installed.
    """
    pillow, scans = _pillow(), 1
    if len(data) > MAX_BYTES:
        raise PictureError(f"a file of {len(data)} bytes, expected at most {MAX_BYTES}")
    if data.startswith(SIGNATURES[1][:2]) and (scans := data.count(b"\xff\xda")) > MAX_SCANS:
        raise PictureError(f"a JPEG of {scans} scans, expected at most {MAX_SCANS}")
    try:
        with pillow.open(io.BytesIO(data), formats=FORMATS) as picture:
            width, height = picture.size
            _check_size(width, height, max_pixels)
            cost = check_cost(picture, scans, copies)
            with BUDGET.room(cost):
                return BUDGET.held(pixels_of(picture))
    except PictureError:
        raise
    except Exception as e:  # hostile bytes make Pillow's readers raise anything
        if not data.startswith(SIGNATURES):
            raise PictureError(f"no PNG or JPEG: it begins with {data[:8]!r}") from e
        raise PictureError(f"cut off or damaged: {first_line(e)}") from e


def check_decoder() -> None:
    """Raise ConfigError where Pillow is not installed."""
    _pillow()


def decode_raw(data: bytes, raw: RawFormat) -> Pixels:
    """Pixels of bytes without a header. Raises PictureError when there are more or fewer than `raw` says."""
    size = np.dtype(raw.dtype).itemsize
    if len(data) != size * math.prod(raw.shape):
        raise PictureError(f"{len(data)} bytes, expected {size * math.prod(raw.shape)} ({raw.dtype} {list(raw.shape)})")
    values = np.frombuffer(data, f"<u{size}").reshape(raw.shape)
    shift = (raw.bits or 8 * size) - 8
    return BUDGET.held((values >> shift).clip(0, 255).astype(np.uint8) if shift else values.astype(np.uint8))


def check_raw(raw: RawFormat) -> None:
    """Raise ConfigError for a format that describes no picture."""
    shape = raw.shape
    if len(shape) not in (2, 3) or min(shape) < 1 or (len(shape) == 3 and shape[2] != 3):
        raise ConfigError(f"raw.shape is {list(shape)}, expected [height, width] or [height, width, 3]")
    if math.prod(shape[:2]) > MAX_PIXELS:
        raise ConfigError(f"raw.shape is {list(shape)}, expected at most {MAX_PIXELS} pixels")
    most = 8 * np.dtype(raw.dtype).itemsize
    if raw.bits and not 8 <= raw.bits <= most:
        raise ConfigError(f"raw.bits is {raw.bits}, expected 8 to {most} of {raw.dtype}")


def prepare(pixels: NDArray[Any], spec: ImageSpec) -> Pixels:
    """Prepare pixels (height, width) or (height, width, 3) as the card says: uint8 (channels, height, width).

    Raises PictureError for an array that is no picture.
    """
    if pixels.dtype != np.uint8 or pixels.ndim not in (2, 3) or pixels.shape[2:] not in ((), (3,)) or not pixels.size:
        raise PictureError(f"{pixels.dtype} {pixels.shape} is no picture; expected uint8 (height, width) or (…, 3)")
    _check_size(pixels.shape[1], pixels.shape[0], MAX_PIXELS)
    cut = _crop(pixels, spec.crop)
    cut = cut.reshape(*cut.shape[:2], -1)
    if cut.shape[:2] == (spec.height, spec.width) and cut.shape[2] == spec.shape[0]:
        return np.ascontiguousarray(cut.transpose(2, 0, 1))
    planes = _resize(cut, spec)
    if planes.shape[0] == 3 and spec.colour == "grey":
        planes = np.tensordot(LUMA, planes, axes=(0, 0))[None]
    levels = np.rint(planes).clip(0, 255).astype(np.uint8)
    return levels if levels.shape == spec.shape else np.repeat(levels, 3, axis=0)


def _check_size(width: int, height: int, max_pixels: int) -> None:
    if width * height > max_pixels or max(width, height) > MAX_SIDE:
        raise PictureError(f"{width} x {height} pixels, expected at most {max_pixels}, and {MAX_SIDE} a side")


def _pillow() -> Any:
    try:
        from PIL import Image
    except ImportError as e:
        raise ConfigError("pictures need Pillow, which is not installed: pip install 'fedge[images]'") from e
    return Image


def _crop(pixels: Pixels, crop: str | tuple[float, float, float, float]) -> Pixels:
    height, width = pixels.shape[:2]
    if crop == "none":
        return pixels
    if isinstance(crop, str):
        side = min(height, width)
        top, left = (height - side) // 2, (width - side) // 2
        return pixels[top : top + side, left : left + side]
    left, top = min(round(crop[0] * width), width - 1), min(round(crop[1] * height), height - 1)
    right, bottom = max(left + 1, round(crop[2] * width)), max(top + 1, round(crop[3] * height))
    return pixels[top:bottom, left:right]


class _Taps(NamedTuple):
    """Weights of the neighbours of one pixel, from the neighbour `first` on."""

    first: int
    weights: Array


def _resize(x: Pixels, spec: ImageSpec) -> Array:
    """(channels, height, width) float32 of x (h, w, channels): rows first, then columns, as both are separable."""
    h, w, colours = x.shape
    rows = _resample(np.ascontiguousarray(x).reshape(h, w * colours), _taps(h, spec.height, spec.resize))
    turned = np.ascontiguousarray(rows.reshape(spec.height, w, colours).transpose(1, 2, 0))
    columns = _resample(turned.reshape(w, -1), _taps(w, spec.width, spec.resize))
    return np.ascontiguousarray(columns.reshape(spec.width, colours, spec.height).transpose(1, 2, 0))


def _resample(x: Pixels | Array, taps: tuple[_Taps, ...]) -> Array:
    """Rows (len(taps), m) made of rows x (n, m). Only the rows that one output needs are ever float32."""
    out = np.empty((len(taps), x.shape[1]), np.float32)
    for row, (first, weights) in zip(out, taps, strict=True):
        np.dot(weights, x[first : first + len(weights)].astype(np.float32, copy=False), out=row)
    return out


@lru_cache(64)
def _taps(before: int, after: int, how: str) -> tuple[_Taps, ...]:
    """The neighbours of each of `after` pixels in a row of `before` pixels."""
    return tuple((_covered if how == "area" else _triangle)(i, before, before / after) for i in range(after))


def _covered(i: int, before: int, ratio: float) -> _Taps:
    """Weigh each neighbour by how much of it the pixel covers."""
    start, stop = i * ratio, min((i + 1) * ratio, before)
    first, last = min(int(start), before - 1), max(math.ceil(stop - 1e-6), int(start) + 1)
    at = np.arange(first, min(last, before))
    overlap = np.minimum(at + 1, stop) - np.maximum(at, start)
    return _Taps(first, (overlap / overlap.sum()).astype(np.float32))


def _triangle(i: int, before: int, ratio: float) -> _Taps:
    """Weigh neighbours by their distance, over as many as one pixel replaces: no aliasing when the picture shrinks."""
    reach, centre = max(ratio, 1.0), (i + 0.5) * ratio
    at = np.arange(max(0, int(centre - reach + 0.5)), min(before, int(centre + reach + 0.5)))
    weight = np.maximum(0, 1 - np.abs((at + 0.5 - centre) / reach))
    return _Taps(int(at[0]), (weight / weight.sum()).astype(np.float32))
