# SPDX-License-Identifier: Apache-2.0
"""Views between ONNX's channels-first shapes and the channels-last memory of convolutions and poolings."""

from __future__ import annotations

from typing import Any

from .operator import Array


def channels_last(x: Array) -> Array:
    """View x (batch, channels, *spatial) as (batch, *spatial, channels)."""
    return x.transpose(0, *range(2, x.ndim), 1)


def channels_first(x: Array) -> Array:
    """View x (batch, *spatial, channels) as (batch, channels, *spatial)."""
    return x.transpose(0, x.ndim - 1, *range(1, x.ndim - 1))


def items(values: Array) -> Any:
    """View values (..., channels) so that all channels of a position are one item.

    Copying short runs this way takes half the time. The channels must be contiguous in memory.
    """
    return values.view(f"V{values.shape[-1] * values.itemsize}")
