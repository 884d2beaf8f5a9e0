# SPDX-License-Identifier: Apache-2.0
"""Convert a DataValue to a Reading: value and quality as the server sends them. Its time is that of `evidence`."""

from __future__ import annotations

import math
from collections.abc import Sequence
from datetime import datetime
from typing import Any

import numpy as np
from fedge_models.system import times
from fedge_models.system.floats import lean

from ...types import Quality, Reading
from .tags import dig

QUALITIES = (Quality.GOOD, Quality.UNCERTAIN, Quality.BAD, Quality.BAD)  # by the severity bits (Part 4, 7.39)
OVERFLOW = 0x480  # InfoType DataValue with its Overflow bit: the server's queue was full, values in between are lost


def reading(tag: str, field: Sequence[str | int], data: Any, stamp_ns: int) -> Reading:
    """Convert one value, which is of that time. Raises LookupError for a field that the value does not have."""
    code = data.StatusCode.value if data.StatusCode else 0
    quality = QUALITIES[code >> 30]
    value = data.Value.Value if data.Value is not None else None
    if field and quality is not Quality.BAD:
        value = dig(value, field)
    return _of(tag, stamp_ns, value, quality, data)


def unknown(tag: str, stamp_ns: int) -> Reading:
    """A reading that says that the value is not known from then on."""
    return Reading(tag, stamp_ns, math.nan, Quality.BAD)


def _of(tag: str, when: int, value: Any, quality: Quality, data: Any) -> Reading:
    if isinstance(value, (bool, int, float)):
        return Reading(tag, when, float(value), quality)
    if isinstance(value, str):
        return Reading(tag, when, value, quality)
    if isinstance(value, list):
        try:
            block = lean(np.asarray(value, np.float64))
        except (ValueError, TypeError):
            return unknown(tag, when)
        shape = data.Value.Dimensions
        fits = shape and len(shape) > 1 and math.prod(shape) == block.size
        return Reading(tag, when, block.reshape(shape) if fits else block, quality)
    if isinstance(value, datetime):
        return Reading(tag, when, times.of(value) / 1e9, quality)
    text = getattr(value, "Text", None)  # LocalizedText
    return Reading(tag, when, text, quality) if isinstance(text, str) else unknown(tag, when)
