"""Channels-last memory under ONNX's channels-first shapes: what convolutions and poolings hand each other are views."""

from __future__ import annotations

from typing import Any

from .operator import Array


def channels_last(x: Array) -> Array:
    """A view (batch, *spatial, channels) of x (batch, channels, *spatial)."""
    return x.transpose(0, *range(2, x.ndim), 1)


def channels_first(x: Array) -> Array:
    """A view (batch, channels, *spatial) of x (batch, *spatial, channels)."""
    return x.transpose(0, x.ndim - 1, *range(1, x.ndim - 1))


def items(values: Array) -> Any:
    """A view of values (..., channels) in which all channels of one position are one item, which is copied in one go.

    A copy of short runs takes half the time so. The channels must lie side by side in memory.
    """
    return values.view(f"V{values.shape[-1] * values.itemsize}")
